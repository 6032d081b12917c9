"""Turn a GGUF file of a Llama model into a Hugging Face folder that vLLM serves.

vLLM reads no GGUF on a CPU. The weights are dequantised to bfloat16, so they are not equal to the
published ones; the list of known models says so. GGUF keeps the vocabulary, the merges and
the name of the pre-tokenizer; the program that reads the file must bring the pre-tokenizer itself.
Known here: "smollm", byte-level BPE after each digit is split off.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from relume.runtimes.models import StoreProgress
from relume.runtimes.models.errors import UnusableModel

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

# GGUF's names of a Llama's tensors and Hugging Face's.
_OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
# gguf.TokenType: what a vocabulary entry is.
_CONTROL = 3
_USER_DEFINED = 4


class GgufTensor(Protocol):
    """One tensor of a GGUF file, as the gguf package hands it out."""

    name: str
    shape: "NDArray[np.uint32]"  # innermost dimension first
    data: "NDArray[np.generic]"  # quantised blocks, or the plain values
    tensor_type: object


class GgufFile:
    """A GGUF file opened for reading; nothing of its tensors is loaded until asked for."""

    def __init__(self, path: Path) -> None:
        """Raises UnusableModel when the file is not a GGUF file that the gguf package reads."""
        from gguf import GGUFReader

        self.path = path
        try:
            self._reader = GGUFReader(path)
        except (ValueError, KeyError, IndexError, OSError) as error:
            raise UnusableModel(f"{path.name} is not a readable GGUF file: {error}") from error
        self.tensors: tuple[GgufTensor, ...] = tuple(self._reader.tensors)
        self._values: dict[str, object] = {}  # decoding a vocabulary takes half a second

    def _value(self, key: str) -> object:
        if key not in self._values:
            field = self._reader.get_field(key)
            if field is None:
                raise UnusableModel(f"{self.path.name} has no {key}")
            self._values[key] = field.contents()
        return self._values[key]

    def has(self, key: str) -> bool:
        """Whether the file has this metadata key."""
        return self._reader.get_field(key) is not None

    def text(self, key: str) -> str:
        """A string."""
        return str(self._checked(key, _is_text, "a string"))

    def integer(self, key: str) -> int:
        """A whole number."""
        return int(self._checked(key, _is_integer, "a whole number"))

    def real(self, key: str) -> float:
        """A float32, as the shortest decimal that reads back as it (1e-05, not 9.99999974e-06)."""
        import numpy as np

        value = self._checked(key, lambda v: isinstance(v, int | float), "a number")
        return float(str(np.float32(value)))

    def texts(self, key: str) -> list[str]:
        """An array of strings."""
        return list(self._checked(key, _all(_is_text), "an array of strings"))

    def integers(self, key: str) -> list[int]:
        """An array of whole numbers."""
        return list(self._checked(key, _all(_is_integer), "an array of whole numbers"))

    def _checked(self, key: str, fits: Callable[[object], bool], kind: str) -> Any:
        value = self._value(key)
        if not fits(value):
            raise UnusableModel(f"{self.path.name}: {key} is not {kind}")
        return value


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int)


def _all(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def convert(gguf: Path, folder: Path, progress: StoreProgress) -> None:
    """Write config, generation config, tokenizer and weights of `gguf` into `folder`.

    Raises UnusableModel for another architecture, tokenizer or tensor than a plain Llama's.
    """
    progress.begin("read the GGUF file", None)
    source = GgufFile(gguf)
    config = llama_config(source)
    _write_json(folder / "config.json", config)
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    _write_json(folder / "generation_config.json", {key: config[key] for key in special})
    write_tokenizer(source, folder, context=config["max_position_embeddings"])
    _write_weights(source, config, folder / "model.safetensors", progress)


def llama_config(source: GgufFile) -> dict[str, Any]:
    """The config.json of `source`, from its metadata alone."""
    architecture = source.text("general.architecture")
    if architecture != "llama":
        raise UnusableModel(f"{source.path.name} is a {architecture} model; only llama is known")
    heads = source.integer("llama.attention.head_count")
    hidden = source.integer("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(source.texts("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": source.integer("llama.feed_forward_length"),
        "num_hidden_layers": source.integer("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": source.integer("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "max_position_embeddings": source.integer("llama.context_length"),
        "rms_norm_eps": source.real("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": source.real("llama.rope.freq_base"),
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": all(t.name != "output.weight" for t in source.tensors),
        "bos_token_id": source.integer("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.integer("tokenizer.ggml.eos_token_id"),
        "pad_token_id": source.integer("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def _write_weights(
    source: GgufFile, config: dict[str, Any], path: Path, progress: StoreProgress
) -> None:
    """Every tensor of `source` in bfloat16 under Hugging Face's name; all are in memory at once."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    names = {_hugging_face_name(tensor.name, source): tensor for tensor in source.tensors}
    progress.begin("dequantise to bfloat16", sum(2 * int(t.shape.prod()) for t in names.values()))
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in names.items():
        heads = 0
        if name.endswith("q_proj.weight"):
            heads = config["num_attention_heads"]
        elif name.endswith("k_proj.weight"):
            heads = config["num_key_value_heads"]
        shape = tuple(int(size) for size in reversed(tensor.shape.tolist()))
        try:
            weights[name] = bfloat16(name, shape, _values(tensor, heads))
        except ValueError as error:
            raise UnusableModel(f"{source.path.name}: {error}") from error
        progress.advance(weights[name].nbytes)
    try:
        save_file(weights, path, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, for one; the store knows what OSError means
        raise OSError(f"{path.name} could not be written: {error}") from error


def bfloat16(name: str, shape: tuple[int, ...], values: "NDArray[np.float32]") -> "torch.Tensor":
    """`values`, each rounded to the nearest bfloat16, ties to even.

    Raises ValueError for another shape than `shape` and for a value that is not finite.
    """
    import torch

    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}, expected {shape}")
    exact = torch.tensor(values, dtype=torch.float32)
    if not exact.isfinite().all():
        raise ValueError(f"{name} holds a value that is not finite")
    return exact.to(torch.bfloat16)


def _hugging_face_name(name: str, source: GgufFile) -> str:
    if name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[name]
    match = _LAYER.fullmatch(name)
    if match is None or match[2] not in _IN_LAYER:
        raise UnusableModel(f"{source.path.name}: no Llama has a tensor {name}")
    return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}.weight"


def _values(tensor: GgufTensor, heads: int) -> "NDArray[np.float32]":
    """Dequantise; for a query or key projection (`heads` > 0), put its rows back in order.

    llama.cpp rotates neighbouring pairs (0,1), (2,3)… where Hugging Face rotates the two halves of
    a head, so its converter interleaves the halves of every head's rows. This takes them apart.
    """
    from gguf import dequantize

    values: NDArray[np.float32] = dequantize(tensor.data, tensor.tensor_type)
    if heads == 0:
        return values
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def write_tokenizer(source: GgufFile, folder: Path, *, context: int) -> None:
    """Write both files; `context` is the longest input in tokens.

    Raises UnusableModel for a tokenizer other than byte-level BPE with the "smollm" splitter, a
    vocabulary that holds a token twice, or a merge whose parts or result are not in it.
    """
    tokens = source.texts("tokenizer.ggml.tokens")
    _tokenizer(source, tokens).save(str(folder / "tokenizer.json"))
    config: dict[str, object] = {
        # The class that loads tokenizer.json as it is, in transformers 4 and 5. A model's own class
        # (GPT2Tokenizer) may build the splitter itself, and without splitting digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[source.integer("tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[source.integer("tokenizer.ggml.eos_token_id")],
        "unk_token": tokens[source.integer("tokenizer.ggml.unknown_token_id")],
        "pad_token": tokens[source.integer("tokenizer.ggml.padding_token_id")],
    }
    if source.has("tokenizer.chat_template"):
        config["chat_template"] = source.text("tokenizer.chat_template")
    _write_json(folder / "tokenizer_config.json", config)


def _tokenizer(source: GgufFile, tokens: list[str]) -> "Tokenizer":
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = (source.text("tokenizer.ggml.model"), source.text("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise UnusableModel(f"{source.path.name}: tokenizer {kind[0]} with {kind[1]} is not known")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges(source, vocabulary)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # In the order of their ids: a token that is in the vocabulary keeps its id.
    for token, kind_of in zip(tokens, source.integers("tokenizer.ggml.token_type"), strict=True):
        if kind_of == _CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind_of == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def _merges(source: GgufFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    if len(vocabulary) != len(source.texts("tokenizer.ggml.tokens")):
        raise UnusableModel(f"{source.path.name}: the vocabulary holds a token twice")
    merges: list[tuple[str, str]] = []
    for merge in source.texts("tokenizer.ggml.merges"):
        left, space, right = merge.partition(" ")
        if not space or not {left, right, left + right} <= vocabulary.keys():
            raise UnusableModel(f"{source.path.name}: merge {merge!r} is not of the vocabulary")
        merges.append((left, right))
    return merges


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
