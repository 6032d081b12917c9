"""What the tests apply, and what controllers make of it on the small cluster."""

from pathlib import Path
from typing import Any

from relume.base.vocabulary import SERVICE_LABEL
from relume.cluster.apply.manifests import Source, read_source
from relume.cluster.render import Images, Options

from .cluster import Cluster, Object

DIGEST = "sha256:" + 32 * "ab"
IMAGES = Images(every=f"images.example/relume@{DIGEST}")
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices/chat"
BROKER = "/apis/eventing.knative.dev/v1/namespaces/models/brokers/chat"
TRIGGER = "/apis/eventing.knative.dev/v1/namespaces/models/triggers/chat"
POD = "/api/v1/namespaces/models/pods/chat-00001"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/models/resourceclaims"
TEXT = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: chat, namespace: models}
spec:
  predictor:
    minReplicas: 0
    maxReplicas: 1
    model:
      modelFormat: {name: vLLM}
      storageUri: hf://org/model
      resources:
        limits: {deviceclass.resource.kubernetes.io/llm-gpu-24g: 1}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: chat, namespace: models}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: chat, namespace: models}
spec:
  broker: chat
  subscriber:
    ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: chat}
    uri: /v1/chat/completions
"""


def source(folder: Path, route: Any = "extended-resource") -> Source:
    """The three documents above, rendered."""
    file = folder / "chat.yaml"
    file.write_text(TEXT)
    found = read_source([file], Options(route, images=IMAGES))
    return Source(found.manifests)  # the settings have tests of their own


def conditions(ready: str, reason: str = "", message: str = "") -> list[Object]:
    return [{"type": "Ready", "status": ready, "reason": reason, "message": message}]


def settle(cluster: Cluster, seconds: float = 4) -> None:
    """Controllers make everything Ready after some seconds."""
    for path in (SERVICE, BROKER, TRIGGER):
        cluster.at(seconds, cluster.set_status(path, conditions=conditions("True")))


def pod(
    *, ready: bool, claim: str = "", unscheduled: str = "", extended: bool = True, **spec: Any
) -> Object:
    """The first pod of the service, with a claim by the one way or the other."""
    status: Object = {"phase": "Running" if ready else "Pending"}
    status["conditions"] = conditions("True" if ready else "False")
    if unscheduled:
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        status["conditions"].append(scheduled | {"message": unscheduled})
    if claim and extended:
        status["extendedResourceClaimStatus"] = {"resourceClaimName": claim}
    elif claim:
        status["resourceClaimStatuses"] = [{"name": "device", "resourceClaimName": claim}]
    if ready:
        spec["nodeName"] = "node-1"
    limits = {"deviceclass.resource.kubernetes.io/llm-gpu-24g": "1"}
    container = {"name": "kserve-container", "resources": {"limits": limits}}
    metadata = {"name": "chat-00001", "namespace": "models", "uid": "pod-1"}
    metadata["creationTimestamp"] = "2026-11-23T10:00:01Z"
    metadata["labels"] = {SERVICE_LABEL: "chat"}  # type: ignore[assignment]
    return {"metadata": metadata, "spec": {"containers": [container], **spec}, "status": status}


def claim(name: str, *, reserved: str = "pod-1") -> Object:
    """An allocated claim."""
    result = {"driver": "gpu.nvidia.com", "pool": "node-1", "device": "gpu-0", "request": "r"}
    status = {
        "allocation": {"devices": {"results": [result]}},
        "reservedFor": [{"resource": "pods", "name": "chat-00001", "uid": reserved}],
    }
    return {"metadata": {"name": name, "namespace": "models"}, "spec": {}, "status": status}


def slice_(memory: str) -> Object:
    """One node with one GPU."""
    device = {
        "name": "gpu-0",
        "attributes": {"type": {"string": "gpu"}, "productName": {"string": "NVIDIA T4"}},
        "capacity": {"memory": {"value": memory}},
    }
    pool = {"name": "node-1", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": "node-1", "pool": pool, "devices": [device]}
    return {"metadata": {"name": "node-1"}, "spec": spec}


class Told:
    """An ApplyProgress that remembers."""

    def __init__(self) -> None:
        self.doing: list[str] = []
        self.lines: list[str] = []
        self.reports: list[Any] = []

    def now(self, doing: str) -> None:
        self.doing.append(doing)

    def say(self, line: str, tone: str = "") -> None:
        self.lines.append(line)

    def explain(self, reports: Any) -> None:
        self.reports += reports

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
