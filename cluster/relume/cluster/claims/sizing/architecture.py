"""A transformer's shape, on which its weights and its KV cache depend, read from `config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relume.cluster.claims.documents import Document, Field

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
_ENCODERS = {"bert", "roberta", "xlm-roberta", "mpnet", "nomic_bert", "modernbert"}
_UNGATED = {"bert", "roberta", "xlm-roberta", "gpt2", "gpt_neox", "opt", "phi", "falcon", "bloom"}
_QKV_BIAS = {"qwen2", "qwen2_moe", "bert", "roberta", "xlm-roberta", "gpt2", "phi", "gpt_neox"}
_TIED = {"gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", *_ENCODERS}
_RECURRENT = {"mamba", "mamba2", "jamba", "bamba", "rwkv", "falcon_mamba", "zamba2", "nemotron_h"}
_LAYER_KINDS: Mapping[str, LayerKind] = {
    "sliding_attention": "sliding",
    "chunked_attention": "sliding",
    "linear_attention": "linear",
    "mamba": "linear",
}


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
    window: int | None
    tied: bool
    gated: bool
    biased: bool
    latent: Latent | None
    experts: Experts | None
    linear: Linear | None
    extra_embeddings: int
    notes: tuple[str, ...]

    @property
    def layers(self) -> int:
        return len(self.kinds)

    @property
    def encoder(self) -> bool:
        """Whether it keeps no KV cache."""
        return self.family in _ENCODERS


def architecture(document: Document) -> Architecture:
    """Read a config.json. Raises InvalidManifest naming the field that is missing or wrong.

    Of a multimodal model only the language part (`text_config`) is read, and `notes` says so.
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
    tied = _first(config, root, "tie_word_embeddings")
    dtype = _first(config, root, "dtype", "torch_dtype")
    one_kv_head = config.get("multi_query").value is True
    return Architecture(
        family=family,
        hidden=hidden,
        intermediate=4 * hidden if family == "gpt2" else _need(config, "intermediate_size"),
        heads=heads,
        kv_heads=1 if one_kv_head else config.get("num_key_value_heads").integer() or heads,
        head_size=config.get("head_dim").integer() or hidden // heads,
        vocabulary=config.need("vocab_size").integer(least=1),
        positions=_find(config, "max_position_embeddings") or 2048,
        dtype=dtype.text().removeprefix("torch.") if dtype else "float32",
        kinds=_kinds(config, family, layers),
        window=config.get("sliding_window").integer() or None,
        tied=tied.boolean() if tied else family in _TIED,
        gated=family not in _UNGATED,
        biased=family in _QKV_BIAS or config.get("attention_bias").value is True,
        latent=_latent(config),
        experts=_experts(config, layers),
        linear=_linear(config),
        extra_embeddings=_extra_embeddings(config, family, hidden),
        notes=tuple(notes),
    )


def _find(config: Field, name: str) -> int | None:
    """The number that is known under this name and its aliases; None where none is there."""
    found = (config.get(alias) for alias in _ALIASES[name])
    return next((field.integer() for field in found if field.there), None)


def _need(config: Field, name: str) -> int:
    found = _find(config, name)
    if not found:
        raise config.get(name).wrong("is missing: the model cannot be sized without it")
    return found


def _first(config: Field, root: Field, *names: str) -> Field | None:
    """The first of the fields that is there, those of the language part before those of root."""
    fields = (owner.get(name) for owner in (config, root) for name in names)
    return next((field for field in fields if field.there), None)


def _kinds(config: Field, family: str, layers: int) -> tuple[LayerKind, ...]:
    named = config.get("layer_types").items()
    if named:
        return tuple(_LAYER_KINDS.get(item.text(), "full") for item in named)
    window = config.get("sliding_window").integer()
    if not window or config.get("use_sliding_window").value is False:
        return (_attention(True),) * layers
    pattern = config.get("sliding_window_pattern").integer()
    if family == "gemma2":
        pattern = 2
    if pattern:  # every pattern-th layer is full
        return tuple(_attention((i + 1) % pattern == 0) for i in range(layers))
    wide = window >= (_find(config, "max_position_embeddings") or 0)
    return (_attention(wide),) * layers


def _attention(full: bool) -> LayerKind:
    return "full" if full else "sliding"


def _latent(config: Field) -> Latent | None:
    rank = config.get("kv_lora_rank").integer()
    if not rank:
        return None
    return Latent(
        kv_rank=rank,
        query_rank=config.get("q_lora_rank").integer(),
        nope=config.need("qk_nope_head_dim").integer(),
        rope=config.need("qk_rope_head_dim").integer(),
        value=config.need("v_head_dim").integer(),
    )


def _experts(config: Field, layers: int) -> Experts | None:
    count = _find(config, "experts")
    if not count or count == 1:
        return None
    dense = config.get("first_k_dense_replace").integer() + len(
        config.get("mlp_only_layers").items()
    )
    each = _need(config, "moe_intermediate_size")
    shared = config.get("shared_expert_intermediate_size").integer()
    return Experts(
        count=count,
        active=config.get("num_experts_per_tok").integer(2),
        intermediate=each,
        shared=shared or each * config.get("n_shared_experts").integer(),
        layers=(layers - dense) // config.get("decoder_sparse_step").integer(1, least=1),
    )


def _linear(config: Field) -> Linear | None:
    if not config.get("linear_num_value_heads").there:
        return None
    return Linear(
        key_heads=config.need("linear_num_key_heads").integer(),
        value_heads=config.need("linear_num_value_heads").integer(),
        key_size=config.need("linear_key_head_dim").integer(),
        value_size=config.need("linear_value_head_dim").integer(),
        kernel=config.get("linear_conv_kernel_dim").integer(4),
    )


def _extra_embeddings(config: Field, family: str, hidden: int) -> int:
    """Parameters of learned positions, token types and the pooler."""
    if family not in _ENCODERS and family not in ("gpt2", "opt"):
        return 0
    rows = (_find(config, "max_position_embeddings") or 0) + config.get("type_vocab_size").integer()
    pooler = hidden * hidden + hidden if family in ("bert", "roberta", "xlm-roberta") else 0
    return rows * hidden + pooler
