"""Runtimes that cannot stand beside others, or take over their services."""

from collections.abc import Iterator, Sequence

from relume.cluster.admission.judge import content
from relume.cluster.admission.runtime_choice import (
    CLUSTER_KIND,
    NAMESPACE_KIND,
    RuntimeFacts,
    chosen,
    clash,
    facts_of,
    need_of,
)
from relume.cluster.apply.api import ClusterApi, text
from relume.cluster.apply.manifests import runtimes_there
from relume.cluster.doctor.graph import NumberedDocuments
from relume.cluster.findings import Finding, at
from relume.cluster.reasons import REASONS
from relume.config.nodes import Table
from relume.config.yaml_source import plain

_FIELD = "spec.supportedModelFormats"
_SERVICES = "/apis/serving.kserve.io/v1beta1/inferenceservices"


def judge_runtimes(documents: NumberedDocuments) -> Iterator[tuple[int, Finding]]:
    """Runtimes among the documents of which the cluster takes the first and refuses the second."""
    before: list[RuntimeFacts] = []
    for number, document in documents:
        if content(document.get("kind")) not in (CLUSTER_KIND, NAMESPACE_KIND):
            continue
        one = _facts(document)
        for other in before:
            message = clash(one, other)
            if message is not None:
                yield number, at(_formats(document), "runtime-clash", message, field=_FIELD)
        before.append(one)


def check_runtimes(
    api: ClusterApi, documents: Sequence[Table], installed: bool
) -> Iterator[Finding]:
    """The runtimes of files beside those of a cluster; `installed`: whether KServe is there."""
    if not documents or not installed:
        return
    new = [_facts(document) for document in documents]
    there = runtimes_there(api, {one.namespace for one in new if one.namespace})
    for one, document in zip(new, documents, strict=True):
        for other in there:
            message = clash(one, other)
            if message is not None:
                yield at(_formats(document), "runtime-clash", message, field=_FIELD)
    yield from _check_takeover(api, new, there)


def _check_takeover(
    api: ClusterApi, new: Sequence[RuntimeFacts], there: Sequence[RuntimeFacts]
) -> Iterator[Finding]:
    """Services of the cluster that would run on another runtime than they do now."""
    names = {(one.namespace, one.name) for one in new}
    kept = [one for one in there if (one.namespace, one.name) not in names]
    for service in api.list(_SERVICES) or ():
        need = need_of(service)
        if need is None:
            continue
        now, then = chosen(need, there), chosen(need, [*kept, *new])
        if now is not None and then is not None and now.name != then.name:
            name = f"{need.namespace}/{text(service, 'metadata', 'name')}"
            message = f"InferenceService {name} goes from {now.name} to {then.name}"
            reason = "runtime-takes-over"
            yield Finding(reason, f"{then.name}: {name}", message, REASONS[reason].fix)


def _facts(document: Table) -> RuntimeFacts:
    body = plain(document)
    assert isinstance(body, dict)
    # A runtime that is not there yet is newer than every other.
    metadata = body.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return facts_of({**body, "metadata": {**named, "creationTimestamp": "9999"}})


def _formats(document: Table) -> Table:
    spec = document.get("spec")
    return spec if isinstance(spec, Table) else document
