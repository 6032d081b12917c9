"""Every field of an InferenceService, and what becomes of it on one machine."""

from relume.config.fields import Fields

NO_DEVICE = "no device is claimed on this machine"
SHARED_MACHINE = "a predictor shares this machine's CPU and memory"
_NO_POD = "a predictor is a process here, not a pod"
_NO_SCHEDULER = "there is one machine to run on"
_NO_IDENTITY = "a predictor runs as you, without a service account"
ONE_REVISION = "there is one revision, and it gets every request"
_INSTALLED = "the installed vLLM is what runs"
_RUNTIME = "Relume runs its own vLLM runtime: write spec.predictor.model"
_FILES = "files that a cluster mounts are not here"

SPEC = Fields.of(
    "predictor",
    refused={
        "only the predictor runs here": "transformer explainer",
        "one revision runs here": "canary",
    },
)
PREDICTOR = Fields.of(
    """model huggingface containers storageUris volumes annotations minReplicas maxReplicas
    scaleTarget scaleMetric containerConcurrency timeout canaryTrafficPercent""",
    harmless={
        "nothing on this machine selects by label": "labels",
        "payloads are not copied to a logger": "logger",
        "vLLM batches by itself": "batcher",
        "a changed service is rolled out replica by replica": "deploymentStrategy",
        "KEDA is not here; minReplicas, scaleTarget and annotations count": "autoScaling",
        "the target is an average for each replica": "scaleMetricType",
        SHARED_MACHINE: "resources",
        NO_DEVICE: "resourceClaims",
        "a draining predictor has until `timeout`": "terminationGracePeriodSeconds",
        _NO_SCHEDULER: """affinity nodeName nodeSelector preemptionPolicy priority priorityClassName
        runtimeClassName schedulerName schedulingGates tolerations topologySpreadConstraints""",
        _NO_IDENTITY: """automountServiceAccountToken imagePullSecrets securityContext
        serviceAccount serviceAccountName""",
        _NO_POD: """activeDeadlineSeconds dnsConfig dnsPolicy enableServiceLinks hostAliases hostIPC
        hostNetwork hostPID hostUsers hostname hostnameOverride name os overhead readinessGates
        restartPolicy setHostnameAsFQDN shareProcessNamespace subdomain""",
    },
    refused={
        _RUNTIME: "initContainers",
        "a predictor of several nodes does not fit on one machine": "workerSpec",
        "the model store downloads by itself": "storageContainerName",
        "write spec.predictor.model with modelFormat and storageUri": """lightgbm onnx paddle
        pmml pytorch sklearn tensorflow triton xgboost""",
    },
)
MODEL = Fields.of(
    """modelFormat storageUri runtime protocolVersion args env envFrom resources
    volumeMounts""",
    harmless={
        _INSTALLED: "runtimeVersion",
        "the plane probes the predictor itself": "livenessProbe readinessProbe startupProbe",
        _NO_IDENTITY: "securityContext",
        _NO_POD: """imagePullPolicy lifecycle name ports resizePolicy restartPolicy
        restartPolicyRules stdin stdinOnce terminationMessagePath terminationMessagePolicy tty""",
    },
    refused={
        _RUNTIME: "image command workingDir",
        "storage credentials come from your environment: write storageUri": "storage",
        "an encrypted model cannot be opened here": "confidential",
        _FILES: "volumeDevices",
    },
)
# What KServe makes a model of: the fields of a model but the two that it fills in.
HUGGINGFACE = Fields(MODEL.honoured - {"modelFormat", "runtime"}, MODEL.harmless, MODEL.refused)
MODEL_FORMAT = Fields.of("name", harmless={_INSTALLED: "version"})
RESOURCES = Fields.of("limits requests", harmless={NO_DEVICE: "claims"})
