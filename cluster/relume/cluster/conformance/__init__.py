"""The CNCF's Kubernetes AI conformance checklists: what a cluster shows of them, with evidence."""
