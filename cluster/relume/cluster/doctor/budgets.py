"""What does not go together: times, retries, concurrency, and where dead letters end.

The arithmetic: a request waits for a replica inside its own timeout (activator and queue-proxy both
count it); the broker's attempt must outlast the request; the retries must outlast the start where
nothing holds the request; the Revision must be ready before its progress deadline.
"""

from collections.abc import Iterator

from relume.base.vocabulary import PROGRESS_DEADLINE
from relume.cluster.admission.annotations import autoscaling
from relume.cluster.admission.cluster import Cluster
from relume.cluster.admission.judge import child, content, number
from relume.cluster.doctor.deliveries import TriggerDelivery, class_of, delivery_of, nats_batch
from relume.cluster.doctor.graph import (
    ModelService,
    NumberedDocuments,
    key,
    models,
    named,
    subscriber,
)
from relume.cluster.findings import Finding, at
from relume.config.durations import go_duration
from relume.config.nodes import Node, Table

_PROGRESS_DEADLINE_S = 600.0
_WINDOW_S = 60.0

NumberedFindings = Iterator[tuple[int, Finding]]


def judge_budgets(
    documents: NumberedDocuments, cluster: Cluster, cold_start_s: float
) -> NumberedFindings:
    """What does not go together, with the number of the document that should change."""
    known = models(documents)
    for model in known.values():
        for finding in _of_model(model, cluster, model.cold_start_s(cold_start_s)):
            yield model.number, finding
    brokers = named(documents, "Broker")
    for number_, trigger in named(documents, "Trigger").values():
        name = content(child(trigger, "spec", "broker"))
        _, broker = brokers.get(("Broker", key(trigger)[1], name), (0, None))
        asked = known.get(subscriber(trigger) or ("", "", ""))
        start_s = cold_start_s if asked is None else asked.cold_start_s(cold_start_s)
        for finding in _of_trigger(trigger, broker, asked, cluster, start_s):
            yield number_, finding


def _of_model(model: ModelService, cluster: Cluster, cold_start_s: float) -> Iterator[Finding]:
    if not model.knative:
        return
    default = cluster.number("revision-timeout-seconds")
    timeout, where = model.timeout_s(default), model.timeout or model.spec
    field = f"{model.spec.path}.{'timeout' if model.kserve else 'timeoutSeconds'}"
    if cold_start_s >= timeout:
        message = f"a cold start of {cold_start_s:g} s does not fit into {timeout:g} s"
        yield at(where, "cold-start-over-timeout", message, field=field)
    if not model.kserve:
        yield from _first_byte(model, timeout, cluster, cold_start_s)
    yield from _progress(model, cold_start_s)
    window = autoscaling(model.annotations, "window")
    if _go(window, _WINDOW_S) < cold_start_s:
        shown = content(window) or f"{_WINDOW_S:g}s"
        message = f"a window of {shown} is shorter than a cold start of {cold_start_s:g} s"
        yield at(window or model.spec, "short-window", message)
    concurrency = model.spec.get("containerConcurrency")
    if model.kserve and not number(concurrency):
        message = "every request that waited is let go at once to the first replica"
        path = f"{model.spec.path}.containerConcurrency"
        yield at(concurrency or model.spec, "unbounded-concurrency", message, field=path)


def _first_byte(
    model: ModelService, timeout: float, cluster: Cluster, cold_start_s: float
) -> Iterator[Finding]:
    start = model.spec.get("responseStartTimeoutSeconds")
    default = cluster.number("revision-response-start-timeout-seconds")
    if start is None and timeout > default:
        message = f"{timeout:g} s in all, but still {default} s to the first byte"
        path = f"{model.spec.path}.responseStartTimeoutSeconds"
        yield at(model.timeout or model.spec, "first-byte-timeout", message, field=path)
    limit = number(start)
    if start is not None and limit and limit <= cold_start_s < timeout:
        message = f"a cold start of {cold_start_s:g} s is longer than {limit} s to the first byte"
        yield at(start, "cold-start-over-timeout", message, f"Write {timeout:g}.")
    idle = model.spec.get("idleTimeoutSeconds")
    pause = number(idle)
    if idle is not None and pause and pause <= cold_start_s:
        message = f"{pause} s without a byte are over before a cold start of {cold_start_s:g} s"
        yield at(idle, "idle-timeout", message)


def _progress(model: ModelService, cold_start_s: float) -> Iterator[Finding]:
    node = model.annotations.get(PROGRESS_DEADLINE)
    deadline = _go(node, _PROGRESS_DEADLINE_S)
    if deadline <= cold_start_s:
        shown = content(node) or f"{_PROGRESS_DEADLINE_S:g}s"
        message = f"progress-deadline={shown} ends before a cold start of {cold_start_s:g} s"
        yield at(node or model.spec, "progress-deadline-short", message)


def _go(node: Node | None, default: float) -> float:
    try:
        return default if node is None else go_duration(content(node))
    except ValueError:
        return default


def _of_trigger(
    trigger: Table,
    broker: Table | None,
    model: ModelService | None,
    cluster: Cluster,
    cold_start_s: float,
) -> Iterator[Finding]:
    spec = child(trigger, "spec")
    assert spec is not None, "a Trigger without a spec is refused"
    delivery = delivery_of(trigger, broker)
    if delivery.policy.dead_letter_sink is None:
        yield _no_sink(broker, spec)
    if model is None:
        return
    timeout = model.timeout_s(cluster.number("revision-timeout-seconds"))
    yield from _attempt(trigger, broker, delivery, timeout)
    times, retry = delivery.policy.retry, delivery.retry
    path = f"{spec.path}.delivery.retry"
    if not times:
        said = "retry: 0 gives" if retry else "a delivery without retry gives"
        where = retry or child(spec, "delivery") or spec
        yield at(where, "no-retry", f"{said} an event one attempt", field=path)
        return
    # Knative holds a request while a replica starts; elsewhere it fails at once.
    held = timeout if model.knative else 0.0
    waits = delivery.waits_s
    if waits + held * (times + 1) < cold_start_s:
        message = f"{times} retries are over after {waits:g} s, before a cold start"
        yield at(retry or spec, "retries-shorter-than-start", message, field=path)


def _no_sink(broker: Table | None, spec: Node) -> Finding:
    message, fix = "neither the Trigger nor its Broker has a deadLetterSink", ""
    if broker is None:
        message = "the Trigger has no deadLetterSink, and its Broker is not among these documents"
    elif child(broker, "spec", "delivery", "deadLetterSink") is not None:
        message = f"a {class_of(broker)} takes no deadLetterSink from the Broker for this Trigger"
        fix = "Set delivery.deadLetterSink on the Trigger."
    path = f"{spec.path}.delivery.deadLetterSink"
    return at(child(spec, "delivery") or spec, "no-dead-letter", message, fix, field=path)


def _attempt(
    trigger: Table, broker: Table | None, delivery: TriggerDelivery, timeout: float
) -> Iterator[Finding]:
    """One attempt of the broker against one request of the service."""
    limit, lease = delivery.policy.timeout_s, delivery.policy.profile.ack_wait_s
    where, path = delivery.timeout or child(trigger, "spec") or trigger, "spec.delivery.timeout"
    if limit is not None and limit <= timeout:
        written = content(delivery.timeout) or f"the class's own {limit:g} s"
        message = f"{written} is not longer than the service's {timeout:g} s"
        fix = f"Write PT{timeout + 10:g}S or more."
        yield at(where, "delivery-timeout-short", message, fix, field=path)
    if lease is None:
        return
    lease, batch = lease if limit is None else limit, nats_batch(broker)
    if lease < batch * timeout:
        answers = "an answer" if batch == 1 else f"{batch} answers"
        message = f"the lease of {lease:g} s does not cover {answers} of {timeout:g} s"
        yield at(where, "lease-shorter-than-answer", message, field=path)
