"""Several nodes for one replica, of an InferenceService and of a serving runtime.

Source: kserve/kserve pkg/apis/serving/v1beta1/inference_service_validation.go,
pkg/webhook/admission/servingruntime/servingruntime_webhook.go, pkg/utils/utils.go.
"""

import json
from collections.abc import Mapping

from relume.cluster.admission.judge import Judge, content, entries, fields, number
from relume.config.nodes import Node

GPU_TYPES = "serving.kserve.io/gpu-resource-types"
_GPUS = frozenset({"nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi"})
_BASIC = frozenset({"cpu", "memory", "storage", "ephemeral-storage"})
_SIZES = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")


def judge_worker(worker: Node, judge: Judge) -> None:
    """`workerSpec`: one container, and sizes from 1."""
    containers = fields(worker).get("containers")
    if containers is not None and len(entries(containers)) > 1:
        message = "setting multiple containers in workerSpec is not allowed"
        judge.say(containers, "not-allowed", message)
    for name in ("pipelineParallelSize", "tensorParallelSize"):
        node = fields(worker).get(name)
        value = number(node)
        if node is not None and value is not None and value < 1:
            judge.say(node, "out-of-range", f"{name} cannot be less than 1: {value}")


def judge_head(container: Node, annotations: Mapping[str, Node], judge: Judge) -> None:
    """The container that the workers belong to: KServe itself sets the sizes in it."""
    for variable in entries(fields(container).get("env")):
        name = fields(variable).get("name")
        if name is not None and content(name) in _SIZES:
            message = f"setting {content(name)} in environment variables is not allowed"
            judge.say(name, "not-allowed", message)
    judge_devices(container, annotations, judge)


def judge_devices(container: Node, annotations: Mapping[str, Node], judge: Judge) -> None:
    """Every extended resource must be a GPU that KServe knows, or that an annotation names."""
    known = _GPUS | _named(annotations.get(GPU_TYPES), judge)
    resources = fields(fields(container).get("resources"))
    for kind in ("limits", "requests"):
        for name, node in fields(resources.get(kind)).items():
            if name not in _BASIC and name not in known:
                judge.say(
                    node,
                    "unsupported-value",
                    f"unknown GPU resource type in a container: {name}",
                    f"Write the annotation {GPU_TYPES}: '[\"{name}\"]'.",
                )


def _named(annotation: Node | None, judge: Judge) -> frozenset[str]:
    if annotation is None or not content(annotation):
        return frozenset()
    try:
        names = json.loads(content(annotation))
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(n and type(n) is str for n in names):
        judge.invalid(annotation, "must be a JSON array of names")
        return frozenset()
    return frozenset(names)
