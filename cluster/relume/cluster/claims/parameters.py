"""How many parameters an architecture has, when no weights are there to count."""

from dataclasses import dataclass

from relume.cluster.claims.model_shape import Architecture


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
