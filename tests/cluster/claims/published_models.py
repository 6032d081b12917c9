"""Ten open models as their publishers describe them: the fields of config.json and the sizes.

`weight_bytes` is `total_size` of the model's safetensors index on Hugging Face (of DeepSeek-V3 it
counts the multi-token-prediction layer, which vLLM does not load); `parameters` is the count on the
model card. `token_bytes` is the KV cache of one token in 16 bits, worked out by hand from the
published heads, head size and layers.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One model."""

    name: str
    config: dict[str, object]
    parameters: float
    weight_bytes: int
    token_bytes: int


def shape(
    kind: str,
    hidden: int,
    inner: int,
    layers: int,
    heads: tuple[int, int],
    vocabulary: int,
    positions: int,
    **more: object,
) -> dict[str, object]:
    """A config.json of the usual form."""
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
        **more,
    }


_DEEPSEEK = {
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}

MODELS = (
    Published(
        "Llama-3.1-8B",
        shape("llama", 4096, 14336, 32, (32, 8), 128256, 131072),
        8.03e9,
        16_060_522_496,
        2 * 8 * 128 * 2 * 32,
    ),
    Published(
        "Llama-3.1-70B",
        shape("llama", 8192, 28672, 80, (64, 8), 128256, 131072),
        70.6e9,
        141_107_412_992,
        2 * 8 * 128 * 2 * 80,
    ),
    Published(
        "Qwen2.5-7B",
        shape(
            *("qwen2", 3584, 18944, 28, (28, 4), 152064, 32768),
            sliding_window=131072,
            use_sliding_window=False,
        ),
        7.61e9,
        15_231_233_024,
        2 * 4 * 128 * 2 * 28,
    ),
    Published(
        "Qwen2.5-72B",
        shape("qwen2", 8192, 29568, 80, (64, 8), 152064, 32768, use_sliding_window=False),
        72.7e9,
        145_412_407_296,
        2 * 8 * 128 * 2 * 80,
    ),
    Published(
        "Qwen3-30B-A3B",
        shape(
            *("qwen3_moe", 2048, 6144, 48, (32, 4), 151936, 40960),
            head_dim=128,
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=768,
            decoder_sparse_step=1,
            mlp_only_layers=[],
        ),
        30.5e9,
        61_064_245_248,
        2 * 4 * 128 * 2 * 48,
    ),
    Published(
        "Mistral-7B-v0.1",
        shape("mistral", 4096, 14336, 32, (32, 8), 32000, 32768, sliding_window=4096),
        7.24e9,
        14_483_464_192,
        2 * 8 * 128 * 2 * 32,
    ),
    Published(
        "Mixtral-8x7B-v0.1",
        shape(
            *("mixtral", 4096, 14336, 32, (32, 8), 32000, 32768),
            num_local_experts=8,
            num_experts_per_tok=2,
        ),
        46.7e9,
        93_405_585_408,
        2 * 8 * 128 * 2 * 32,
    ),
    Published(
        "gemma-2-9b",
        shape(
            *("gemma2", 3584, 14336, 42, (16, 8), 256000, 8192),
            head_dim=256,
            sliding_window=4096,
            tie_word_embeddings=True,
        ),
        9.24e9,
        18_483_411_968,
        2 * 8 * 256 * 2 * 42,
    ),
    Published(
        "Phi-3.5-mini",
        shape("phi3", 3072, 8192, 32, (32, 32), 32064, 131072, sliding_window=262144),
        3.82e9,
        7_642_159_104,
        2 * 32 * 96 * 2 * 32,
    ),
    Published(
        "DeepSeek-V3",
        shape("deepseek_v3", 7168, 18432, 61, (128, 128), 129280, 163840, **_DEEPSEEK),
        671e9,
        688_586_727_753,
        (512 + 64) * 2 * 61,
    ),
)
