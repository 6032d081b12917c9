"""Documents that name others: the Broker of a Trigger, and models that are cached twice."""

from collections.abc import Iterator
from dataclasses import replace

from relume.cluster.admission.cluster import Cluster
from relume.cluster.admission.judge import child, content
from relume.cluster.doctor.graph import NumberedDocuments, key, named
from relume.cluster.findings import Finding, at
from relume.config.nodes import Table


def judge_references(
    documents: NumberedDocuments, cluster: Cluster
) -> Iterator[tuple[int, Finding]]:
    """Triggers without a Broker, and LocalModelCaches of one model."""
    brokers = {(namespace, name) for _, namespace, name in named(documents, "Broker")}
    for number, trigger in named(documents, "Trigger").values():
        wanted = _broker(trigger)
        is_named = bool(wanted[1])  # else admission refuses it
        if is_named and wanted not in brokers | (cluster.brokers or frozenset()):
            yield number, _no_broker(trigger, wanted, known=cluster.brokers is not None)
    yield from _cached_twice(documents)


def _broker(trigger: Table) -> tuple[str, str]:
    """Namespace and name of a Trigger's Broker."""
    own = key(trigger)[1]
    reference = child(trigger, "spec", "brokerRef")
    if reference is None:
        return own, content(trigger, "spec", "broker")
    return content(reference, "namespace") or own, content(reference, "name")


def _no_broker(trigger: Table, wanted: tuple[str, str], *, known: bool) -> Finding:
    """`known`: the Brokers of the cluster were read, so that it is certain."""
    namespace, name = wanted
    node = child(trigger, "spec", "broker") or child(trigger, "spec", "brokerRef") or trigger
    where = (
        "neither among these documents nor in the cluster"
        if known
        else ("not among these documents")
    )
    fix = f"Apply a Broker {name} in the namespace {namespace} first"
    fix += "." if known else ", unless the cluster has it: relume doctor --context NAME asks."
    finding = at(node, "no-broker", f"the Broker {namespace}/{name} is {where}", fix)
    return replace(finding, gravity="error") if known else finding


def _cached_twice(documents: NumberedDocuments) -> Iterator[tuple[int, Finding]]:
    """KServe's webhook refuses a second LocalModelCache for one URI.

    Source: kserve/kserve pkg/webhook/admission/localmodelcache/localmodelcache_validator.go.
    """
    seen: dict[str, str] = {}
    for number, cache in named(documents, "LocalModelCache").values():
        uri, name = child(cache, "spec", "sourceModelUri"), key(cache)[2]
        if uri is None:
            continue
        first = seen.setdefault(content(uri), name)
        if first != name:
            message = f"LocalModelCache {first} has the same StorageURI {content(uri)}"
            yield number, at(uri, "conflict", message, f"Use {first}, or name another model.")
