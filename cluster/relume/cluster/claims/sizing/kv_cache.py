"""The KV cache that vLLM allocates: bytes of a token, of a block, of a sequence.

Formulas: `vllm/v1/kv_cache_interface.py` of vLLM 0.32 (`page_size_bytes` of FullAttentionSpec,
MLAAttentionSpec and SlidingWindowSpec, `max_memory_usage_bytes`, MambaSpec).
"""

from dataclasses import dataclass

from relume.cluster.claims.sizing.architecture import DTYPE_BYTES, Architecture

BLOCK = 16
"""Tokens of a block, vLLM's default on GPUs."""


@dataclass(frozen=True, slots=True)
class KvCache:
    """Of one device: bytes for each token in layers of each kind, and the blocks of a sequence."""

    block: int
    full_layers: int
    sliding_layers: int
    layer_token_bytes: int
    state_bytes: int
    full_blocks: int
    sliding_blocks: int

    @property
    def token_bytes(self) -> int:
        """Bytes of one token in all attention layers, while inside every window."""
        return self.layer_token_bytes * (self.full_layers + self.sliding_layers)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block in all attention layers."""
        return self.block * self.token_bytes

    @property
    def sequence_bytes(self) -> int:
        """Bytes of one sequence of the whole context."""
        blocks = self.full_blocks * self.full_layers + self.sliding_blocks * self.sliding_layers
        return blocks * self.block * self.layer_token_bytes + self.state_bytes


def kv_cache(
    model: Architecture,
    *,
    context: int,
    batched: int,
    dtype: str,
    tensor_parallel: int = 1,
    block: int = BLOCK,
) -> KvCache:
    """The cache of one device out of `tensor_parallel`, for sequences of `context` tokens.

    `batched` is max_num_batched_tokens: a sliding window keeps that many tokens more.
    """
    full, sliding = model.kinds.count("full"), model.kinds.count("sliding")
    if model.encoder:
        full = sliding = 0
    window = min((model.window or context) - 1 + batched, context)
    return KvCache(
        block,
        full,
        sliding,
        _layer_token_bytes(model, dtype, tensor_parallel),
        _state_bytes(model, tensor_parallel) * model.kinds.count("linear"),
        -(-context // block),
        -(-window // block) + 1,
    )


def _layer_token_bytes(model: Architecture, dtype: str, tensor_parallel: int) -> int:
    if model.latent is not None:
        # Every device holds the whole latent: it is not split by heads.
        return (model.latent.kv_rank + model.latent.rope) * DTYPE_BYTES[dtype]
    heads = max(1, model.kv_heads // tensor_parallel)
    return 2 * heads * model.head_size * DTYPE_BYTES[dtype]


def _state_bytes(model: Architecture, tensor_parallel: int) -> int:
    """What one linear-attention layer keeps for a sequence: convolution and recurrence."""
    if model.linear is None:
        return 0
    linear, width = model.linear, DTYPE_BYTES.get(model.dtype, 2)
    keys, values = linear.key_heads * linear.key_size, linear.value_heads * linear.value_size
    convolution = (linear.kernel - 1) * (2 * keys + values) * width
    recurrence = linear.value_heads * linear.key_size * linear.value_size * width
    return (convolution + recurrence) // tensor_parallel
