"""Runtimes that cannot stand beside others of the same files."""

from collections.abc import Iterator

from relume.cluster.admission.judge import content
from relume.cluster.admission.runtime_choice import (
    CLUSTER_KIND,
    NAMESPACE_KIND,
    RuntimeFacts,
    clash,
    facts_of,
)
from relume.cluster.doctor.graph import NumberedDocuments
from relume.cluster.findings import Finding, at
from relume.config.nodes import Table
from relume.config.yaml_source import plain

FORMATS = "spec.supportedModelFormats"


def judge_runtimes(documents: NumberedDocuments) -> Iterator[tuple[int, Finding]]:
    """Runtimes among the documents of which the cluster takes the first and refuses the second."""
    before: list[RuntimeFacts] = []
    for number, document in documents:
        if content(document.get("kind")) not in (CLUSTER_KIND, NAMESPACE_KIND):
            continue
        one = facts_in(document)
        for other in before:
            message = clash(one, other)
            if message is not None:
                yield number, at(formats_in(document), "runtime-clash", message, field=FORMATS)
        before.append(one)


def facts_in(document: Table) -> RuntimeFacts:
    """The facts of a runtime that is to be applied, which is newer than those that are there."""
    body = plain(document)
    assert isinstance(body, dict)
    metadata = body.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return facts_of({**body, "metadata": {**named, "creationTimestamp": "9999"}})


def formats_in(document: Table) -> Table:
    """Where its formats are written, or would be."""
    spec = document.get("spec")
    return spec if isinstance(spec, Table) else document
