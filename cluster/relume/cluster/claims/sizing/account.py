"""What a model needs on each device, part by part, and which DeviceClass has that much."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relume.base.errors import InvalidInput
from relume.cluster.claims.kv_cache import BLOCK, KvCache, kv_cache
from relume.cluster.claims.model_shape import DTYPE_BYTES, Architecture
from relume.cluster.claims.parameters import per_layer_io
from relume.cluster.claims.presets import Preset, presets
from relume.cluster.claims.weights import Weights

UTILIZATION = 0.92
"""vLLM's default share of a device's memory (`--gpu-memory-utilization`)."""

MIB = 1 << 20
_DEVICES = (1, 2, 4, 8)  # of one node
# MiB: larger cards are advised only where no number of these is enough.
_USUAL = {"NVIDIA": 80 << 10, "AMD": 192 << 10, "Intel": 128 << 10}
_CONTEXT = 1024 * MIB  # CUDA context, kernels' workspaces and CUDA graphs
_COLLECTIVES = 512 * MIB  # NCCL's buffers and the custom all-reduce


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the model; sizes in tokens and sequences."""

    context: int
    concurrency: int
    dtype: str
    kv_dtype: str
    batched: int = 2048
    block: int = BLOCK
    utilization: float = UTILIZATION
    lora_rank: int = 0
    loras: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the account, for one device."""

    name: str
    bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class Need:
    """The account of one device out of `devices`."""

    devices: int
    parts: tuple[Part, ...]
    utilization: float
    cache: KvCache

    @property
    def used(self) -> int:
        """Bytes that vLLM uses."""
        return sum(part.bytes for part in self.parts)

    @property
    def memory(self) -> int:
        """Bytes that the device must have, so that vLLM's share of it is enough."""
        return int(self.used / self.utilization) + 1


@dataclass(frozen=True, slots=True)
class Option:
    """A number of devices of a class that is enough."""

    need: Need
    preset: Preset
    advised: bool = False


@dataclass(frozen=True, slots=True)
class Sizing:
    """All options, the advised one among them."""

    model: Architecture
    weights: Weights
    demand: Demand
    options: tuple[Option, ...]

    @property
    def advised(self) -> Option:
        return next(option for option in self.options if option.advised)


def size(
    model: Architecture,
    weights: Weights,
    demand: Demand,
    *,
    vendor: str = "NVIDIA",
    devices: int | None = None,
    class_name: str | None = None,
) -> Sizing:
    """Find the smallest class for every possible number of devices.

    `devices` and `class_name` fix one or the other. Raises InvalidInput when nothing is enough, or
    the heads cannot be split so.
    """
    if devices is not None and not splits(model, devices):
        raise InvalidInput(
            f"--tensor-parallel {devices}: does not divide {model.heads} attention heads and "
            f"{model.kv_heads} key-value heads"
        )
    numbers = [devices] if devices else [n for n in _DEVICES if splits(model, n)]
    found = [
        option
        for number in numbers
        if (option := _smallest(need(model, weights, demand, number), vendor, class_name))
    ]
    if not found:
        least = need(model, weights, demand, numbers[-1])
        raise InvalidInput(
            f"{numbers[-1]} devices of {class_name or f'the largest {vendor} class'} are not "
            f"enough: each needs {least.memory / 2**30:,.1f} GiB; lower --context or --concurrency"
        )
    best = _advised(found)
    options = [Option(option.need, option.preset, option is best) for option in found]
    partition = _partition(found[0].need) if vendor == "NVIDIA" and not class_name else None
    return Sizing(model, weights, demand, (*([partition] if partition else []), *options))


def splits(model: Architecture, devices: int) -> bool:
    """Whether vLLM can split the heads so: they divide, key-value heads or their copies too."""
    shared = 1 if model.latent else model.kv_heads
    even = model.heads % devices == 0 and model.vocabulary >= devices
    return even and (shared % devices == 0 or devices % shared == 0)


def need(model: Architecture, weights: Weights, demand: Demand, devices: int) -> Need:
    """The account of each of `devices` devices."""
    cache = kv_cache(
        model,
        context=demand.context,
        batched=demand.batched,
        dtype=demand.kv_dtype,
        tensor_parallel=devices,
        block=demand.block,
    )
    return Need(
        devices, tuple(_parts(model, weights, demand, cache, devices)), demand.utilization, cache
    )


def _parts(
    model: Architecture, weights: Weights, demand: Demand, cache: KvCache, devices: int
) -> Iterator[Part]:
    share = f", split over {devices}" if devices > 1 else ""
    yield Part("weights", -(-weights.bytes // devices), weights.how + share)
    if not model.encoder:
        yield Part(
            "KV cache", demand.concurrency * cache.sequence_bytes, _cache_words(demand, cache)
        )
    if demand.loras:
        adapters = demand.loras * demand.lora_rank * per_layer_io(model) * model.layers
        text = f"{demand.loras} adapters of rank {demand.lora_rank} on every projection{share}"
        yield Part("LoRA", adapters * DTYPE_BYTES[demand.dtype] // devices, text)
    yield _activations(model, demand, devices)
    fixed = _CONTEXT + (_COLLECTIVES if devices > 1 else 0)
    text = "estimate: context, workspaces, graphs" + (", collectives" if devices > 1 else "")
    yield Part("runtime", fixed, text)


def _cache_words(demand: Demand, cache: KvCache) -> str:
    layers = f"{cache.full_layers} layers" if cache.full_layers else ""
    if cache.sliding_layers:
        sliding = f"{cache.sliding_layers} with a window, {cache.sliding_blocks} blocks there"
        layers = f"{layers} and {sliding}" if layers else sliding
    state = f", {cache.state_bytes:,} bytes of state" if cache.state_bytes else ""
    return (
        f"{cache.token_bytes:,} bytes a token ({layers}) × {demand.context:,} tokens "
        f"({cache.full_blocks:,} blocks of {cache.block}){state} × {demand.concurrency} sequences"
    )


def _activations(model: Architecture, demand: Demand, devices: int) -> Part:
    """The peak of vLLM's profile run: one full batch through the widest layer, then the logits."""
    width = DTYPE_BYTES[demand.dtype]
    inner = 3 * model.intermediate // devices
    if model.experts:
        each = 3 * model.experts.intermediate // devices + model.hidden
        inner = max(inner, model.experts.active * each)
    batch = demand.batched * (4 * model.hidden + inner) * width
    logits = 0 if model.encoder else demand.concurrency * model.vocabulary * (4 + width)
    how = (
        f"estimate: {demand.batched:,} tokens of a batch, logits of {demand.concurrency} sequences"
    )
    return Part("activations", batch + logits, how)


def _smallest(need: Need, vendor: str, class_name: str | None) -> Option | None:
    for preset in sorted(_candidates(vendor, class_name), key=lambda p: p.floor or 0):
        if (preset.floor or 0) * MIB >= need.memory:
            return Option(need, preset)
    return None


def _candidates(vendor: str, class_name: str | None) -> Iterator[Preset]:
    for preset in presets():
        if class_name is not None:
            if preset.name == class_name and preset.floor:
                yield preset
        elif preset.vendor == vendor and preset.floor and not preset.partition:
            yield preset


def _advised(found: Sequence[Option]) -> Option:
    """The fewest devices of a usual size; where these are not enough, the fewest of any."""
    usual = [o for o in found if (o.preset.floor or 0) <= _USUAL[o.preset.vendor]]
    return min(usual or found, key=lambda option: option.need.devices)


def _partition(need: Need) -> Option | None:
    """The smallest MIG profile that is enough for one device, unless a card is as small."""
    if need.devices != 1:
        return None
    slices = [p for p in presets() if p.partition and (p.floor or 0) * MIB >= need.memory]
    best = min(slices, key=lambda p: p.floor or 0, default=None)
    return Option(need, best) if best else None
