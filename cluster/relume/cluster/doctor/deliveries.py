"""The delivery of a Trigger as the class of its Broker finds it.

The rules of the classes, and what a Trigger takes from its Broker, are those that Relume plays on
one machine (`relume.eventing.delivery`). Here a manifest is read for them that may hold what one
machine refuses, such as a sink that is a Knative Service.
"""

import json
from dataclasses import dataclass

from relume.base.vocabulary import BROKER_CLASS, NATS_CONFIG
from relume.cluster.admission.judge import child, content, fields, number
from relume.cluster.render.reading import read_delivery
from relume.config import Broker, Destination, Trigger
from relume.config.nodes import Node, Table
from relume.eventing.delivery.profiles import Profile, profile_for
from relume.eventing.delivery.route import DeliveryPolicy, backoff_s, policy_for

_NATS_BATCH = 10


@dataclass(frozen=True, slots=True)
class TriggerDelivery:
    """What counts for one Trigger. The nodes are where it is written; None where it is not."""

    policy: DeliveryPolicy
    timeout: Node | None
    retry: Node | None

    @property
    def waits_s(self) -> float:
        """Seconds that lie between the attempts."""
        return sum(backoff_s(self.policy, attempt) for attempt in range(self.policy.retry))


def delivery_of(trigger: Table, broker: Table | None) -> TriggerDelivery:
    """The delivery of `trigger` on `broker`, None where the Broker is not known."""
    own, brokers = (child(one, "spec", "delivery") for one in (trigger, broker))
    there = Broker("", "", broker_class=class_of(broker), delivery=read_delivery(brokers))
    here = Trigger("", "", "", Destination(), delivery=read_delivery(own))
    profile = profile_for(there)
    return TriggerDelivery(
        policy_for(here, there, profile),
        *(_written(name, own, brokers, profile) for name in ("timeout", "retry")),
    )


def class_of(broker: Table | None) -> str:
    """The class that a Broker names, "" where it names none."""
    return content(fields(child(broker, "metadata", "annotations")).get(BROKER_CLASS))


def nats_batch(broker: Table | None) -> int:
    """How many events a NATS Broker fetches at a time, to deliver them one after the other."""
    text = content(fields(child(broker, "metadata", "annotations")).get(NATS_CONFIG))
    try:
        entries = json.loads(text)["filter"]["env"]
        sizes = [one["value"] for one in entries if one["name"] == "CONSUMER_FETCH_BATCH_SIZE"]
        return int(sizes[-1]) if int(sizes[-1]) > 0 else _NATS_BATCH
    except (ValueError, LookupError, TypeError):
        return _NATS_BATCH


def _written(name: str, own: Node | None, brokers: Node | None, profile: Profile) -> Node | None:
    """Where the value of a field that counts is written, as `policy_for` chooses it."""
    found = fields(own).get(name)
    by_field = profile.inherits == "fields"
    if found is not None and not (by_field and name == "retry" and not number(found)):
        return found
    inherited = by_field or (own is None and profile.inherits != "never")
    return fields(brokers).get(name) if inherited else None
