"""What a cluster does with a manifest: accepted, refused, or accepted with a field dropped.

`admit` holds one document against the field tables of its kind, and against the rules of the
webhooks and of the API server on a cluster with the given settings. `cluster/ADMISSION.md` explains
the steps.
"""

from relume.cluster.admission.cluster import SHIPPED, Cluster, read_cluster
from relume.cluster.admission.rules import Admission, admit

__all__ = ["SHIPPED", "Admission", "Cluster", "admit", "read_cluster"]
