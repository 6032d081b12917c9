"""KServe's documented validation: storage, measures, workers, canaries.

Each row: a change to a document that is accepted, the field that is named, the reason; no field
means that it stays accepted. The sources are named in the modules `kserve` and `kserve_components`
of `relume.cluster.admission`.
"""

from pathlib import Path
from typing import Any

import pytest

from .documents import ISVC, RUNTIME, changed, check, told

NOTES = "metadata annotations"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
GPU_TYPES = "serving.kserve.io/gpu-resource-types"
PREDICTOR = "spec.predictor"
M = "spec predictor model"


def on(base: dict[str, Any], *changes: tuple[str, object]) -> dict[str, Any]:
    for path, value in changes:
        base = changed(base, path, value)
    return base


STANDARD = on(ISVC, (f"{NOTES} serving.kserve.io/deploymentMode", "Standard"))
HPA = on(STANDARD, (f"{NOTES} {AUTOSCALER}", "hpa"))
KEDA = on(STANDARD, (f"{NOTES} {AUTOSCALER}", "keda"))
SEVERAL = on(ISVC, (f"{M} storageUri", None))
NODES = on(
    STANDARD,
    (f"{NOTES} {AUTOSCALER}", "none"),
    (f"{M} storageUri", "pvc://a/b"),
    ("spec predictor workerSpec", {"pipelineParallelSize": 2}),
)
CUSTOM = on(
    ISVC,
    (M, None),
    ("spec predictor containers", [{"name": "kserve-container", "image": "app"}]),
)
WORKERS = on(
    RUNTIME, ("spec workerSpec", {"containers": [{"name": "worker-container", "image": "app"}]})
)


def place(mount: str, uri: str = "s3://a") -> dict[str, str]:
    return {"uri": uri, "mountPath": mount}


def measure(kind: str, source: str, **inside: object) -> list[dict[str, object]]:
    return [{"type": kind, source: inside}]


def cpu(**target: object) -> list[dict[str, object]]:
    return measure("Resource", "resource", name="cpu", target=target)


def memory(**target: object) -> list[dict[str, object]]:
    return measure("Resource", "resource", name="memory", target=target)


def canary(share: int = 10, **predictor: object) -> dict[str, object]:
    model = {"modelFormat": {"name": "vLLM"}, "storageUri": "hf://a/b"}
    return {"predictor": {"name": "next", "model": model, **predictor}, "trafficPercent": share}


URIS = "spec predictor storageUris"
METRICS = "spec predictor autoScaling metrics"
AIM = f"{PREDICTOR}.autoScaling.metrics[0]"
WORKER = "spec predictor workerSpec"
GPU = {"limits": {"example.com/gpu": "1"}}
BACKEND = {"backend": "prometheus"}
ROWS: list[tuple[dict[str, Any], str, object, str | None, str | None]] = [
    (ISVC, URIS, [place("/a")], f"{PREDICTOR}.storageUris", "one-of"),
    (SEVERAL, URIS, [{"uri": "s3://a"}], None, None),
    (SEVERAL, URIS, [{"uri": "s3://a"}, {"uri": "s3://b"}], None, None),
    (SEVERAL, URIS, [place("/a/b"), place("/a/c")], None, None),
    (SEVERAL, URIS, [place("/a"), place("/b")], f"{PREDICTOR}.storageUris", "conflict"),
    (SEVERAL, URIS, [place("/")], f"{PREDICTOR}.storageUris[0].mountPath", "invalid-value"),
    (SEVERAL, URIS, [place("/a"), place("/b", "pvc://c")], None, None),
    (SEVERAL, URIS, [place("/a", "pvc://b"), place("/a", "pvc://c")], None, None),
    (
        SEVERAL,
        URIS,
        [place("/a/b"), place("/a/c"), place("/p", "pvc://b"), place("/p", "pvc://c")],
        f"{PREDICTOR}.storageUris[3].mountPath",
        "duplicate-item",
    ),
    (
        ISVC,
        f"{M} confidential",
        {"enabled": True, "resourceId": "a/b/c"},
        f"{PREDICTOR}.model.confidential.resourceId",
        "invalid-value",
    ),
    (ISVC, f"{M} confidential", {"enabled": True, "resourceId": "kbs:///a/b/c"}, None, None),
    (ISVC, f"{M} confidential", {"enabled": False, "resourceId": "a"}, None, None),
    (
        SEVERAL,
        f"{M} confidential",
        {"enabled": True},
        f"{PREDICTOR}.model.storageUri",
        "missing-field",
    ),
    (
        CUSTOM,
        "spec predictor containers 1",
        {"name": "transformer-container", "env": [{"name": "STORAGE_URI", "value": "s3://a"}]},
        f"{PREDICTOR}.containers[1].env[0].name",
        "not-allowed",
    ),
    (ISVC, "spec explainer", {"art": {"type": "a"}}, None, None),
    (
        ISVC,
        "spec explainer",
        {"art": {"type": "a"}, "containers": [{"name": "b", "image": "app"}]},
        "spec.explainer.art",
        "one-of",
    ),
    (HPA, METRICS, cpu(type="Utilization", averageUtilization=50), None, None),
    (HPA, METRICS, [{"type": "Resource"}], f"{AIM}.resource", "missing-field"),
    (HPA, METRICS, [{"type": "External"}], f"{AIM}.type", "unsupported-value"),
    (HPA, "spec predictor scaleTarget", 0, f"{PREDICTOR}.scaleTarget", "out-of-range"),
    (
        on(HPA, ("spec predictor scaleMetric", "memory")),
        "spec predictor scaleTarget",
        0,
        f"{PREDICTOR}.scaleTarget",
        "out-of-range",
    ),
    (KEDA, METRICS, cpu(type="Utilization", averageUtilization=50), None, None),
    (
        KEDA,
        METRICS,
        cpu(type="Utilization"),
        f"{AIM}.resource.target.averageUtilization",
        "missing-field",
    ),
    (
        KEDA,
        METRICS,
        cpu(type="Utilization", averageUtilization=101),
        f"{AIM}.resource.target.averageUtilization",
        "out-of-range",
    ),
    (
        KEDA,
        METRICS,
        cpu(type="AverageValue", averageValue="1"),
        f"{AIM}.resource.target.type",
        "unsupported-value",
    ),
    (KEDA, METRICS, memory(type="AverageValue", averageValue="1Gi"), None, None),
    (
        KEDA,
        METRICS,
        memory(type="AverageValue", averageValue="1Ki"),
        f"{AIM}.resource.target.averageValue",
        "out-of-range",
    ),
    (
        KEDA,
        METRICS,
        measure(
            "External",
            "external",
            metric={**BACKEND, "query": "q"},
            target={"type": "Value", "value": "5"},
        ),
        None,
        None,
    ),
    (
        KEDA,
        METRICS,
        measure("External", "external", metric=BACKEND, target={"type": "Value", "value": "5"}),
        f"{AIM}.external.metric.query",
        "missing-field",
    ),
    (NODES, f"{WORKER} tensorParallelSize", 2, None, None),
    (
        NODES,
        f"{WORKER} tensorParallelSize",
        0,
        f"{PREDICTOR}.workerSpec.tensorParallelSize",
        "out-of-range",
    ),
    (
        NODES,
        f"{M} resources",
        GPU,
        f"{PREDICTOR}.model.resources.limits.example.com/gpu",
        "unsupported-value",
    ),
    (on(NODES, (f"{NOTES} {GPU_TYPES}", '["example.com/gpu"]')), f"{M} resources", GPU, None, None),
    (NODES, f"{NOTES} {GPU_TYPES}", "[1]", f"metadata.annotations.{GPU_TYPES}", "invalid-value"),
    (ISVC, f"{M} resources", GPU, None, None),
    (WORKERS, "spec workerSpec pipelineParallelSize", 2, None, None),
    (WORKERS, "spec workerSpec containers", [], "spec.workerSpec.containers", "missing-field"),
    (
        WORKERS,
        "spec workerSpec containers 1",
        {"name": "b", "image": "app"},
        "spec.workerSpec.containers",
        "not-allowed",
    ),
    (
        WORKERS,
        "spec workerSpec containers 0 resources",
        GPU,
        "spec.workerSpec.containers[0].resources.limits.example.com/gpu",
        "unsupported-value",
    ),
    (
        WORKERS,
        "spec containers 0 env",
        [{"name": "TENSOR_PARALLEL_SIZE", "value": "2"}],
        "spec.containers[0].env[0].name",
        "not-allowed",
    ),
    (STANDARD, "spec canary", [canary()], None, None),
    (ISVC, "spec canary", [canary()], "spec.canary", "not-allowed"),
    (STANDARD, "spec canary", [canary(60), canary(60, name="c")], "spec.canary", "out-of-range"),
    (
        STANDARD,
        "spec canary",
        [canary(), canary()],
        "spec.canary[1].predictor.name",
        "duplicate-item",
    ),
    (
        STANDARD,
        "spec canary",
        [canary(maxReplicas=2)],
        "spec.canary[0].predictor.maxReplicas",
        "not-allowed",
    ),
    (
        STANDARD,
        "spec canary",
        [canary(minReplicas=2)],
        "spec.canary[0].predictor.minReplicas",
        "conflict",
    ),
    (STANDARD, "spec canary", [canary(model=None)], "spec.canary[0].predictor", "one-of"),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    ROWS,
    ids=[told(base, path, value, reason) for base, path, value, _, reason in ROWS],
)
def test_kserve(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)
