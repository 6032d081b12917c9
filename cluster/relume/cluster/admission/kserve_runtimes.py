"""Serving runtimes, as KServe's webhook judges them (pkg/webhook/admission/servingruntime)."""

from collections.abc import Mapping

from relume.cluster.admission.judge import Judge, content, entries, fields, number, truth
from relume.cluster.admission.kserve import BLOCKED
from relume.cluster.admission.kserve_workers import judge_devices, judge_head, judge_worker
from relume.config.nodes import Node, Table


def judge_runtime(document: Table, judge: Judge) -> None:
    """serving.kserve.io/v1alpha1 ServingRuntime and ClusterServingRuntime."""
    spec = fields(document.get("spec"))
    if truth(spec.get("disabled")):
        return
    priorities: dict[str, tuple[int, Node]] = {}
    for one in entries(spec.get("supportedModelFormats")):
        inside = fields(one)
        priority, name = number(inside.get("priority")), content(inside.get("name"))
        if not truth(inside.get("autoSelect")) or priority is None:
            continue
        first = priorities.setdefault(name, (priority, one))
        if first[0] != priority:
            message = f"different priorities assigned for the model format {name}"
            judge.say(inside["priority"], "conflict", message)
    for owner in (document.get("spec"), spec.get("workerSpec")):
        for container in entries(fields(owner).get("containers")):
            for variable in entries(fields(container).get("env")):
                name_node = fields(variable).get("name")
                if name_node is not None and content(name_node) == BLOCKED:
                    message = f"setting {BLOCKED} is not allowed for security reasons"
                    judge.say(name_node, "not-allowed", message)
    if (worker := spec.get("workerSpec")) is not None:
        _judge_worker(worker, spec, judge)


def _judge_worker(worker: Node, spec: Mapping[str, Node], judge: Judge) -> None:
    judge_worker(worker, judge)
    annotations = fields(spec.get("annotations"))
    for container in entries(spec.get("containers")):
        if content(fields(container).get("name")) == "kserve-container":
            judge_head(container, annotations, judge)
    workers = entries(fields(worker).get("containers"))
    if not workers:
        judge.missing(worker, "containers")
    elif content(fields(workers[0]).get("name")) == "worker-container":
        judge_devices(workers[0], annotations, judge)
