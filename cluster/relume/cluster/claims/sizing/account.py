"""What a model needs on each device, part by part, and which DeviceClass has that much."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from relume.base.errors import InvalidInput
from relume.cluster.claims.presets import PRESETS, Preset
from relume.cluster.claims.sizing.architecture import DTYPE_BYTES, Architecture
from relume.cluster.claims.sizing.kv_cache import KvCache, kv_cache
from relume.cluster.claims.sizing.weights import Weights, per_layer_io

UTILIZATION = 0.92
"""vLLM's default share of a device's memory (`--gpu-memory-utilization`)."""

SHARED = 0.98
"""The part of a device that several models share at most: an estimate, the driver has the rest."""

_MIB = 1 << 20
_DEVICES = (1, 2, 4, 8)  # of one node
# MiB: larger cards are advised only where no number of these is enough.
_USUAL = {"NVIDIA": 80 << 10, "AMD": 192 << 10, "Intel": 128 << 10}
_CONTEXT = 1024 * _MIB  # CUDA context, kernels' workspaces and CUDA graphs
_COLLECTIVES = 512 * _MIB  # NCCL's buffers and the custom all-reduce


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the model; sizes in tokens and sequences."""

    context: int
    concurrency: int
    dtype: str
    kv_dtype: str
    batched: int
    block: int
    utilization: float
    lora_rank: int
    loras: int


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the account, for one device."""

    name: str
    bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class MemoryNeed:
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

    need: MemoryNeed
    preset: Preset
    advised: bool = False


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """A part of one device of a class, where several models share it.

    `mebibytes` is what to ask for; `utilization` the share of the smallest such device that this
    is, rounded up to a thousandth; `fit` how many models of this size it holds.
    """

    preset: Preset
    mebibytes: int
    utilization: float
    fit: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """All options, the advised one among them; `shares` for a model that one device holds twice."""

    model: Architecture
    weights: Weights
    demand: Demand
    options: tuple[Option, ...]
    shares: tuple[DeviceShare, ...] = ()

    @property
    def advised(self) -> Option:
        return next(option for option in self.options if option.advised)


def size(
    model: Architecture,
    weights: Weights,
    demand: Demand,
    *,
    vendor: str,
    devices: int | None,
    class_name: str | None,
) -> Sizing:
    """Find the smallest class for every possible number of devices.

    `devices` and `class_name` fix one or the other. Raises InvalidInput when nothing is enough, or
    the heads cannot be split over so many devices.
    """
    if devices is not None and not splits(model, devices):
        raise InvalidInput(
            f"--tensor-parallel {devices}: does not divide {model.heads} attention heads and "
            f"{model.kv_heads} key-value heads"
        )
    numbers = [devices] if devices else [n for n in _DEVICES if splits(model, n)]
    needs = [_need(model, weights, demand, number) for number in numbers]
    found = [option for need in needs if (option := _smallest(need, vendor, class_name))]
    if not found:
        raise InvalidInput(
            f"{numbers[-1]} devices of {class_name or f'the largest {vendor} class'} are not "
            f"enough: each needs {needs[-1].memory / 2**30:,.1f} GiB; lower --context or "
            "--concurrency"
        )
    # The fewest devices of a usual size; where these are not enough, the fewest of any.
    usual = [o for o in found if (o.preset.floor or 0) <= _USUAL[o.preset.vendor]]
    best = min(usual or found, key=lambda option: option.need.devices)
    options = [replace(option, advised=option is best) for option in found]
    first = found[0].need
    if vendor == "NVIDIA" and not class_name and first.devices == 1:
        partition = _least(first, (p for p in PRESETS.values() if p.partition))
        options = [partition, *options] if partition else options
    shares = tuple(_shares(first, vendor, class_name)) if first.devices == 1 else ()
    return Sizing(model, weights, demand, tuple(options), shares)


def _shares(need: MemoryNeed, vendor: str, class_name: str | None) -> Iterator[DeviceShare]:
    """The part that the model takes of one device of each class that holds several such models.

    vLLM counts all that its process takes, the context included, and leaves the rest of the device
    alone; so the part is what it uses, without the air of a device of its own.
    """
    mebibytes = -(-need.used // _MIB)
    for preset in PRESETS.values():
        wanted = preset.name == class_name or (class_name is None and not preset.partition)
        if preset.vendor != vendor or not wanted or not preset.floor:
            continue
        utilization = -(-mebibytes * 1000 // preset.floor) / 1000
        fit = int(SHARED // utilization)
        if fit > 1:
            yield DeviceShare(preset, mebibytes, utilization, fit)


def splits(model: Architecture, devices: int) -> bool:
    """Whether vLLM can split the heads so: they divide, key-value heads or their copies too."""
    shared = 1 if model.latent else model.kv_heads
    even = model.heads % devices == 0 and model.vocabulary >= devices
    return even and (shared % devices == 0 or devices % shared == 0)


def _need(model: Architecture, weights: Weights, demand: Demand, devices: int) -> MemoryNeed:
    """The account of each of `devices` devices."""
    cache = kv_cache(
        model,
        context=demand.context,
        batched=demand.batched,
        dtype=demand.kv_dtype,
        tensor_parallel=devices,
        block=demand.block,
    )
    parts = tuple(_parts(model, weights, demand, cache, devices))
    return MemoryNeed(devices, parts, demand.utilization, cache)


def _parts(
    model: Architecture, weights: Weights, demand: Demand, cache: KvCache, devices: int
) -> Iterator[Part]:
    share = f", split over {devices}" if devices > 1 else ""
    yield Part("weights", -(-weights.bytes // devices), weights.how + share)
    if not model.encoder:
        size = demand.concurrency * cache.sequence_bytes
        yield Part("KV cache", size, _cache_words(demand, cache))
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


def _smallest(need: MemoryNeed, vendor: str, class_name: str | None) -> Option | None:
    """The named class, or the smallest one of the vendor's whole cards, where it is enough."""
    if class_name is not None:
        return _least(need, (p for p in PRESETS.values() if p.name == class_name))
    whole = (p for p in PRESETS.values() if p.vendor == vendor and not p.partition)
    return _least(need, whole)


def _least(need: MemoryNeed, presets: Iterable[Preset]) -> Option | None:
    """The smallest of the presets that is enough."""
    enough = (preset for preset in presets if preset.memory >= need.memory)
    best = min(enough, key=lambda preset: preset.memory, default=None)
    return Option(need, best) if best else None
