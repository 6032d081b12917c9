"""A transformer's shape, read from the `config.json` that Hugging Face models carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field
from relume.cluster.claims.model_shape import (
    ENCODERS,
    Architecture,
    Experts,
    Latent,
    LayerKind,
    Linear,
)


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


# Families whose sizes have other names, or are fixed by the code of the model.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "max_position_embeddings": (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "seq_length",
    ),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "moe_intermediate_size": ("moe_intermediate_size", "intermediate_size"),
}
_UNGATED = {"bert", "roberta", "xlm-roberta", "gpt2", "gpt_neox", "opt", "phi", "falcon", "bloom"}
_QKV_BIAS = {"qwen2", "qwen2_moe", "bert", "roberta", "xlm-roberta", "gpt2", "phi", "gpt_neox"}
_TIED = {"gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", *ENCODERS}
_RECURRENT = {"mamba", "mamba2", "jamba", "bamba", "rwkv", "falcon_mamba", "zamba2", "nemotron_h"}


def architecture(document: Document) -> Architecture:
    """Read a config.json. Raises InvalidManifest naming the field that is missing or wrong.

    Of a multimodal model only the language part (`text_config`) is read; that is said in `notes`.
    """
    root = Field.root(document)
    notes: list[str] = []
    text = root.get("text_config")
    if text.there:
        notes.append("a multimodal model: only its language part is counted, not its encoder")
    config = text if text.there else root
    family = config.get("model_type").text() or root.get("model_type").text()
    if family in _RECURRENT:
        notes.append(f"{family}: the recurrent state of its layers is not counted")
    hidden = _need(config, "hidden_size")
    heads = _need(config, "num_attention_heads")
    layers = _need(config, "num_hidden_layers")
    latent = _latent(config)
    gpt = family == "gpt2"
    return Architecture(
        family,
        hidden,
        4 * hidden if gpt else _need(config, "intermediate_size"),
        heads,
        _kv_heads(config, heads),
        config.get("head_dim").integer() or hidden // heads,
        config.need("vocab_size").integer(least=1),
        _find(config, "max_position_embeddings") or 2048,
        _dtype(config, root),
        _kinds(config, family, layers),
        config.get("sliding_window").integer() or None,
        _tied(config, root, family),
        family not in _UNGATED,
        family in _QKV_BIAS or config.get("attention_bias").value is True,
        latent,
        _experts(config, layers),
        _linear(config),
        _extra_embeddings(config, family, hidden),
        tuple(notes),
    )


def _find(config: Field, name: str) -> int | None:
    for alias in _ALIASES[name]:
        if config.get(alias).there:
            return config.get(alias).integer()
    return None


def _need(config: Field, name: str) -> int:
    found = _find(config, name)
    if not found:
        raise config.get(name).wrong("is missing: the model cannot be sized without it")
    return found


def _kv_heads(config: Field, heads: int) -> int:
    if config.get("multi_query").value is True:
        return 1
    return config.get("num_key_value_heads").integer() or heads


def _dtype(config: Field, root: Field) -> str:
    for owner in (config, root):
        for name in ("dtype", "torch_dtype"):
            if owner.get(name).there:
                return owner.get(name).text().removeprefix("torch.")
    return "float32"


def _tied(config: Field, root: Field, family: str) -> bool:
    for owner in (config, root):
        if owner.get("tie_word_embeddings").there:
            return owner.get("tie_word_embeddings").boolean()
    return family in _TIED


def _kinds(config: Field, family: str, layers: int) -> tuple[LayerKind, ...]:
    named = config.get("layer_types").items()
    if named:
        return tuple(_kind(item.text()) for item in named)
    full: LayerKind = "full"
    sliding: LayerKind = "sliding"
    window = config.get("sliding_window").integer()
    if not window or config.get("use_sliding_window").value is False:
        return (full,) * layers
    pattern = config.get("sliding_window_pattern").integer()
    if family == "gemma2":
        pattern = 2
    if pattern:  # every pattern-th layer is full
        return tuple(full if (i + 1) % pattern == 0 else sliding for i in range(layers))
    wide = window >= (_find(config, "max_position_embeddings") or 0)
    return (full if wide else sliding,) * layers


def _kind(name: str) -> LayerKind:
    if name in ("sliding_attention", "chunked_attention"):
        return "sliding"
    return "linear" if name in ("linear_attention", "mamba") else "full"


def _latent(config: Field) -> Latent | None:
    rank = config.get("kv_lora_rank").integer()
    if not rank:
        return None
    return Latent(
        rank,
        config.get("q_lora_rank").integer(),
        config.need("qk_nope_head_dim").integer(),
        config.need("qk_rope_head_dim").integer(),
        config.need("v_head_dim").integer(),
    )


def _experts(config: Field, layers: int) -> Experts | None:
    count = _find(config, "experts")
    if not count or count == 1:
        return None
    dense = config.get("first_k_dense_replace").integer() + len(
        config.get("mlp_only_layers").items()
    )
    step = config.get("decoder_sparse_step").integer(1, least=1)
    each = _need(config, "moe_intermediate_size")
    shared = config.get("shared_expert_intermediate_size").integer()
    return Experts(
        count,
        config.get("num_experts_per_tok").integer(2),
        each,
        shared or each * config.get("n_shared_experts").integer(),
        (layers - dense) // step,
    )


def _linear(config: Field) -> Linear | None:
    if not config.get("linear_num_value_heads").there:
        return None
    return Linear(
        config.need("linear_num_key_heads").integer(),
        config.need("linear_num_value_heads").integer(),
        config.need("linear_key_head_dim").integer(),
        config.need("linear_value_head_dim").integer(),
        config.get("linear_conv_kernel_dim").integer(4),
    )


def _extra_embeddings(config: Field, family: str, hidden: int) -> int:
    """Parameters of learned positions, token types and the pooler."""
    if family not in ENCODERS and family not in ("gpt2", "opt"):
        return 0
    rows = (_find(config, "max_position_embeddings") or 0) + config.get("type_vocab_size").integer()
    pooler = hidden * hidden + hidden if family in ("bert", "roberta", "xlm-roberta") else 0
    return rows * hidden + pooler
