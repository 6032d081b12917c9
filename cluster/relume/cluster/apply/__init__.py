"""A Kubernetes cluster: apply what was rendered, wait for it, show it, remove it.

`api` is the only module that talks to an API server; everything else takes a `ClusterApi`, and
the clock as a `Pace`, so that the order, the waiting and the words are tested without either.
"""
