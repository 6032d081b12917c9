"""Every field of an InferenceService, and what becomes of it on one machine."""

from relume.config.fields import Fields

_NO_POD = "a predictor is a process here, not a pod"
_NO_SCHEDULER = "there is one machine to run on"
_NO_IDENTITY = "a predictor runs as you, without a service account"
_OWN_PROBES = "the plane probes the predictor itself"
_ONE_REVISION = "there is one revision, and it gets every request"
_USE_MODEL = "write spec.predictor.model with modelFormat and storageUri"
_RUNTIME = "Relume runs its own vLLM runtime: write spec.predictor.model"
_FILES = "files that a cluster mounts are not here"

SPEC = Fields(
    honoured=frozenset({"predictor"}),
    refused={
        "transformer": "only the predictor runs here",
        "explainer": "only the predictor runs here",
        "canary": "one revision runs here",
    },
)

PREDICTOR = Fields(
    honoured=frozenset(
        {
            "model",
            "annotations",
            "minReplicas",
            "maxReplicas",
            "scaleTarget",
            "scaleMetric",
            "containerConcurrency",
            "timeout",
        }
    ),
    harmless={
        "labels": "nothing on this machine selects by label",
        "logger": "payloads are not copied to a logger",
        "batcher": "vLLM batches by itself",
        "canaryTrafficPercent": _ONE_REVISION,
        "deploymentStrategy": _ONE_REVISION,
        "autoScaling": "KEDA is not here; minReplicas, scaleTarget and annotations count",
        "scaleMetricType": "the target is an average for each replica",
        "resources": "a predictor shares this machine's CPU and memory",
        "resourceClaims": "no device is claimed on this machine",
        "terminationGracePeriodSeconds": "a draining predictor has until `timeout`",
        **dict.fromkeys(
            (
                "affinity",
                "nodeName",
                "nodeSelector",
                "preemptionPolicy",
                "priority",
                "priorityClassName",
                "runtimeClassName",
                "schedulerName",
                "schedulingGates",
                "tolerations",
                "topologySpreadConstraints",
            ),
            _NO_SCHEDULER,
        ),
        **dict.fromkeys(
            (
                "automountServiceAccountToken",
                "imagePullSecrets",
                "securityContext",
                "serviceAccount",
                "serviceAccountName",
            ),
            _NO_IDENTITY,
        ),
        **dict.fromkeys(
            (
                "activeDeadlineSeconds",
                "dnsConfig",
                "dnsPolicy",
                "enableServiceLinks",
                "hostAliases",
                "hostIPC",
                "hostNetwork",
                "hostPID",
                "hostUsers",
                "hostname",
                "hostnameOverride",
                "name",
                "os",
                "overhead",
                "readinessGates",
                "restartPolicy",
                "setHostnameAsFQDN",
                "shareProcessNamespace",
                "subdomain",
            ),
            _NO_POD,
        ),
    },
    refused={
        "containers": _RUNTIME,
        "initContainers": _RUNTIME,
        "workerSpec": "a predictor of several nodes does not fit on one machine",
        "volumes": _FILES,
        "storageUris": "name one model by spec.predictor.model.storageUri",
        "storageContainerName": "the model store downloads by itself",
        **dict.fromkeys(
            (
                "huggingface",
                "lightgbm",
                "onnx",
                "paddle",
                "pmml",
                "pytorch",
                "sklearn",
                "tensorflow",
                "triton",
                "xgboost",
            ),
            _USE_MODEL,
        ),
    },
)

MODEL = Fields(
    honoured=frozenset(
        {"modelFormat", "storageUri", "runtime", "protocolVersion", "args", "env", "resources"}
    ),
    harmless={
        "runtimeVersion": "the installed vLLM is what runs",
        "imagePullPolicy": _NO_POD,
        "livenessProbe": _OWN_PROBES,
        "readinessProbe": _OWN_PROBES,
        "startupProbe": _OWN_PROBES,
        "securityContext": _NO_IDENTITY,
        **dict.fromkeys(
            (
                "lifecycle",
                "name",
                "ports",
                "resizePolicy",
                "restartPolicy",
                "restartPolicyRules",
                "stdin",
                "stdinOnce",
                "terminationMessagePath",
                "terminationMessagePolicy",
                "tty",
            ),
            _NO_POD,
        ),
    },
    refused={
        "image": _RUNTIME,
        "command": _RUNTIME,
        "workingDir": _RUNTIME,
        "envFrom": "there are no Secrets and ConfigMaps here: write env",
        "storage": "storage credentials come from your environment: write storageUri",
        "confidential": "an encrypted model cannot be opened here",
        "volumeDevices": _FILES,
        "volumeMounts": _FILES,
    },
)

MODEL_FORMAT = Fields(
    honoured=frozenset({"name"}), harmless={"version": "the installed vLLM is what runs"}
)

RESOURCES = Fields(
    honoured=frozenset({"limits", "requests"}),
    harmless={"claims": "no device is claimed on this machine"},
)
SHARED_MACHINE = "a predictor shares this machine's CPU and memory"
NO_DEVICE = "no device is claimed on this machine"
