"""A Llama of a few kilobytes as a GGUF file, made the way llama.cpp's converter lays one out."""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants
from tokenizers import pre_tokenizers

HIDDEN, HEADS, KV_HEADS, FEED, LAYERS = 64, 4, 2, 96, 2
CONTROL, NORMAL = 3, 1
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROPE = 100000.0


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens (special, every byte, three merges) and the merges."""
    merges = ["t h", "th e", "Ġ the"]
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return tokens + [merge.replace(" ", "") for merge in merges], merges


def weights(seed: int = 7) -> dict[str, np.ndarray]:
    """Hugging Face's names and row order, float32; smooth enough to survive Q8_0."""
    random = np.random.default_rng(seed)
    tokens, _ = vocabulary()
    head = HIDDEN // HEADS
    shapes = {"model.embed_tokens.weight": (len(tokens), HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        shapes |= {
            f"{layer}input_layernorm.weight": (HIDDEN,),
            f"{layer}self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}self_attn.k_proj.weight": (KV_HEADS * head, HIDDEN),
            f"{layer}self_attn.v_proj.weight": (KV_HEADS * head, HIDDEN),
            f"{layer}self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}post_attention_layernorm.weight": (HIDDEN,),
            f"{layer}mlp.gate_proj.weight": (FEED, HIDDEN),
            f"{layer}mlp.up_proj.weight": (FEED, HIDDEN),
            f"{layer}mlp.down_proj.weight": (HIDDEN, FEED),
        }
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to query and key rows: row i and row i + half, in turn."""
    size = rows.shape[0] // heads
    order = []
    for head in range(heads):
        for i in range(size // 2):
            order += [head * size + i, head * size + i + size // 2]
    return rows[order]


def gguf_name(name: str) -> str:
    name = name.removesuffix(".weight")
    if name.startswith("model.layers."):
        _, _, number, rest = name.split(".", 3)
        return f"blk.{number}.{GGUF_NAMES[rest]}.weight"
    return GGUF_NAMES[name] + ".weight"


def write_gguf(path: Path, *, architecture: str = "llama", splitter: str = "smollm", **extra: str):
    """Write the model; the large tensors as Q8_0. `extra` maps a tensor name to a stray tensor."""
    writer = GGUFWriter(path, architecture)
    tokens, merges = vocabulary()
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(ROPE)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitter)
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in SPECIAL else NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT)
    for name, values in weights().items():
        if "q_proj" in name:
            values = interleave(values, HEADS)
        elif "k_proj" in name:
            values = interleave(values, KV_HEADS)
        _add(writer, gguf_name(name), values)
    for name in extra.values():
        _add(writer, name, np.ones(HIDDEN, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: GGUFWriter, name: str, values: np.ndarray) -> None:
    if values.ndim == 1:
        writer.add_tensor(name, values)
        return
    kind = GGMLQuantizationType.Q8_0
    writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
