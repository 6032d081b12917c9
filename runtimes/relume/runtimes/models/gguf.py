"""Turn a GGUF file of a Llama model into a Hugging Face folder that vLLM serves.

vLLM reads no GGUF on a CPU. The weights are dequantised to bfloat16, so they are not equal to the
ones that were quantised: whoever lists the model says so.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relume.runtimes.models.errors import UnusableModel
from relume.runtimes.models.gguf_metadata import GgufFile, Tensor
from relume.runtimes.models.gguf_tokenizer import write_tokenizer
from relume.runtimes.models.progress import Progress
from relume.runtimes.models.safetensors_file import PlannedTensor, write_bfloat16

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


def convert(gguf: Path, folder: Path, progress: Progress) -> None:
    """Write config, generation config, tokenizer and weights of `gguf` into `folder`.

    Raises UnusableModel for another architecture, tokenizer or tensor than a plain Llama's.
    """
    progress.begin("read the GGUF file", None)
    source = GgufFile(gguf)
    config = llama_config(source)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", _generation_config(config))
    write_tokenizer(source, folder, context=_whole(config, "max_position_embeddings"))
    planned = list(_planned(source, config))
    progress.begin("dequantise to bfloat16", sum(tensor.bytes for tensor in planned))
    try:
        write_bfloat16(folder / "model.safetensors", planned, progress.advance)
    except ValueError as error:
        raise UnusableModel(f"{gguf.name}: {error}") from error


def llama_config(source: GgufFile) -> dict[str, object]:
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


def _generation_config(config: dict[str, object]) -> dict[str, object]:
    return {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _planned(source: GgufFile, config: dict[str, object]) -> Iterator[PlannedTensor]:
    for tensor in source.tensors:
        name = _hugging_face_name(tensor.name, source)
        heads = 0
        if name.endswith("q_proj.weight"):
            heads = _whole(config, "num_attention_heads")
        elif name.endswith("k_proj.weight"):
            heads = _whole(config, "num_key_value_heads")
        shape = tuple(int(size) for size in reversed(tensor.shape.tolist()))
        yield PlannedTensor(name, shape, partial(_values, tensor, heads))


def _hugging_face_name(name: str, source: GgufFile) -> str:
    if name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[name]
    match = _LAYER.fullmatch(name)
    if match is None or match[2] not in _IN_LAYER:
        raise UnusableModel(f"{source.path.name}: no Llama has a tensor {name}")
    return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}.weight"


def _values(tensor: Tensor, heads: int) -> "NDArray[np.float32]":
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


def _whole(config: dict[str, object], key: str) -> int:
    value = config[key]
    assert isinstance(value, int)
    return value


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
