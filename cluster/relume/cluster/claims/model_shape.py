"""A transformer's shape: what its weights and its KV cache depend on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["full", "sliding", "linear"]

DTYPE_BYTES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float": 4,
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "int8": 1,
}
ENCODERS = {"bert", "roberta", "xlm-roberta", "mpnet", "nomic_bert", "modernbert"}


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek): ranks and head sizes."""

    kv_rank: int
    query_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts: `layers` have it; `shared` is the shared experts' intermediate size."""

    count: int
    active: int
    intermediate: int
    shared: int
    layers: int


@dataclass(frozen=True, slots=True)
class Linear:
    """Linear attention (Gated DeltaNet): heads, head sizes, width of the convolution."""

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    kernel: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape. `kinds` has one entry for each layer; `window` in tokens."""

    family: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int
    dtype: str
    kinds: tuple[LayerKind, ...]
    window: int | None = None
    tied: bool = False
    gated: bool = True
    biased: bool = False
    latent: Latent | None = None
    experts: Experts | None = None
    linear: Linear | None = None
    extra_embeddings: int = 0
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> int:
        return len(self.kinds)

    @property
    def encoder(self) -> bool:
        """Whether it keeps no KV cache."""
        return self.family in ENCODERS
