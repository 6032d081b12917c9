"""What a cluster shows of each item, by reading it and by dry runs: nothing is changed.

An item passes only where all that it demands was seen. What can be read and is not enough is told
as `unknown`, with what was seen and what was not tried.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from relume.base.vocabulary import KSERVE_V1BETA1, RESOURCE_V1, SERVICE_LABEL, Json
from relume.cluster.apply.api import condition, is_ready, objects, part, table, text
from relume.cluster.conformance.evidence import Recorder, Seen

_VISIBLE, _NONE_VISIBLE = "NVIDIA_VISIBLE_DEVICES", ("", "none", "void")
Probe = Callable[[Recorder], Seen]

_RESOURCE = f"/apis/{RESOURCE_V1}"
_DRA_KINDS = ("DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice")
_ISVC_CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
_GANG_APIS = {
    "scheduling.volcano.sh": "Volcano",
    "kueue.x-k8s.io": "Kueue",
    "scheduling.x-k8s.io": "the coscheduling plugin",
    "scheduling.run.ai": "KAI",
}


def dra_support(cluster: Recorder) -> Seen:
    """Four kinds of resource.k8s.io/v1, and a slice with a device in it."""
    kinds = {text(each, "kind") for each in objects(cluster.get(_RESOURCE), "resources")}
    missing = [kind for kind in _DRA_KINDS if kind not in kinds]
    if missing:
        return Seen("fail", f"{RESOURCE_V1} does not serve {', '.join(missing)}")
    slices = cluster.list(f"{_RESOURCE}/resourceslices") or ()
    devices = sum(len(objects(each, "spec", "devices")) for each in slices)
    if devices == 0:
        return Seen("fail", f"{RESOURCE_V1} is served, and no driver publishes a device")
    return Seen("pass", f"{RESOURCE_V1} with {devices} devices in {len(slices)} slices")


def driver_runtime_management(cluster: Recorder) -> Seen:
    """Devices that publish a driver version."""
    versions: set[str] = set()
    count = 0
    for device in _devices(cluster):
        count += 1
        for name, value in table(device, "attributes").items():
            if name.rpartition("/")[2].lower().endswith("driverversion"):
                versions |= {str(each) for each in table(value).values()}
    if not versions:
        return Seen("unknown", f"none of {count} devices publishes a driver version")
    found = ", ".join(sorted(versions))
    return Seen("unknown", f"devices publish {found}; it was not compared with what a pod sees")


def gpu_sharing(cluster: Recorder) -> Seen:
    """Devices that several claims may share, or that are cut into parts."""
    devices = _devices(cluster)
    shared = [each for each in devices if part(each, "allowMultipleAllocations") is True]
    parts = [each for each in devices if objects(each, "consumesCounters")]
    if not shared and not parts:
        return Seen("unknown", "no device allows several allocations or is a part of another")
    saw = f"{len(shared)} devices allow several allocations, {len(parts)} are parts of others"
    return Seen("unknown", f"{saw}; two workloads on one device were not tried")


def ai_inference(cluster: Recorder) -> Seen:
    """A GatewayClass that a controller has accepted."""
    classes = cluster.list("/apis/gateway.networking.k8s.io/v1/gatewayclasses")
    if classes is None:
        return Seen("fail", "gateway.networking.k8s.io/v1 is not served")
    accepted = [_name(c) for c in classes if text(condition(c, "Accepted"), "status") == "True"]
    if not accepted:
        return Seen("fail", f"no controller has accepted one of {len(classes)} GatewayClasses")
    return Seen("unknown", f"{', '.join(accepted)} accepted; no request was routed")


def advanced_inference_ingress(cluster: Recorder) -> Seen:
    """An InferencePool; its members are probed by `relume probe llm-d`."""
    pools = cluster.list("/apis/inference.networking.k8s.io/v1/inferencepools")
    if pools is None:
        return Seen("fail", "inference.networking.k8s.io/v1 is not served")
    return Seen(
        "unknown",
        f"{len(pools)} pools; whether a predictor can be a member says `relume probe llm-d`",
    )


def gang_scheduling(cluster: Recorder) -> Seen:
    """A scheduler for groups, by its API."""
    groups = {text(each, "name") for each in objects(cluster.get("/apis"), "groups")}
    found = [name for api, name in _GANG_APIS.items() if api in groups]
    if not found:
        return Seen("unknown", "none of the schedulers for groups that we know is installed")
    return Seen("unknown", f"{', '.join(found)} is installed; no group was scheduled")


def pod_autoscaling(cluster: Recorder) -> Seen:
    """The metrics that a HorizontalPodAutoscaler can read beside CPU and memory."""
    groups = {text(each, "name") for each in objects(cluster.get("/apis"), "groups")}
    wanted = {"custom.metrics.k8s.io", "external.metrics.k8s.io"} & groups
    if "autoscaling" not in groups:
        return Seen("fail", "autoscaling/v2 is not served")
    if not wanted:
        return Seen("fail", "neither custom.metrics.k8s.io nor external.metrics.k8s.io is served")
    served = ", ".join(sorted(wanted))
    return Seen("unknown", f"{served} is served; nothing was scaled (Knative's own does not count)")


def ai_service_metrics(cluster: Recorder) -> Seen:
    """Monitors that choose the pods of models."""
    monitors = cluster.list("/apis/monitoring.coreos.com/v1/podmonitors")
    services = cluster.list("/apis/monitoring.coreos.com/v1/servicemonitors")
    if monitors is None and services is None:
        return Seen("unknown", "the Prometheus operator is not installed; annotations may do")
    ours = [_name(m) for m in (*(monitors or ()), *(services or ())) if _mentions(m, "kserve")]
    if not ours:
        return Seen("fail", "no PodMonitor or ServiceMonitor chooses the pods of models")
    return Seen("unknown", f"{', '.join(ours)} choose them; no count of requests was compared")


def secure_accelerator_access(cluster: Recorder) -> Seen:
    """Pods of models get devices by claims or resources, and in no other way."""
    found = cluster.list("/api/v1/pods", keep=_about_devices) or ()
    pods = [pod for pod in found if SERVICE_LABEL in table(pod, "metadata", "labels")]
    if not pods:
        return Seen("unknown", "no pod of an InferenceService runs")
    wrong = [f"{_name(pod)}: {why}" for pod in pods for why in ways_around(table(pod, "spec"))]
    if wrong:
        return Seen("fail", "; ".join(wrong))
    return Seen(
        "unknown",
        f"{len(pods)} pods have no way around their claims; a second container was not tried",
    )


def ways_around(pod: Json) -> Iterator[str]:
    """How a pod would reach devices that it was not given."""
    for volume in objects(pod, "volumes"):
        path = text(volume, "hostPath", "path")
        if path.rstrip("/") == "/dev" or path.startswith("/dev/"):
            yield f"hostPath {path}"
    for container in (*objects(pod, "initContainers"), *objects(pod, "containers")):
        name = text(container, "name")
        if part(container, "securityContext", "privileged") is True:
            yield f"container {name} is privileged"
        for variable in objects(container, "env"):
            if text(variable, "name") == "NVIDIA_VISIBLE_DEVICES" and text(
                variable, "value"
            ) not in (
                "",
                "none",
                "void",
            ):
                yield f"container {name} sets NVIDIA_VISIBLE_DEVICES"


def _about_devices(pod: Json) -> Json:
    """Of a pod what concerns devices; the rest may hold secrets."""
    spec = table(pod, "spec")
    ways = list(ways_around(spec)) if SERVICE_LABEL in table(pod, "metadata", "labels") else []
    claims = [text(each, "name") for each in objects(spec, "resourceClaims")]
    return {"pod": _name(pod), "claims": claims, "ways around them": ways}


def robust_controller(cluster: Recorder) -> Seen:
    """KServe: the kind is there, a broken InferenceService is refused, a good one works."""
    crd = cluster.get(f"{_ISVC_CRD}inferenceservices.serving.kserve.io")
    if crd is None or text(condition(crd, "Established"), "status") != "True":
        return Seen("fail", "InferenceServices are not established")
    path = f"/apis/{KSERVE_V1BETA1}/namespaces/default/inferenceservices"
    refused = cluster.try_create(path, _service("relume-conformance-broken", min_replicas=-1))
    if refused.ok:
        return Seen("fail", "an InferenceService with minReplicas -1 is accepted")
    good = cluster.try_create(path, _service("relume-conformance-good", min_replicas=0))
    if not good.ok:
        return Seen("unknown", f"a good one is refused, too: {good.message}")
    services = cluster.list(f"/apis/{KSERVE_V1BETA1}/inferenceservices", keep=_readiness) or ()
    ready = [_name(service) for service in services if is_ready(service)]
    if not ready:
        return Seen("unknown", "a broken one is refused and a good one accepted; none is ready")
    return Seen("pass", f"a broken one is refused, and {len(ready)} of {len(services)} are ready")


def workload_sandboxing(cluster: Recorder) -> Seen:
    """RuntimeClasses beside the ordinary one."""
    classes = cluster.list("/apis/node.k8s.io/v1/runtimeclasses") or ()
    found = {text(each, "handler") for each in classes} - {"runc", "crun", ""}
    if not found:
        return Seen("unknown", "no RuntimeClass has a handler of a sandbox")
    return Seen("unknown", f"handlers {', '.join(sorted(found))}; no pod was run in one")


def not_tried(cluster: Recorder) -> Seen:
    """For what only a test of the platform itself can show."""
    return Seen("unknown", "the platform's own test shows it; nothing of it can be read")


PROBES: Mapping[str, Probe] = {
    "dra_support": dra_support,
    "driver_runtime_management": driver_runtime_management,
    "gpu_sharing": gpu_sharing,
    "ai_inference": ai_inference,
    "advanced_inference_ingress": advanced_inference_ingress,
    "gang_scheduling": gang_scheduling,
    "pod_autoscaling": pod_autoscaling,
    "ai_service_metrics": ai_service_metrics,
    "secure_accelerator_access": secure_accelerator_access,
    "robust_controller": robust_controller,
    "workload_sandboxing": workload_sandboxing,
}


def _devices(cluster: Recorder) -> Sequence[Json]:
    slices = cluster.list(f"{_RESOURCE}/resourceslices") or ()
    return [device for each in slices for device in objects(each, "spec", "devices")]


def _name(value: Json) -> str:
    namespace = text(value, "metadata", "namespace")
    name = text(value, "metadata", "name")
    return f"{namespace}/{name}" if namespace else name


def _readiness(service: Json) -> Json:
    return {"service": _name(service), "ready": is_ready(service)}


def _mentions(value: object, word: str) -> bool:
    if isinstance(value, dict):
        return any(_mentions(k, word) or _mentions(v, word) for k, v in value.items())
    if isinstance(value, list):
        return any(_mentions(each, word) for each in value)
    return isinstance(value, str) and word in value


def _service(name: str, *, min_replicas: int) -> Json:
    model = {"modelFormat": {"name": "vLLM"}, "storageUri": "hf://example/model"}
    return {
        "apiVersion": KSERVE_V1BETA1,
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"predictor": {"minReplicas": min_replicas, "model": model}},
    }
