"""Documents that change what is installed: Knative's config maps, and patches of its parts."""

from collections.abc import Sequence
from dataclasses import replace

from relume.base.errors import InvalidInput
from relume.cluster.admission import Cluster
from relume.cluster.admission.cluster import settings_of
from relume.cluster.admission.judge import child
from relume.cluster.doctor.files import FileDocument
from relume.cluster.findings import Finding
from relume.config.nodes import Table

_NAMESPACES = ("knative-serving", "knative-eventing", "kserve")
_MAPS = ("config-features", "config-defaults", "config-autoscaler")


def with_settings_of(read: Sequence[FileDocument], cluster: Cluster) -> Cluster:
    """The cluster as it is once the config maps among the documents are applied to it."""
    settings = dict(cluster.settings)
    for one in read:
        data = child(one.root, "data")
        if not isinstance(data, Table) or not _is_settings(one):
            continue
        try:
            settings |= settings_of(data)
        except InvalidInput:  # Knative would not take the map either
            continue
    return replace(cluster, settings=settings)


def _is_settings(one: FileDocument) -> bool:
    return one.kind == "ConfigMap" and one.name in _MAPS and one.namespace in _NAMESPACES


def of_installed(one: FileDocument, finding: Finding) -> bool:
    """Whether a field is missing only because the document is laid over one that is there."""
    return finding.reason == "missing-field" and one.namespace in _NAMESPACES
