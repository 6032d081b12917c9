"""llm-d: whether a model server can be an endpoint of an InferencePool."""
