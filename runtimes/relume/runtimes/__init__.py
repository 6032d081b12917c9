"""The predictor runtime: vLLM's own server, extended where vLLM says to extend it."""
