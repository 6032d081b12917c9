"""How many bytes the weights take once vLLM has loaded them.

Counted from the headers of the safetensors files where they are there, otherwise from the shape.
vLLM casts floating-point tensors to the serving dtype and leaves quantised ones as they are; it
does not load the layers of multi-token prediction unless asked to, nor a second copy of tied
embeddings.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.cluster.claims.documents import Field
from relume.cluster.claims.sizing.architecture import DTYPE_BYTES, Architecture

_FLOATS = {"F64", "F32", "F16", "BF16"}
_STORED = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2}
_LARGEST_HEADER = 100 << 20  # bytes; the format's own limit
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_SKIPPED = ("position_ids", "rotary_emb.inv_freq")
_BITS = {"awq": 4, "gptq": 4, "fp8": 8, "bitsandbytes": 4, "mxfp4": 4, "int8": 8}


@dataclass(frozen=True, slots=True)
class Parameters:
    """`linear` are those of projections, which quantisation shrinks; `other` stay as they are."""

    linear: int
    other: int

    @property
    def total(self) -> int:
        return self.linear + self.other


def count(model: Architecture) -> Parameters:
    """Count from the shape; within 1 % of what the published models hold."""
    linear = 0
    for kind in model.kinds:
        linear += _linear_attention(model) if kind == "linear" else _attention(model)
    linear += _feed_forward(model)
    embeddings = model.vocabulary * model.hidden * (1 if model.tied or model.encoder else 2)
    norms = (4 if model.family.startswith("gemma") else 2) * model.hidden * model.layers
    bias = 0
    if model.biased:
        bias = model.layers * (model.heads + 2 * model.kv_heads) * model.head_size
    if not model.gated:
        bias += model.layers * (model.intermediate + 2 * model.hidden)
        norms *= 2  # LayerNorm has a weight and a bias
    return Parameters(linear, embeddings + model.extra_embeddings + norms + bias + model.hidden)


def per_layer_io(model: Architecture) -> int:
    """Sum of the inputs and outputs of one layer's projections: what a LoRA of rank 1 adds."""
    hidden, kv = model.hidden, model.kv_heads * model.head_size
    query = model.heads * model.head_size
    attention = (hidden + query) + 2 * (hidden + kv) + (query + hidden)
    inner = model.experts.intermediate if model.experts else model.intermediate
    times = model.experts.count if model.experts else 1
    return attention + times * (3 if model.gated else 2) * (hidden + inner)


def _attention(model: Architecture) -> int:
    hidden, heads = model.hidden, model.heads
    if model.latent is None:
        return hidden * model.head_size * (2 * heads + 2 * model.kv_heads)
    latent = model.latent
    query = heads * (latent.nope + latent.rope)
    asked = hidden * query
    if latent.query_rank:
        asked = latent.query_rank * (hidden + query)
    down = hidden * (latent.kv_rank + latent.rope)
    up = latent.kv_rank * heads * (latent.nope + latent.value)
    return asked + down + up + heads * latent.value * hidden


def _linear_attention(model: Architecture) -> int:
    if model.linear is None:
        return _attention(model)
    linear = model.linear
    keys, values = linear.key_heads * linear.key_size, linear.value_heads * linear.value_size
    projected = model.hidden * (2 * keys + 2 * values + 2 * linear.value_heads)
    return projected + linear.kernel * (2 * keys + values) + values * model.hidden


def _feed_forward(model: Architecture) -> int:
    matrices = 3 if model.gated else 2
    dense = matrices * model.hidden * model.intermediate
    if model.experts is None:
        return dense * model.layers
    experts = model.experts
    each = matrices * model.hidden * experts.intermediate
    routed = experts.count * (each + model.hidden)
    shared = matrices * model.hidden * experts.shared
    return experts.layers * (routed + shared) + (model.layers - experts.layers) * dense


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes on all devices together, and how they were found."""

    bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class Quantization:
    """Bits of a quantised weight, and those of its scale spread over a group."""

    method: str
    bits: float

    @classmethod
    def of(cls, config: Field) -> "Quantization | None":
        """Read `quantization_config`; None where the weights are not quantised."""
        section = config.get("quantization_config")
        if not section.there:
            return None
        method = section.get("quant_method").text("unknown").lower()
        bits = section.get("bits").integer() or _compressed_bits(section) or _BITS.get(method, 8)
        if section.get("load_in_8bit").value is True:
            bits = 8
        group = section.get("group_size").value
        spread = 16 / group if isinstance(group, int) and group > 0 else 0.0
        return cls(method, bits + spread * (1.25 if bits == 4 else 1))

    @classmethod
    def named(cls, method: str) -> "Quantization":
        """What `--quantization METHOD` makes of weights that are not quantised yet."""
        bits = _BITS.get(method.lower())
        if bits is None:
            raise InvalidInput(f"--quantization {method}: known are {', '.join(sorted(_BITS))}")
        return cls(method.lower(), bits)


def from_files(folder: Path, model: Architecture, dtype: str) -> Weights | None:
    """Count the tensors of a model folder; None where it has no safetensors files."""
    files = sorted(folder.glob("*.safetensors"))
    files = [f for f in files if not f.name.startswith("consolidated")] or files
    if not files:
        return None
    total = parameters = 0
    for file in files:
        for name, stored, shape in _tensors(file):
            if not _is_loaded(name, model):
                continue
            elements = math.prod(shape)
            size = DTYPE_BYTES[dtype] if stored in _FLOATS else _STORED.get(stored, 1)
            total += elements * size
            parameters += elements
    return Weights(total, f"{parameters:,} elements in {len(files)} safetensors files, as {dtype}")


def from_shape(model: Architecture, dtype: str, quantization: Quantization | None) -> Weights:
    """Count from the architecture's parameters."""
    parameters, width = count(model), DTYPE_BYTES[dtype]
    if quantization is None:
        text = f"{parameters.total:,} parameters × {width} bytes ({dtype}), from config.json"
        return Weights(parameters.total * width, text)
    linear = math.ceil(parameters.linear * quantization.bits / 8)
    how = (
        f"{parameters.linear:,} parameters × {quantization.bits / 8:.3g} bytes "
        f"({quantization.method}) + {parameters.other:,} × {width} ({dtype}), from config.json"
    )
    return Weights(linear + parameters.other * width, how)


def _is_loaded(name: str, model: Architecture) -> bool:
    if name.endswith(_SKIPPED) or (model.tied and name.endswith("lm_head.weight")):
        return False
    layer = _LAYER.search(name)
    return layer is None or int(layer[1]) < model.layers


def _compressed_bits(section: Field) -> int:
    """The bits of compressed-tensors: `config_groups.*.weights.num_bits`."""
    for _, group in section.get("config_groups").entries():
        return group.get("weights", "num_bits").integer()
    return 0


def _tensors(file: Path) -> Iterator[tuple[str, str, list[int]]]:
    """Name, dtype and shape of each tensor, from the header."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= _LARGEST_HEADER:
                raise ValueError("no header")
            header = json.loads(opened.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, str(entry["dtype"]), [int(size) for size in entry["shape"]]
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{file}: not a safetensors file: {error}") from error
