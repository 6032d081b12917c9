"""DRA claims: size them from a model, explain them against an inventory, ship their classes.

The field names are those of `resource.k8s.io/v1` (Kubernetes 1.34 and later). Nothing here talks
to a cluster: everything works on documents.
"""
