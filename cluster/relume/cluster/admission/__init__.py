"""What a cluster does with a manifest: accepted, refused, or accepted with a field dropped.

`admit` holds one document against the field tables of its kind and against the rules of the
webhooks and of the API server, and says what a cluster with those settings would.
"""

from dataclasses import dataclass

from relume.cluster.admission.cluster import SHIPPED, Cluster, read_cluster
from relume.cluster.admission.rules import judged
from relume.cluster.findings import AdmissionVerdict, Finding, verdict
from relume.config.nodes import Node

__all__ = ["SHIPPED", "Admission", "Cluster", "admit", "read_cluster"]


@dataclass(frozen=True, slots=True)
class Admission:
    """One document's kind and name ("" where it has none), and what was found."""

    api_version: str
    kind: str
    name: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> AdmissionVerdict:
        """What the cluster does with it."""
        return verdict(self.findings)


def admit(document: Node, cluster: Cluster = SHIPPED) -> Admission:
    """Judge one document; never raises, whatever is in it."""
    api_version, kind, name, findings = judged(document, cluster)
    return Admission(api_version, kind, name, findings)
