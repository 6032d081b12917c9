"""A Kubernetes cluster: apply what was rendered, wait for it, show it, remove it.

Only `api` talks to an API server. Everything else takes a `ClusterApi`, and a `Pace` for the clock,
so that the order, the waiting and the messages can be tested without either.
"""
