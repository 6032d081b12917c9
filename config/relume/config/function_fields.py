"""Every field of a func.yaml and of a Knative Service, and what becomes of each on one machine.

Source of the fields: knative/func `schema/func_yaml-schema.json`; Knative Serving's v1 API.
"""

from relume.config.fields import Fields
from relume.config.service_fields import NO_DEVICE, ONE_REVISION

SHARED_MACHINE = "a function shares this machine's CPU and memory"
_NO_IMAGE = "no image is built here: the folder itself runs"
_AS_YOU = "a function runs as you, without a service account"
_NO_LABELS = "nothing on this machine selects by label"
_NO_POD = "a function is a process here, not a pod"

FUNCTION = Fields.of(
    "specVersion name runtime registry image namespace created invoke run deploy",
    harmless={
        _NO_IMAGE: "build registryInsecure",
        "a function is found by its path and by its Knative host": "domain",
        "it runs as with the knative deployer": "deployer",
    },
)
RUN = Fields.of(
    "envs volumes startTimeout",
    refused={"write a Trigger on a Broker: Kafka is not here": "kafka"},
)
DEPLOY = Fields.of(
    """namespace image annotations labels options healthEndpoints serviceAccountName
    imagePullSecret subscriptions""",
    harmless={"it runs as with the knative deployer": "deployer managementDisabled"},
)
OPTIONS = Fields.of("scale resources")
SCALE = Fields.of("min max metric target utilization")
RESOURCES = Fields.of("requests limits")
REQUESTS = Fields.of("cpu memory")
LIMITS = Fields.of("cpu memory concurrency")
HEALTH = Fields.of("liveness readiness")
ENV = Fields.of("name value")
LABEL = Fields.of("key value")
SUBSCRIPTION = Fields.of("source filters")
VOLUME = Fields.of(
    "secret configMap emptyDir path",
    refused={
        "there are no PersistentVolumeClaims here: write emptyDir": "persistentVolumeClaim",
    },
)
EMPTY_DIR = Fields.of("medium sizeLimit")

SERVICE = Fields.of("template", harmless={ONE_REVISION: "traffic"})
TEMPLATE = Fields.of("metadata spec")
TEMPLATE_METADATA = Fields.of("annotations", harmless={_NO_LABELS: "labels", ONE_REVISION: "name"})
REVISION = Fields.of(
    """containers containerConcurrency timeoutSeconds responseStartTimeoutSeconds
    idleTimeoutSeconds""",
    harmless={
        _AS_YOU: """serviceAccountName imagePullSecrets automountServiceAccountToken
        securityContext""",
        _NO_POD: """enableServiceLinks affinity nodeSelector tolerations priorityClassName
        runtimeClassName schedulerName topologySpreadConstraints dnsPolicy dnsConfig hostAliases
        shareProcessNamespace""",
        NO_DEVICE: "resourceClaims",
    },
    refused={
        "write run.volumes in func.yaml": "volumes",
        "a function is one process here": "initContainers",
    },
)
CONTAINER = Fields.of(
    "image env envFrom resources",
    harmless={
        _NO_POD: "name imagePullPolicy ports securityContext terminationMessagePath "
        "terminationMessagePolicy",
        "the plane probes the function itself": "livenessProbe readinessProbe startupProbe",
    },
    refused={
        "func-python's own server runs the function": "command args workingDir",
        "write run.volumes in func.yaml": "volumeMounts",
    },
)
CONTAINER_RESOURCES = Fields.of("requests limits", harmless={NO_DEVICE: "claims"})
#: Of these two tables a function honours less than a predictor does.
FUNCTION_VALUE_FROM = Fields.of(
    "secretKeyRef configMapKeyRef",
    refused={"there is no pod here: write value": "fieldRef resourceFieldRef fileKeyRef"},
)
FUNCTION_ENV_FROM = Fields.of(
    "secretRef configMapRef", refused={"write each variable with its name in env": "prefix"}
)
