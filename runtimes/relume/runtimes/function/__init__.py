"""Knative Functions as processes: their environments, and func-python's server in them."""
