"""Knative Serving on one machine: activator, autoscaler, revision life cycle."""
