"""The rules that decide generated fields. `why` is the reason where a decision gives no other."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RenderRule:
    """`name` is stable: programs may test for it."""

    name: str
    why: str


ROUTE = RenderRule("route", "--dra decides how the pod gets its device")
RUNTIME_BY_DEVICE = RenderRule(
    "runtime-by-device", "KServe's own choice of a runtime does not look at devices"
)
RUNTIME = RenderRule("runtime", "how Relume's runtime runs on this kind of device")
IMAGE = RenderRule("image-by-digest", "KServe rewrites tags, and a tag can move")
PLACEHOLDER = RenderRule("image-placeholder", "no image was given: --image replaces it")
FUNCTION = RenderRule("function", "what func deploy makes of the function's func.yaml")
FUNCTION_IMAGE = RenderRule(
    "function-image-placeholder", "func.yaml names no image and no registry yet"
)
KSERVE_FLAGS = RenderRule(
    "kserve-flags", "what was written for KServe's own server or an older vLLM, in today's flags"
)
HUGGINGFACE = RenderRule(
    "huggingface-as-model", "KServe reads predictor.huggingface as a model of this format"
)
OWN_RESOURCES = RenderRule(
    "resources-before-defaults",
    "KServe's shipped default would limit the predictor to 1 CPU and 2 Gi",
)
EXPECT_DEVICES = RenderRule(
    "no-ready-without-device",
    "the runtime does not become ready with fewer devices than this, whatever was pruned",
)
GRACE = RenderRule("grace", "how long a stopping predictor may finish accepted requests")
COLD_START = RenderRule("cold-start-budget", "computed with all other timeouts from the cold start")
NO_DEVICE_AT_REST = RenderRule(
    "no-device-at-rest", "a new revision needs no second device beside the old one's"
)
CLAIM_TEMPLATE = RenderRule(
    "claim-per-pod", "a template gives each pod its own claim, which goes when the pod goes"
)
SHARED_DEVICE = RenderRule(
    "shared-device", "the annotation relume.dev/share: several services use one device"
)
CLAIM_INJECTED = RenderRule(
    "claim-at-admission", "Knative has no field for claims, so they are added to the pod itself"
)
DEVICE_CLASS = RenderRule("shipped-device-class", "the service names this class")
ENGINE_CACHE = RenderRule(
    "engine-cache", "the annotation relume.dev/engine-cache: the next start finds what this one did"
)
NO_ZERO = RenderRule("standard-has-no-zero", "nothing holds requests at zero in Standard mode")
BROKER_CLASS = RenderRule("broker-class", "--broker decides")
BROKER_CONFIG = RenderRule("broker-config", "where this class of Broker looks for its settings")
DELIVERY = RenderRule("delivery", "the broker must not give up, or ask again, while a model loads")
IN_FLIGHT = RenderRule("in-flight", "how many events the broker may have at the service at once")
LEGACY_FILTER = RenderRule("legacy-filter", "the RabbitMQ broker reads spec.filter alone")
ADDRESSABLE = RenderRule(
    "addressable", "a Trigger's subscriber must be readable for Knative's resolver"
)
POOL = RenderRule("llm-d-pool", "--llm-d: the service is a pool of llm-d's router")
GATEWAY = RenderRule("gateway", "--gateway: jobs wait in NATS, and this program works on them")
GATEWAY_SERVICES = RenderRule(
    "gateway-services", "the gateway is told which services it serves, and nothing else of them"
)
GATEWAY_DOOR = RenderRule(
    "gateway-door",
    "the gateway stores the event and answers 202 at once; the reply event comes to the Broker "
    "later",
)
GATEWAY_NATS = RenderRule("gateway-nats", "what the gateway needs of NATS")
NETWORK = RenderRule("network", "a predictor is called by its proxies, and by nobody past them")
DISRUPTION = RenderRule("disruption", "a drained node takes one replica at a time")
MONITORING = RenderRule("monitoring", "scraped at the pod, so that no scrape keeps it from zero")
CLUSTER_SETTING = RenderRule("cluster-setting", "the base needs it of the whole cluster")
NOT_YOURS = RenderRule(
    "written-by-a-cluster", "a cluster writes it itself, and another one refuses it"
)
KUSTOMIZE = RenderRule("kustomize", "what belongs to the base")
