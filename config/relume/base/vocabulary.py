"""The words that manifests, events and HTTP messages share, each written once.

Event types and extensions are Relume's event contract. Annotations, labels and API versions are
those of Kubernetes, KServe and Knative, except for those under `relume.dev/`.
"""

from collections.abc import Mapping
from typing import Union

#: A JSON object.
Json = Mapping[str, object]
#: Any value of JSON.
JsonValue = Union[None, bool, int, float, str, "list[JsonValue]", "dict[str, JsonValue]"]

# Event types that a predictor answers with.
RESPONSE = "relume.inference.response"
ERROR = "relume.inference.error"
CHUNK = "relume.inference.chunk"
#: What a settled job has cost; from the jobs plane.
USAGE = "relume.inference.usage"
#: A predictor does not answer events of these types: they are made of what it answers, and a
#: Trigger without a filter would otherwise send them around for ever.
OWN_TYPES = frozenset({RESPONSE, ERROR, CHUNK, USAGE})

#: Attributes that a reply copies from its request where the request has them.
COPIED_ATTRIBUTES = ("subject", "traceparent", "tracestate", "partitionkey", "correlationid")

# Extensions by which a request event says how its job is to be done, and where its data lies.
PRIORITY = "priority"
MAX_ATTEMPTS = "maxattempts"
QUEUE_TIMEOUT = "queuetimeout"
START_TIMEOUT = "starttimeout"
RUN_TIMEOUT = "runtimeout"
KEEP = "keep"
DATAREF = "dataref"

#: Extensions of an event, and the headers by which llm-d's router in front of a model is told.
LLM_D_HEADERS: Mapping[str, str] = {
    "llmdobjective": "x-llm-d-inference-objective",
    "llmdfairnessid": "x-llm-d-inference-fairness-id",
    "llmdmodel": "x-llm-d-model-name-rewrite",
    "llmdttftms": "x-llm-d-slo-ttft-ms",
    "llmdtpotms": "x-llm-d-slo-tpot-ms",
}

# The event of a PingSource (knative/eventing pkg/apis/sources/v1/ping_lifecycle.go).
PING = "dev.knative.sources.ping"

# Extensions that Brokers set (knative/eventing `pkg/broker`).
BROKER_TTL = "knativebrokerttl"
ARRIVAL_TIME = "knativearrivaltime"
ERROR_DESTINATION = "knativeerrordest"
ERROR_CODE = "knativeerrorcode"
ERROR_DATA = "knativeerrordata"
DEAD_LETTER_REASON = "deadletterreason"

#: The phases of a cold start that the predictor measures, in the order in which they happen.
PREDICTOR_PHASES = ("fork", "import", "config", "weights", "engine", "warmup", "first_token")
#: The same after `queue`, which the activator measures.
COLD_START_PHASES = ("queue", *PREDICTOR_PHASES)
#: What a launcher measures of a start: an environment is made or waited for, then the process is
#: started and becomes ready. A model has no such phases.
LAUNCH_PHASES = ("environment", "process")
#: Before both, where the memory of the machine is full: the start waits for room in it.
MEMORY_PHASE = "memory"
#: After all of them, as the activator measures it: from the first token to the first byte of the
#: answer. That is the way to the predictor and back, and for an answer that is not streamed the
#: rest of its tokens too. It is no part of the start.
ANSWER_PHASE = "answer"

#: The reason of a failure for which memory was missing, and how a sentence about it begins.
OUT_OF_MEMORY = "out-of-memory"
ENGINE_HANGS = "engine-hangs"

# Headers by which the activator tells the predictor how long a request waited, in whole ms. The
# client is told of a cold start too.
QUEUE_HEADER = "relume-queue-ms"
COLD_START_HEADER = "relume-cold-start-ms"
# By which a predictor says with its 503 why it takes no request any more. The one that gets this
# answer was not begun, so another replica may be asked.
NOT_BEGUN_HEADER = "relume-not-begun"
DRAINING = "draining"
ENGINE_FAILED = "engine-failed"

# Comments in the plane's stream of events: where the replayed records begin, and where they end.
STREAM_SUBSCRIBED = ": subscribed"
STREAM_LIVE = ": live"

KSERVE_V1BETA1 = "serving.kserve.io/v1beta1"
KSERVE_V1ALPHA1 = "serving.kserve.io/v1alpha1"
KNATIVE_SERVING_V1 = "serving.knative.dev/v1"
KNATIVE_EVENTING_V1 = "eventing.knative.dev/v1"
CORE_V1 = "v1"
KNATIVE_EVENTING_V1ALPHA1 = "eventing.knative.dev/v1alpha1"
KNATIVE_FLOWS_V1 = "flows.knative.dev/v1"
KNATIVE_SOURCES_V1 = "sources.knative.dev/v1"
RESOURCE_V1 = "resource.k8s.io/v1"
#: The group of documents that kustomize reads and no cluster sees.
KUSTOMIZE_GROUP = "kustomize.config.k8s.io"

# The namespaces in which Knative is installed.
SERVING_NAMESPACE = "knative-serving"
EVENTING_NAMESPACE = "knative-eventing"

# Prefixes of annotations.
AUTOSCALING = "autoscaling.knative.dev/"
KNATIVE_SERVING = "serving.knative.dev/"

# Annotations and labels of KServe, and the container of a component that serves requests.
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
#: Both are one mode, by its newer and its older name.
STANDARD_MODES = ("Standard", "RawDeployment")
SERVING_CONTAINER = "kserve-container"
AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"
GPU_RESOURCE_TYPES = "serving.kserve.io/gpu-resource-types"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"

# Annotations and labels of Knative Serving.
INITIAL_SCALE = "autoscaling.knative.dev/initial-scale"
PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
REVISION_LABEL = "serving.knative.dev/revision"

# The label that func writes on what it deploys, and the seconds that a function may take from
# nothing to ready: its image is pulled and Python starts, but no model is loaded.
FUNCTION_LABEL = "function.knative.dev/name"
FUNCTION_COLD_START_S = 60

# Annotations of Knative's Brokers.
BROKER_CLASS = "eventing.knative.dev/broker.class"
DELIVERY_ORDER = "kafka.eventing.knative.dev/delivery.order"
PARALLELISM = "rabbitmq.eventing.knative.dev/parallelism"
NATS_CONFIG = "natsjetstream.eventing.knative.dev/config"

# Annotations of Relume, for clusters.
FALLBACKS = "relume.dev/fallbacks"
CLAIM_TEMPLATE = "relume.dev/claim-template"
#: How a service shares a device with others, and the ResourceClaim that its pods share.
SHARE = "relume.dev/share"
SHARED_CLAIM = "relume.dev/claim"
COLD_START_BUDGET = "relume.dev/cold-start-budget"
#: The PersistentVolumeClaim on which vLLM keeps what it found out at a start.
ENGINE_CACHE = "relume.dev/engine-cache"

# Annotations of Relume for a service on one machine: what a client that waits is told, how many may
# wait, and at what times a service is started before anybody asks.
HEARTBEAT = "relume.dev/heartbeat"
MAX_HELD = "relume.dev/max-held"
HANG_AFTER = "relume.dev/hang-after"
WARM_AT = "relume.dev/warm-at"
WARM_TIMEZONE = "relume.dev/warm-timezone"
#: Annotation of Relume for one machine: what of a service stays in memory while it is at zero.
ZERO_MODE = "relume.dev/zero"

# Environment variables by which a rendering tells Relume's runtime of its devices: how many it must
# see, and how many MiB it may take of one that it shares with others.
EXPECT_DEVICES = "RELUME_EXPECT_DEVICES"
DEVICE_MEMORY_MIB = "RELUME_DEVICE_MEMORY_MIB"

# KServe's managed DRA: how these annotations of an LLMInferenceService begin
# (pkg/controller/v1alpha2/llmisvc).
MANAGED_DRA = "serving.kserve.io/exp-dra-"

# The environment that a SinkBinding adds (knative/eventing pkg/apis/sources/v1/sinkbinding_*.go).
SINK_VARIABLE = "K_SINK"
OVERRIDES_VARIABLE = "K_CE_OVERRIDES"

# In the state of a request's scope: True where the `Origin` that it names is allowed to call.
ORIGIN_ALLOWED = "relume.origin_allowed"

# In the message that begins an answer: True where the very next message is its whole body. Our
# server then writes head and body together, because each write is a system call.
BODY_FOLLOWS = "relume.body_follows"
