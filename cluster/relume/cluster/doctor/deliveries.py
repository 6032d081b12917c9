"""The delivery of a Trigger as the class of its Broker finds it.

The rules of the classes, and what a Trigger takes from its Broker, are those that Relume plays on
one machine (`relume.eventing.delivery`). Here a manifest is read for them that may hold what one
machine refuses, such as a sink that is a Knative Service.
"""

import json
import math
from dataclasses import dataclass
from typing import Literal

from relume.base.vocabulary import BROKER_CLASS, NATS_CONFIG
from relume.cluster.admission.judge import child, content, fields, number
from relume.config import Broker, Delivery, Destination, Trigger
from relume.config.durations import iso8601_duration
from relume.config.nodes import Node, Table
from relume.eventing.delivery.profiles import Profile, profile_for
from relume.eventing.delivery.route import DeliveryPolicy, backoff_s, policy_for

_NATS_BATCH = 10
_MOST_RETRIES = 1000  # what is summed up; more than any start needs


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
    there = Broker("", "", broker_class=class_of(broker), delivery=_read(brokers))
    here = Trigger("", "", "", Destination(), delivery=_read(own))
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


def _read(node: Node | None) -> Delivery | None:
    """A delivery that admission has accepted."""
    if node is None:
        return None
    said = fields(node)
    retry, policy = said.get("retry"), content(said.get("backoffPolicy"))
    backoff: Literal["linear", "exponential"] = "linear" if policy == "linear" else "exponential"
    return Delivery(
        retry=None if retry is None else min(number(retry) or 0, _MOST_RETRIES),
        backoff_policy=backoff if policy else None,
        backoff_delay_s=_seconds(said.get("backoffDelay"), None),
        # A timeout of months or years has no fixed length here, and is longer than every answer.
        timeout_s=_seconds(said.get("timeout"), math.inf),
        dead_letter_sink=Destination() if "deadLetterSink" in said else None,
    )


def _seconds(node: Node | None, unreadable: float | None) -> float | None:
    try:
        return None if node is None else iso8601_duration(content(node))
    except ValueError:
        return unreadable


def _written(name: str, own: Node | None, brokers: Node | None, profile: Profile) -> Node | None:
    """Where the value of a field that counts is written, as `policy_for` chooses it."""
    found = fields(own).get(name)
    by_field = profile.inherits == "fields"
    if found is not None and not (by_field and name == "retry" and not number(found)):
        return found
    inherited = by_field or (own is None and profile.inherits != "never")
    return fields(brokers).get(name) if inherited else None
