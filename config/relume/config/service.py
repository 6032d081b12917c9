"""Read an InferenceService: what KServe and Knative would make of it, for one machine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast, get_args

from relume.base.vocabulary import (
    AUTOSCALING,
    DEPLOYMENT_MODE,
    KNATIVE_SERVING,
    PROGRESS_DEADLINE,
    ZERO_MODE,
)
from relume.config.autoscaling import MAX_SCALE, MIN_SCALE, canonical, metric, read_autoscaling
from relume.config.durations import go_duration, read_seconds
from relume.config.fields import Resource
from relume.config.head import annotations
from relume.config.model import read_model
from relume.config.nodes import Node, Table
from relume.config.resources import Autoscaling, InferenceService, Origin, ZeroMode
from relume.config.service_fields import PREDICTOR, SPEC
from relume.config.waiting import check_waiting

MOST_CONCURRENCY = 1000  # Knative's container-concurrency-max-limit
MOST_TIMEOUT_S = 600  # Knative's max-revision-timeout-seconds
DEFAULT_TIMEOUT_S = 300  # Knative's revision-timeout-seconds; 0 means it too
DEFAULT_PROGRESS_DEADLINE_S = 600.0
DEFAULT_MIN_REPLICAS = 1  # KServe's

_PROGRESS_DEADLINES = (PROGRESS_DEADLINE, KNATIVE_SERVING + "progressDeadline")


def read_service(resource: Resource) -> InferenceService:
    """The InferenceService of `resource`; raises InvalidManifest for the first wrong field."""
    spec = resource.body.need("spec", "write spec.predictor").table()
    SPEC.check(spec, resource)
    predictor = spec.need("predictor", "write spec.predictor.model").table()
    PREDICTOR.check(predictor, resource)
    # KServe gives a revision both; the predictor's win.
    notes = canonical(resource.annotations | annotations(predictor))
    _check_annotations(notes, resource)
    check_waiting(notes)
    model = read_model(predictor, resource)
    scaling = _with_replicas(read_autoscaling(notes, resource), predictor, notes, resource)
    timeout = _bounded(predictor, "timeout", MOST_TIMEOUT_S) or DEFAULT_TIMEOUT_S
    return InferenceService(
        namespace=resource.namespace,
        name=resource.name,
        model_format=model.format,
        storage_uri=model.storage.uri,
        runtime=model.runtime,
        args=model.args,
        env=model.env or {},
        folder=model.storage.folder,
        mounts=model.mounts,
        min_replicas=scaling.min_scale,
        max_replicas=scaling.max_scale,
        container_concurrency=_bounded(predictor, "containerConcurrency", MOST_CONCURRENCY),
        timeout_s=float(timeout),
        response_start_timeout_s=float(timeout),
        progress_deadline_s=_progress_deadline(notes),
        autoscaling=scaling,
        annotations={key: node.text() for key, node in notes.items()},
        canary_percent=_canary_percent(predictor),
        zero=_zero_mode(notes),
        origin=resource.origin,
        storage_uri_origin=model.storage.origin,
        min_replicas_origin=_min_replicas_origin(predictor, notes, resource),
    )


def _with_replicas(
    scaling: Autoscaling, predictor: Table, notes: Mapping[str, Node], resource: Resource
) -> Autoscaling:
    """Put the predictor's own fields over the annotations, as KServe does.

    KServe keeps min-scale and max-scale off the revision. They count here where the field for them
    is missing, and the difference is noted.
    """
    low, high = predictor.get("minReplicas"), predictor.get("maxReplicas")
    for key, field, node in ((MIN_SCALE, "minReplicas", low), (MAX_SCALE, "maxReplicas", high)):
        if key in notes:
            what = "counts here, but KServe drops it" if node is None else "KServe drops it"
            resource.leave_out(notes[key], f"{what}: write spec.predictor.{field}")
    default = scaling.min_scale if MIN_SCALE in notes else DEFAULT_MIN_REPLICAS
    least = default if low is None else low.integer()
    most = scaling.max_scale if high is None else high.integer()
    if most and least > most:
        node = high or low or predictor
        raise node.wrong(f"'MinReplicas' cannot be greater than MaxReplicas: {least} > {most}")
    scaling = replace(scaling, min_scale=least, max_scale=most)
    if (counted := predictor.get("scaleMetric")) is not None:
        scaling = replace(scaling, metric=metric(counted))
    if (aim := predictor.get("scaleTarget")) is not None:
        scaling = replace(scaling, target=float(aim.integer(least=1)))
    return scaling


def _min_replicas_origin(
    predictor: Table, notes: Mapping[str, Node], resource: Resource
) -> Origin | None:
    """Where the minimum is written; where it is the default, the document that leaves it out."""
    node = predictor.get("minReplicas") or notes.get(MIN_SCALE)
    if node is not None:
        return node.origin
    at = resource.origin
    return None if at is None else replace(at, field="spec.predictor.minReplicas")


def _bounded(table: Table, name: str, most: int) -> int:
    node = table.get(name)
    return 0 if node is None else node.integer(0, most)


def _canary_percent(predictor: Table) -> int | None:
    """The share of the newest revision; Knative's webhook has its bounds (TrafficTarget)."""
    node = predictor.get("canaryTrafficPercent")
    return None if node is None else node.integer(0, 100)


def _progress_deadline(notes: Mapping[str, Node]) -> float:
    node = next((notes[key] for key in _PROGRESS_DEADLINES if key in notes), None)
    if node is None:
        return DEFAULT_PROGRESS_DEADLINE_S
    seconds = read_seconds(node, go_duration)
    if not seconds.is_integer():
        raise node.wrong(f"progress-deadline={node.text()} is not at second precision")
    if seconds <= 0:
        raise node.wrong(f"progress-deadline={node.text()} must be positive")
    return seconds


def _zero_mode(notes: Mapping[str, Node]) -> ZeroMode | None:
    if (node := notes.get(ZERO_MODE)) is None:
        return None
    for mode in get_args(ZeroMode):
        if node.text() == mode:
            return cast(ZeroMode, mode)
    raise node.wrong(
        f"{node.text()} is no mode: write process (nothing stays in memory at zero), template "
        "(vLLM stays imported) or engine (the loaded engine stays)"
    )


def _check_annotations(notes: Mapping[str, Node], resource: Resource) -> None:
    """Note annotations of Knative and KServe that have no effect here; others are the user's."""
    for key, node in notes.items():
        domain = key.partition("/")[0]
        if key.startswith(AUTOSCALING) or key in _PROGRESS_DEADLINES:
            continue
        if key == DEPLOYMENT_MODE:
            mode = node.text()
            if mode not in ("Knative", "Serverless"):
                resource.leave_out(node, f"{mode} mode is not here: it runs as in Knative mode")
        elif domain.endswith((".knative.dev", ".kserve.io")):
            resource.leave_out(node, "the annotation has no effect on this machine")
