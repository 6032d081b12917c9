"""Documents that admission accepts, and what a change to one of them does."""

from pathlib import Path
from typing import Any

import yaml

from relume.cluster.admission import SHIPPED, Admission, Cluster, admit
from relume.config.yaml_scalars import ServerDumper
from relume.config.yaml_source import documents

KSVC = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "s"},
    "spec": {
        "template": {"metadata": {"annotations": {}}, "spec": {"containers": [{"image": "app"}]}}
    },
}
ISVC = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "i", "annotations": {}},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "vLLM"}, "storageUri": "hf://a/b"}}},
}
BROKER = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Broker",
    "metadata": {"name": "b", "annotations": {}},
    "spec": {"delivery": {"retry": 1}},
}
TRIGGER = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Trigger",
    "metadata": {"name": "t", "annotations": {}},
    "spec": {"broker": "b", "subscriber": {"uri": "http://h/"}, "filters": []},
}
CLASS = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": "c"},
    "spec": {"selectors": [{"cel": {"expression": "device.driver == 'a'"}}]},
}
TEMPLATE = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "t"},
    "spec": {
        "spec": {"devices": {"requests": [{"name": "g", "exactly": {"deviceClassName": "c"}}]}}
    },
}
RUNTIME = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "r"},
    "spec": {
        "supportedModelFormats": [{"name": "vLLM", "autoSelect": True, "priority": 2}],
        "containers": [{"name": "kserve-container", "image": "app"}],
    },
}
ROUTE = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Route",
    "metadata": {"name": "r"},
    "spec": {"traffic": [{"configurationName": "c", "percent": 100}]},
}

POD = "spec.template.spec"
BOX = f"{POD}.containers[0]"
NOTES = "spec.template.metadata.annotations"
REQUEST = "spec.spec.devices.requests[0]"

P = "spec template spec"
C = f"{P} containers 0"
A = "spec template metadata annotations"
AUTO = "autoscaling.knative.dev"


def changed(base: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """`base` with `value` at a path of fields and [numbers], where " " parts the steps."""
    made: Any = yaml.safe_load(yaml.safe_dump(base))
    here = made
    *steps, last = path.split(" ")
    for step in steps:
        here = here[int(step)] if step.isdigit() else here.setdefault(step, {})
    if last.isdigit():
        here.extend([None] * (int(last) + 1 - len(here)))
        here[int(last)] = value
    elif value is None:
        here.pop(last, None)
    else:
        here[last] = value
    return made  # type: ignore[no-any-return]


def told(base: dict[str, Any], path: str, value: object, reason: str | None) -> str:
    """What a row of a table says, as a sentence: the name of its test."""
    shown = "nothing" if value is None else repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    outcome = "is accepted" if reason is None else f"is refused as {reason}"
    return f"a {base['kind']} with {shown} at {path.replace(' ', '.')} {outcome}"


def judged(folder: Path, document: object, cluster: Cluster = SHIPPED) -> Admission:
    (folder / "m.yaml").write_text(yaml.dump(document, Dumper=ServerDumper))
    (root,) = documents(folder / "m.yaml")
    return admit(root, cluster)


def hits(answer: Admission) -> set[tuple[str, str]]:
    return {(f.reason, f.field) for f in answer.findings if f.effect != "none"}


def check(
    folder: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    answer = judged(folder, changed(base, path, value))
    if field is None:
        assert (answer.verdict, hits(answer)) == ("accepted", set())
        return
    assert (reason, field) in hits(answer)
    assert answer.verdict == ("pruned" if reason == "unknown-field" else "refused")
