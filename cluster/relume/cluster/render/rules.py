"""The rules that decide generated fields. `why` is the reason where a decision gives no other."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` is stable: programs may test for it."""

    name: str
    why: str


ROUTE = Rule("route", "--dra decides how the pod gets its device")
RUNTIME_BY_DEVICE = Rule(
    "runtime-by-device", "KServe's own choice of a runtime does not look at devices"
)
RUNTIME = Rule("runtime", "how Relume's runtime runs on this kind of device")
IMAGE = Rule("image-by-digest", "KServe rewrites tags, and a tag can move")
PLACEHOLDER = Rule("image-placeholder", "no image was given: --image replaces it")
OWN_RESOURCES = Rule(
    "resources-before-defaults",
    "KServe's shipped default would limit the predictor to 1 CPU and 2 Gi",
)
EXPECT_DEVICES = Rule(
    "no-ready-without-device",
    "the runtime does not become ready with fewer devices than this, whatever was pruned",
)
GRACE = Rule("grace", "how long a stopping predictor may finish accepted requests")
COLD_START = Rule("cold-start-budget", "computed with all other timeouts from the cold start")
NO_DEVICE_AT_REST = Rule(
    "no-device-at-rest", "a new revision needs no second device beside the old one's"
)
CLAIM_TEMPLATE = Rule(
    "claim-per-pod", "a template gives each pod its own claim, which goes when the pod goes"
)
CLAIM_INJECTED = Rule(
    "claim-at-admission", "Knative has no field for claims, so they are added to the pod itself"
)
DEVICE_CLASS = Rule("shipped-device-class", "the service names this class")
NO_ZERO = Rule("standard-has-no-zero", "nothing holds requests at zero in Standard mode")
BROKER_CLASS = Rule("broker-class", "--broker decides")
BROKER_CONFIG = Rule("broker-config", "where this class of Broker looks for its settings")
DELIVERY = Rule("delivery", "the broker must not give up, or ask again, while a model loads")
IN_FLIGHT = Rule("in-flight", "how many events the broker may have at the service at once")
LEGACY_FILTER = Rule("legacy-filter", "the RabbitMQ broker reads spec.filter alone")
ADDRESSABLE = Rule("addressable", "a Trigger's subscriber must be readable for Knative's resolver")
NETWORK = Rule("network", "a predictor is called by its proxies, and by nobody past them")
DISRUPTION = Rule("disruption", "a drained node takes one replica at a time")
MONITORING = Rule("monitoring", "scraped at the pod, so that no scrape keeps it from zero")
CLUSTER_SETTING = Rule("cluster-setting", "the base needs it of the whole cluster")
NOT_YOURS = Rule("written-by-a-cluster", "a cluster writes it itself, and another one refuses it")
KUSTOMIZE = Rule("kustomize", "what belongs to the base")
