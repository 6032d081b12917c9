"""The commands of clusters: from manifests to a cluster that works, and what it holds."""
