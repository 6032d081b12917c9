"""Brokers for a cluster: their class, and where a Broker of that class has its settings.

Facts about the classes: knative/eventing and the repositories of its extensions.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType

from relume.base.vocabulary import BROKER_CLASS, NATS_CONFIG
from relume.cluster.render import rules
from relume.cluster.render.book import Book
from relume.cluster.render.draft import Draft, Json
from relume.cluster.render.options import BROKERS, BrokerClass
from relume.cluster.render.originals import Original
from relume.config import Broker
from relume.config.broker_classes import PROFILES

EVENTING = "knative-eventing"
_NOTES = ("metadata", "annotations")

#: Broker class -> what its annotation says, and where its config is (API version, kind, name).
CLASSES: Mapping[BrokerClass, str] = MappingProxyType(
    {
        "kafka": "Kafka",
        "rabbitmq": "RabbitMQBroker",
        "nats": "NatsJetStreamBroker",
        "mt": "MTChannelBasedBroker",
    }
)
_CONFIG: Mapping[BrokerClass, tuple[str, str, str]] = MappingProxyType(
    {
        "kafka": ("v1", "ConfigMap", "kafka-broker-config"),
        "mt": ("v1", "ConfigMap", "config-br-default-channel"),
    }
)
_RABBIT_CONFIG = "relume"
# A broker's own configuration replaces the defaults whole, so all that matters is said. One event
# at a time: the lease (AckWait) of those that were fetched behind a slow one would run out.
_NATS_SETTINGS: Json = {
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
    if chosen is not None and broker.broker_class != CLASSES[chosen]:
        draft.set((*_NOTES, BROKER_CLASS), CLASSES[chosen], rules.BROKER_CLASS)
    if kind == "mt":
        node = original.at(*_NOTES, BROKER_CLASS)
        book.note(
            node,
            "on this class's default channel nothing is stored, and a producer's request lasts "
            "until every Trigger is through: choose another class for work that counts",
        )
    if kind is None or draft.get("spec", "config") is not None:
        return
    if chosen is None and broker.broker_class == "KafkaNamespaced":
        return  # its config map is in the Broker's own namespace, under a name that we do not know
    if kind == "rabbitmq":
        _point_to_rabbit(draft, original, book)
    elif kind == "nats":
        if draft.get(*_NOTES, NATS_CONFIG) is None:
            text = json.dumps(_NATS_SETTINGS, separators=(",", ":"))
            reason = "one event at a time, so that no lease runs out behind a slow inference"
            draft.set((*_NOTES, NATS_CONFIG), text, rules.IN_FLIGHT, reason)
    else:
        version, what, name = _CONFIG[kind]
        config: dict[str, Json] = {"apiVersion": version, "kind": what, "name": name}
        draft.set(("spec", "config"), {**config, "namespace": EVENTING}, rules.BROKER_CONFIG)


def _point_to_rabbit(draft: Draft, original: Original, book: Book) -> None:
    version = "eventing.knative.dev/v1alpha1"
    config: dict[str, Json] = {
        "apiVersion": version,
        "kind": "RabbitmqBrokerConfig",
        "name": _RABBIT_CONFIG,
    }
    draft.set(("spec", "config"), config, rules.BROKER_CONFIG)
    if book.has("RabbitmqBrokerConfig", _RABBIT_CONFIG, original.file):
        return
    made = book.begin(
        original.file,
        version,
        "RabbitmqBrokerConfig",
        _RABBIT_CONFIG,
        rules.BROKER_CONFIG,
        namespace=original.written_namespace,
    )
    cluster: Json = {"name": "rabbitmq", "namespace": EVENTING}
    made.set(("spec", "rabbitmqClusterReference"), cluster, rules.BROKER_CONFIG)
    made.set(("spec", "queueType"), "quorum", rules.BROKER_CONFIG, "replicated, so it is durable")
    book.note(
        None,
        f"RabbitmqBrokerConfig {original.namespace}/{_RABBIT_CONFIG} names the RabbitmqCluster "
        f"{EVENTING}/rabbitmq: write yours there",
    )
