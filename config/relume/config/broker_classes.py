"""The Broker classes whose deliveries are played on this machine, and what is left out of each.

All Brokers are stored in JetStream here; the class decides what becomes of an event on its way to
a subscriber. The rules themselves are `relume.eventing.delivery.profiles`.
"""

from collections.abc import Mapping

from relume.base.vocabulary import DELIVERY_ORDER, PARALLELISM

# The profile by the class annotation; every other class is delivered as the specification says.
PROFILES: Mapping[str, str] = {
    "MTChannelBasedBroker": "mt",
    "Kafka": "kafka",
    "KafkaNamespaced": "kafka",
    "RabbitMQBroker": "rabbitmq",
    "NatsJetStreamBroker": "nats",
}
# Which profiles read an annotation of a Trigger; the specification knows neither.
READ_BY: Mapping[str, tuple[str, ...]] = {
    DELIVERY_ORDER: ("strict", "kafka"),
    PARALLELISM: ("strict", "rabbitmq"),
}
_STORED = "every Broker is stored in JetStream on this machine"
_NOT_PLAYED: Mapping[str, str] = {
    "mt": "not its channel in memory, which lets the producer wait for every delivery (up to "
    "15 min) and loses events with its pod",
    "kafka": "not its topic: 10 partitions are assumed",
    "rabbitmq": "not its queues",
    "nats": "not more than one replica of its filter, which would deliver an event again while an "
    "answer takes longer than the AckWait of 30 s",
}


def profile_name(broker_class: str | None) -> str:
    """The profile of a class annotation, `strict` for none and for an unknown one."""
    return PROFILES.get(broker_class or "", "strict")


def left_out(broker_class: str) -> str:
    """What this machine leaves out of a Broker of this class."""
    not_played = _NOT_PLAYED.get(profile_name(broker_class))
    if not_played is None:
        known = ", ".join(PROFILES)
        return (
            f"{_STORED}, and {broker_class} is delivered as the specification says: the classes "
            f"that are played are {known}"
        )
    return f"{_STORED}; the deliveries of {broker_class} are played, {not_played}"
