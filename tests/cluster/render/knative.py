"""KServe's and Knative's part, as far as fields go: from runtime and service to what is left.

Sources: kserve pkg/controller/v1beta1/inferenceservice (utils.go, ksvc_reconciler.go); knative
serving pkg/apis/serving/fieldmask.go and pkg/apis/config/features.go.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from relume.cluster.admission.revision_pods import FLAGS

Table = dict[str, Any]
_KEYS = {"env": "name", "volumeMounts": "mountPath", "ports": "containerPort", "volumes": "name"}
_EXTENSION = {
    "model",
    "annotations",
    "labels",
    "minReplicas",
    "maxReplicas",
    "containerConcurrency",
    "timeout",
    "scaleTarget",
    "scaleMetric",
}
_MODEL_ONLY = {"modelFormat", "storageUri", "runtime", "protocolVersion", "runtimeVersion"}
ALWAYS = {
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "imagePullSecrets",
    "serviceAccountName",
    "volumes",
}
CONTAINER = {
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
    "workingDir",
}
SECURITY = {
    "allowPrivilegeEscalation",
    "capabilities",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
}
MOUNT = {"mountPath", "name", "readOnly", "subPath"}
VOLUMES = {"configMap": None, "projected": None, "secret": None, "emptyDir": "volumes-emptydir"}


def knative_service(service: Table, runtime: Table) -> Table:
    """The Knative Service that KServe writes for an InferenceService in Knative mode."""
    predictor = service["spec"]["predictor"]
    ours = runtime["spec"]
    model = {k: v for k, v in predictor["model"].items() if k not in _MODEL_ONLY}
    container = _merge(ours["containers"][0], model)
    container["args"] = ours["containers"][0].get("args", []) + model.get("args", [])
    container["env"] = [
        *container.get("env", []),
        {"name": "INFERENCE_SERVICE_NAME", "value": service["metadata"]["name"]},
    ]
    pod = {key: value for key, value in predictor.items() if key not in _EXTENSION}
    spec = _merge({"volumes": ours.get("volumes", [])}, pod)
    spec["containers"] = [container]
    timeout = predictor.get("timeout")
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": f"{service['metadata']['name']}-predictor"},
        "spec": {
            "template": {
                "metadata": {
                    "annotations": ours.get("annotations", {})
                    | service["metadata"].get("annotations", {})
                    | predictor.get("annotations", {})
                },
                "spec": {
                    "containerConcurrency": predictor.get("containerConcurrency", 0),
                    "timeoutSeconds": timeout,
                    "responseStartTimeoutSeconds": timeout,
                    **spec,
                },
            }
        },
    }


def mask(pod: Table, features: Mapping[str, str]) -> Table:
    """What Knative keeps of a revision's pod with these features."""
    allowed = ALWAYS | {
        field
        for field, (flag, _) in FLAGS.items()
        if features[flag].lower() in ("enabled", "allowed")
    }
    kept = {key: deepcopy(value) for key, value in pod.items() if key in allowed}
    kept["containers"] = [_container(container) for container in kept["containers"]]
    kept["volumes"] = [_volume(volume, features) for volume in kept.get("volumes", [])]
    return kept


def _container(container: Table) -> Table:
    kept = {key: value for key, value in container.items() if key in CONTAINER}
    kept["resources"] = {k: v for k, v in kept["resources"].items() if k in ("limits", "requests")}
    kept["volumeMounts"] = [
        {k: v for k, v in mount.items() if k in MOUNT} for mount in kept["volumeMounts"]
    ]
    context = kept["securityContext"].items()
    kept["securityContext"] = {k: v for k, v in context if k in SECURITY}
    return kept


def _volume(volume: Table, features: Mapping[str, str]) -> Table:
    def is_kept(source: str) -> bool:
        flag = VOLUMES.get(source, "")
        return flag is None or features.get(f"kubernetes.podspec-{flag}") == "enabled"

    return {key: value for key, value in volume.items() if key == "name" or is_kept(key)}


def _merge(base: Any, over: Any, key: str = "") -> Any:
    """A strategic merge, for the lists that occur here; other lists are replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = {name: deepcopy(value) for name, value in base.items() if name not in over}
        return merged | {
            name: _merge(base[name], value, name) if name in base else deepcopy(value)
            for name, value in over.items()
        }
    if isinstance(base, list) and isinstance(over, list) and key in _KEYS:
        by = {item[_KEYS[key]]: item for item in base}
        for item in over:
            by[item[_KEYS[key]]] = _merge(by.get(item[_KEYS[key]], {}), item)
        return list(by.values())
    return deepcopy(over)
