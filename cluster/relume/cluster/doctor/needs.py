"""What applying a set of files asks of a cluster."""

from collections.abc import Sequence
from pathlib import Path

from relume.base.vocabulary import BROKER_CLASS
from relume.cluster.admission.judge import child, content, fields
from relume.cluster.doctor.files import read_files
from relume.cluster.doctor.graph import DEFAULT_NAMESPACE
from relume.cluster.doctor.online import Need
from relume.cluster.schemas import schema


def needs_of(files: Sequence[Path]) -> tuple[list[Need], list[str]]:
    """The resources that will be written, and the classes of the Brokers ("" is the default)."""
    needs: list[Need] = []
    classes: list[str] = []
    for one in read_files(files) if files else ():
        known = schema(one.api_version, one.kind)
        if known is None:
            continue
        namespace = (one.namespace or DEFAULT_NAMESPACE) if known.namespaced else ""
        needs.append((one.api_version.rpartition("/")[0], known.plural, namespace))
        if one.kind == "Broker":
            annotations = fields(child(one.root, "metadata", "annotations"))
            classes.append(content(annotations.get(BROKER_CLASS)))
    return needs, classes
