"""Read manifests as a cluster does: what it refuses is refused here, and nothing else.

The rules are those of `relume.cluster.admission`. A field that a feature flag guards passes,
because the flags of the cluster are not known here; a note says what the field needs. Only the
values that other documents follow from are read: times, replicas, classes and references.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import BROKER_CLASS, PROGRESS_DEADLINE
from relume.cluster.admission import admit
from relume.cluster.admission.judge import child, content, fields, number
from relume.cluster.findings import Finding
from relume.cluster.render.draft import Book, Note
from relume.cluster.render.originals import ANNOTATIONS, MODEL, PREDICTOR, Original
from relume.config import Broker, Delivery, Destination, InferenceService, Ref, Trigger
from relume.config.autoscaling import canonical
from relume.config.durations import go_duration, iso8601_duration
from relume.config.nodes import Node, Table

DEFAULT_TIMEOUT_S = 300  # Knative's revision-timeout-seconds; 0 means it too
_DEFAULT_PROGRESS_S = 600.0
_MOST_RETRIES = 1000  # what is summed up; more than any start needs
_FLAG_OFF = "feature-off"
_KEPT_FOR_A_SETTING = "retryAfterMax"  # rendering asks for its flag itself


def check_admitted(table: Table, book: Book) -> None:
    """Note what needs a feature flag of the cluster.

    Raises InvalidManifest for the first field that no cluster takes, or that it would drop.
    """
    wrong: list[Finding] = []
    for finding in admit(table).findings:
        if finding.effect == "none":
            continue
        if finding.reason != _FLAG_OFF:
            wrong.append(finding)
        elif not finding.field.endswith(_KEPT_FOR_A_SETTING):
            told = f"{finding.message}: a flag of the cluster is off as shipped. {finding.fix}"
            book.tell(Note(finding.file, finding.line or 0, finding.field, told))
    for finding in sorted(wrong, key=lambda one: one.line or 0):
        raise refused(finding, table.file)


def refused(finding: Finding, file: Path) -> InvalidManifest:
    """The error that a finding is."""
    line, message = finding.line or 1, finding.message
    return InvalidManifest(message, file=finding.file or file, line=line, field=finding.field)


def check_unique(documents: Iterable[Original]) -> None:
    """Raise InvalidManifest for the second document of one kind, namespace and name.

    A Knative Service with the name of a function is not a second one: it configures the function.
    """
    seen: dict[tuple[str, str, str, str, bool], Original] = {}
    for one in documents:
        namespace = one.namespace if one.namespaced else ""
        first = seen.setdefault((one.group, one.kind, namespace, one.name, one.of_function), one)
        if first is not one:
            place = f"{first.table.file}:{first.at('metadata', 'name').line}"
            name = f"{namespace}/{one.name}" if namespace else one.name
            raise one.at("metadata", "name").wrong(
                f"{one.kind} {name} is already defined at {place}"
            )


def read_service(original: Original) -> InferenceService:
    """The values of an InferenceService that a rendering computes with; it has been admitted."""
    predictor = original.node(*PREDICTOR)
    notes = annotations_of(original)
    least = number(predictor, "minReplicas")
    timeout = float(number(predictor, "timeout") or DEFAULT_TIMEOUT_S)
    runtime = original.node(*MODEL, "runtime")
    return InferenceService(
        namespace=original.namespace,
        name=original.name,
        model_format=content(original.node(*MODEL, "modelFormat", "name")),
        storage_uri=content(original.node(*MODEL, "storageUri")),
        runtime=content(runtime) or None,
        min_replicas=1 if least is None else least,
        max_replicas=number(predictor, "maxReplicas") or 0,
        container_concurrency=number(predictor, "containerConcurrency") or 0,
        timeout_s=timeout,
        response_start_timeout_s=timeout,
        progress_deadline_s=_progress_s(notes.get(PROGRESS_DEADLINE)),
        annotations={key: content(node) for key, node in notes.items()},
        origin=original.at("metadata", "name").origin,
    )


def annotations_of(original: Original) -> dict[str, Node]:
    """The annotations of a revision: the service's, and over them the predictor's."""
    own = fields(original.node(*ANNOTATIONS))
    return canonical({**own, **fields(original.node(*PREDICTOR), "annotations")})


def _progress_s(node: Node | None) -> float:
    try:
        return _DEFAULT_PROGRESS_S if node is None else go_duration(content(node))
    except ValueError:
        return _DEFAULT_PROGRESS_S


def read_broker(original: Original) -> Broker:
    """The class and the delivery of a Broker; it has been admitted."""
    chosen = fields(original.node(*ANNOTATIONS)).get(BROKER_CLASS)
    return Broker(
        namespace=original.namespace,
        name=original.name,
        broker_class=None if chosen is None else content(chosen),
        delivery=read_delivery(original.node("spec", "delivery")),
        origin=original.at("metadata", "name").origin,
    )


@dataclass(frozen=True, slots=True)
class ReadTrigger:
    """A Trigger and the namespace of its Broker, which `brokerRef` may name."""

    trigger: Trigger
    broker_namespace: str


def read_trigger(original: Original) -> ReadTrigger:
    """The references and the delivery of a Trigger; it has been admitted."""
    spec = original.node("spec")
    elsewhere = child(spec, "brokerRef")
    broker = content(spec, "broker") or content(elsewhere, "name")
    trigger = Trigger(
        namespace=original.namespace,
        name=original.name,
        broker=broker,
        subscriber=Destination(ref=read_ref(child(spec, "subscriber", "ref"), original)),
        delivery=read_delivery(child(spec, "delivery")),
        origin=original.at("metadata", "name").origin,
    )
    return ReadTrigger(trigger, content(elsewhere, "namespace") or original.namespace)


def read_ref(node: Node | None, original: Original) -> Ref | None:
    """A reference of `original`, None where there is none."""
    if node is None:
        return None
    return Ref(
        kind=content(node, "kind"),
        namespace=content(node, "namespace") or original.namespace,
        name=content(node, "name"),
        api_version=content(node, "apiVersion"),
    )


def read_delivery(node: Node | None) -> Delivery | None:
    """A delivery that has been admitted. Of its sink only that it is there is kept."""
    if node is None:
        return None
    said = fields(node)
    retry, policy = said.get("retry"), content(said.get("backoffPolicy"))
    backoff: Literal["linear", "exponential"] = "linear" if policy == "linear" else "exponential"
    return Delivery(
        retry=None if retry is None else min(number(retry) or 0, _MOST_RETRIES),
        backoff_policy=backoff if policy else None,
        backoff_delay_s=_seconds(said.get("backoffDelay"), None),
        # A timeout of months or years has no fixed length here, and is longer than every answer.
        timeout_s=_seconds(said.get("timeout"), math.inf),
        dead_letter_sink=Destination() if "deadLetterSink" in said else None,
        retry_after_max_s=_seconds(said.get("retryAfterMax"), math.inf),
    )


def _seconds(node: Node | None, unreadable: float | None) -> float | None:
    try:
        return None if node is None else iso8601_duration(content(node))
    except ValueError:
        return unreadable
