"""Brokers and Triggers for a cluster.

A Broker gets its class and the place where that class has its settings; a Trigger gets a delivery
that outlasts a cold start. Facts about the classes: knative/eventing and the repositories of its
extensions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relume.base.vocabulary import (
    BROKER_CLASS,
    DELIVERY_ORDER,
    EVENTING_NAMESPACE,
    NATS_CONFIG,
    PARALLELISM,
    JsonValue,
)
from relume.cluster.render import rules
from relume.cluster.render.budget import Budget, backoff_s
from relume.cluster.render.draft import Book, Draft, PathStep, Setting
from relume.cluster.render.gateway_door import DELIVERY, HIDDEN, Door
from relume.cluster.render.options import BROKERS, BrokerClass
from relume.cluster.render.originals import ANNOTATIONS, BASE, Original
from relume.config import Broker, Delivery, Function, InferenceService, Trigger
from relume.config.broker_classes import PROFILES

# What the annotation of each class says; of the two names of Kafka's the first.
_NAMES = {profile: name for name, profile in reversed(list(PROFILES.items()))}
_RABBIT_CONFIG = "relume"
# Where a Broker of each class has its settings: API version, kind, name.
_CONFIG: Mapping[BrokerClass, tuple[str, str, str]] = {
    "kafka": ("v1", "ConfigMap", "kafka-broker-config"),
    "mt": ("v1", "ConfigMap", "config-br-default-channel"),
    "rabbitmq": ("eventing.knative.dev/v1alpha1", "RabbitmqBrokerConfig", _RABBIT_CONFIG),
}
_HIDDEN_IN_FLOW = "the Channel's, which a delivery of its own hides"
_DEFAULT_RETRIES = 5
_BROKER_WAITS_LONGER_S = 10
_MOST_PARALLELISM = 1000
_PARALLELISM = 50  # of a service without a bound; as many as the Kafka broker has in flight
# A broker's own configuration replaces the defaults whole, so all that matters is said. One event
# at a time: the lease (AckWait) of those that were fetched behind a slow one would run out.
_NATS_SETTINGS: JsonValue = {
    "stream": {
        "retention": "Limits",
        "storage": "File",
        "replicas": 1,
        "discard": "Old",
        "maxAge": "168h",
    },
    "consumer": {"deliverPolicy": "New", "replayPolicy": "Instant", "consumerType": "Pull"},
    "filter": {"env": [{"name": "CONSUMER_FETCH_BATCH_SIZE", "value": "1"}]},
}


def class_of(broker: Broker, chosen: BrokerClass | None) -> BrokerClass | None:
    """The class of a Broker: what was chosen, else what it names, else None (the cluster's)."""
    profile = PROFILES.get(broker.broker_class or "")
    return chosen or next((kind for kind in BROKERS if kind == profile), None)


def render_broker(
    broker: Broker, original: Original, chosen: BrokerClass | None, book: Book
) -> None:
    """The Broker, with the class that was chosen and the config that this class reads."""
    draft = book.adopt(original.file, original.body())
    kind = class_of(broker, chosen)
    if chosen is not None and broker.broker_class != _NAMES[chosen]:
        draft.set((*ANNOTATIONS, BROKER_CLASS), _NAMES[chosen], rules.BROKER_CLASS)
    if kind == "mt":
        node = original.at(*ANNOTATIONS, BROKER_CLASS)
        book.note(
            node,
            "on this class's default channel nothing is stored, and a producer's request lasts "
            "until every Trigger is through: choose another class for work that counts",
        )
    if kind is None or draft.get("spec", "config") is not None:
        return
    if chosen is None and broker.broker_class == "KafkaNamespaced":
        return  # its config map is in the Broker's own namespace, under a name that we do not know
    if kind == "nats":
        if draft.get(*ANNOTATIONS, NATS_CONFIG) is None:
            text = json.dumps(_NATS_SETTINGS, separators=(",", ":"))
            reason = "one event at a time, so that no lease runs out behind a slow inference"
            draft.set((*ANNOTATIONS, NATS_CONFIG), text, rules.IN_FLIGHT, reason)
        return
    config: dict[str, JsonValue] = dict(
        zip(("apiVersion", "kind", "name"), _CONFIG[kind], strict=True)
    )
    if kind != "rabbitmq":
        config["namespace"] = EVENTING_NAMESPACE
    draft.set(("spec", "config"), config, rules.BROKER_CONFIG)
    if kind == "rabbitmq":
        _add_rabbit_config(original, book)


def _add_rabbit_config(original: Original, book: Book) -> None:
    version, kind, name = _CONFIG["rabbitmq"]
    if book.has(kind, name, original.file):
        return
    cluster: JsonValue = {"name": "rabbitmq", "namespace": EVENTING_NAMESPACE}
    book.begin(
        original.file,
        version,
        kind,
        name,
        rules.BROKER_CONFIG,
        {"rabbitmqClusterReference": cluster, "queueType": "quorum"},
        {"queueType": "replicated, so it is durable"},
        namespace=original.written_namespace,
    )
    book.note(
        None,
        f"RabbitmqBrokerConfig {original.namespace}/{name} names the RabbitmqCluster "
        f"{EVENTING_NAMESPACE}/rabbitmq: write yours there",
    )


@dataclass(frozen=True, slots=True)
class Subscriber:
    """The service behind a Trigger, and its budget.

    `in_front_s` is how long a request may take in its transformer or explainer, if it has one.
    """

    service: InferenceService | Function
    budget: Budget
    in_front_s: int = 0

    @property
    def longest_s(self) -> int:
        """Seconds that a request may take, whatever it goes through."""
        return max(self.budget.timeout_s, self.in_front_s)

    @property
    def delivery_s(self) -> int:
        """Of one delivery: the broker must not ask again while the first answer is on its way."""
        return self.longest_s + _BROKER_WAITS_LONGER_S


def render_trigger(
    trigger: Trigger,
    original: Original,
    broker: Broker,
    inherited: JsonValue,
    subscriber: Subscriber | None,
    kind: BrokerClass | None,
    door: Door,
    book: Book,
) -> Draft:
    """The Trigger, with a delivery that outlasts a cold start where a service is behind it.

    With a jobs gateway it delivers to that. `inherited` is the Broker's delivery as it was written,
    None where there is none.
    """
    draft = book.adopt(original.file, original.body())
    if kind == "rabbitmq":
        _use_legacy_filter(draft, original)
    delivery = trigger.delivery or broker.delivery
    if delivery is not None and delivery.retry_after_max_s is not None:
        why = f"Trigger {original.namespace}/{original.name} has delivery.retryAfterMax"
        key = "delivery-retryafter"
        book.need(Setting("config-features", key, "Enabled", why, EVENTING_NAMESPACE))
    if door.takes(trigger, original, broker, kind, book):
        door.turn(draft, trigger, original, broker, inherited)
    elif subscriber is not None:
        own = trigger.delivery
        deliver(draft, DELIVERY, own, broker.delivery, inherited, subscriber)
    _repeat(draft, inherited, kind)
    if subscriber is None:
        return draft
    if kind == "kafka" and draft.get(*ANNOTATIONS, DELIVERY_ORDER) is None:
        reason = "in order it is one event of a partition at a time, and vLLM batches nothing"
        draft.set((*ANNOTATIONS, DELIVERY_ORDER), "unordered", rules.IN_FLIGHT, reason)
    if kind == "rabbitmq" and draft.get(*ANNOTATIONS, PARALLELISM) is None:
        parallelism = str(_parallelism(subscriber.service))
        reason = "what the service's replicas take at once; the default is one event at a time"
        draft.set((*ANNOTATIONS, PARALLELISM), parallelism, rules.IN_FLIGHT, reason)
    return draft


def deliver(
    draft: Draft,
    path: Sequence[PathStep],
    own: Delivery | None,
    inherited: Delivery | None,
    written: JsonValue,
    subscriber: Subscriber,
) -> None:
    """Set the timeout, the retries and the backoff of the delivery at `path`.

    A Trigger's delivery hides its Broker's, and a step's that of its Channel: Knative then takes
    only the dead letter sink from it. So everything else that was `written` there is repeated here.
    """
    given = own or inherited or Delivery()
    retries = _DEFAULT_RETRIES if given.retry is None else given.retry
    policy = given.backoff_policy or "exponential"
    wanted: dict[str, tuple[JsonValue, str]] = {}
    budget, least_s = subscriber.budget, subscriber.delivery_s
    if (given.timeout_s or 0) < least_s:
        reason = f"more than the service's own timeout of {subscriber.longest_s} s"
        wanted["timeout"] = f"PT{least_s}S", reason
    if given.retry is None:
        wanted["retry"] = retries, ""
    if given.backoff_policy is None:
        wanted["backoffPolicy"] = policy, ""
    least = backoff_s(budget.cold_start_s, retries, policy)
    if least is not None and (given.backoff_delay_s or 0) < least:
        reason = f"{retries} retries then outlast a cold start of {budget.cold_start_s} s"
        wanted["backoffDelay"] = f"PT{least}S", reason
    if own is None and isinstance(written, dict):
        reason = HIDDEN if tuple(path) == DELIVERY else _HIDDEN_IN_FLOW
        copied = written.keys() - wanted.keys() - {"deadLetterSink"}
        wanted |= {name: (written[name], reason) for name in sorted(copied)}
    for name, (value, reason) in wanted.items():
        draft.set((*path, name), value, rules.DELIVERY, reason)


def _repeat(draft: Draft, written: JsonValue, kind: BrokerClass | None) -> None:
    """Repeat what a Trigger does not take from its Broker's delivery, as it was `written` there.

    RabbitMQ's Trigger takes nothing when it has a delivery of its own, not even the dead letter
    sink (its dispatcher acknowledges and publishes to no exchange). NATS's never takes anything.
    Sources: eventing-rabbitmq pkg/reconciler/trigger/trigger.go, eventing-natss
    pkg/broker/{trigger,filter}/reconciler.go.
    """
    given = draft.get(*DELIVERY) is not None
    if not isinstance(written, dict) or not (kind == "nats" or (kind == "rabbitmq" and given)):
        return
    names = {"deadLetterSink"} if given else set(written)
    for name in sorted(names & written.keys()):
        if draft.get(*DELIVERY, name) is None:
            reason = "the Broker's, which this class of Broker does not use for a Trigger"
            draft.set((*DELIVERY, name), written[name], rules.DELIVERY, reason)


def _parallelism(service: InferenceService | Function) -> int:
    at_once = service.container_concurrency * max(1, service.max_replicas)
    return min(at_once or _PARALLELISM, _MOST_PARALLELISM)


def _use_legacy_filter(draft: Draft, original: Original) -> None:
    """Turn `filters` of exact values into `filter.attributes`, which can express nothing else."""
    node = original.node("spec", "filters")
    if node is None:
        return
    attributes: dict[str, JsonValue] = {}
    for item in node.items():
        table = item.table()
        exact = table.get("exact")
        if exact is None:
            dialect = next(iter(table.entries), "")
            raise item.wrong(
                f"cannot work with --broker rabbitmq, which compares exact values only, not "
                f"{dialect}"
            )
        for name, value in exact.table():
            if attributes.setdefault(name, value.text()) != value.text():
                raise value.wrong(f"no event matches: {name} is {attributes[name]} above")
    draft.remove(("spec", "filters"), rules.LEGACY_FILTER)
    if attributes:
        draft.set(("spec", "filter"), {"attributes": attributes}, rules.LEGACY_FILTER)


def add_addressable(book: Book) -> None:
    """Let Knative resolve a subscriber that is an InferenceService."""
    rule = rules.ADDRESSABLE
    name = "relume-inferenceservices-addressable"
    version = "rbac.authorization.k8s.io/v1"
    role = book.begin(f"{BASE}/addressable.yaml", version, "ClusterRole", name, rule)
    reason = "Knative adds the rules of every ClusterRole with this label to its resolver's"
    role.set(("metadata", "labels", "duck.knative.dev/addressable"), "true", rule, reason)
    granted: JsonValue = {
        "apiGroups": ["serving.kserve.io"],
        "resources": ["inferenceservices", "inferenceservices/status"],
        "verbs": ["get", "list", "watch"],
    }
    role.set(("rules",), [granted], rule)
