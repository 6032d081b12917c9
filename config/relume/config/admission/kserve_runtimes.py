"""Serving runtimes, as KServe's webhook judges them (pkg/webhook/admission/servingruntime)."""

from relume.config.admission.judge import Judge, content, entries, fields, number, truth
from relume.config.admission.kserve import BLOCKED
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
    worker = fields(spec.get("workerSpec"))
    for name in ("pipelineParallelSize", "tensorParallelSize"):
        value, node = number(worker.get(name)), worker.get(name)
        if node is not None and value is not None and value < 1:
            judge.say(node, "out-of-range", f"{name} cannot be less than 1: {value}")
