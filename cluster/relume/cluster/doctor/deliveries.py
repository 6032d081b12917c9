"""The delivery of a Trigger as the class of its Broker finds it.

What a Trigger takes from its Broker, and what a delivery means that leaves something out, differs
by class. Sources: knative/eventing pkg/reconciler/broker/trigger and pkg/kncloudevents/retries.go,
eventing-kafka-broker's MergeEgressConfig, eventing-rabbitmq pkg/reconciler/trigger/trigger.go,
eventing-natss pkg/broker/{trigger,filter}/reconciler.go.
`relume.eventing.delivery.profiles` plays the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relume.base.vocabulary import BROKER_CLASS, NATS_CONFIG
from relume.cluster.admission.judge import child, content, fields, number
from relume.config.broker_classes import profile_name
from relume.config.durations import iso8601_duration
from relume.config.nodes import Node, Table

# config-br-defaults: what a Broker without delivery gets.
_RETRIES, _DELAY_S = 10, 0.2
_NATS_BATCH = 10
_MOST_DOUBLINGS = 64
Written = Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class Rules:
    """One class of Broker; see `relume.eventing.delivery.profiles.Profile` for the words.

    `retries` and `delay_s` (seconds) are those of a delivery that does not say them; a `delay_s` of
    None: without policy and delay there is no wait.
    """

    inherits: Literal["sink", "nothing", "fields", "never"] = "sink"
    retries: int = 0
    delay_s: float | None = None
    timeout_s: float | None = None
    first_exponent: int = 0


RULES: Mapping[str, Rules] = {
    "strict": Rules(delay_s=0.2),
    "mt": Rules(),
    "kafka": Rules("fields", delay_s=1.0, timeout_s=600.0, first_exponent=1),
    "rabbitmq": Rules("nothing", retries=5, delay_s=0.05, first_exponent=1),
    "nats": Rules("never", first_exponent=1),
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What counts for one Trigger. The nodes are where it is written; None where it is not."""

    sink: Node | None
    timeout: Node | None
    timeout_s: float | None
    retry: Node | None
    retries: int
    delay_s: float
    linear: bool
    first_exponent: int

    @property
    def waits_s(self) -> float:
        """Seconds that lie between the attempts: delay x 2^n, or delay x n where linear."""
        numbers = range(self.first_exponent, self.first_exponent + self.retries)
        if self.linear:
            return self.delay_s * sum(numbers)
        return self.delay_s * float(sum(2 ** min(n, _MOST_DOUBLINGS) for n in numbers))


def delivery_of(trigger: Table, broker: Table | None) -> Delivery:
    """The delivery of `trigger` on `broker`, None where the Broker is not known."""
    rules = RULES[profile_name(class_of(broker))]
    said, sink = _said(trigger, broker, rules)
    policy, delay = said.get("backoffPolicy"), seconds(said.get("backoffDelay"))
    unsaid = _unsaid(trigger, broker, rules)
    if unsaid:
        delay = _DELAY_S
    elif rules.delay_s is None:  # policy and delay count together
        delay = 0.0 if policy is None else delay
    elif delay is None:
        delay = rules.delay_s
    retry, timeout = said.get("retry"), said.get("timeout")
    retries = _RETRIES if unsaid else rules.retries
    return Delivery(
        sink=sink,
        timeout=timeout,
        timeout_s=rules.timeout_s if timeout is None else seconds(timeout),
        retry=retry,
        retries=retries if retry is None else min(number(retry) or 0, 1000),
        delay_s=delay or 0.0,
        linear=content(policy) == "linear",
        first_exponent=rules.first_exponent,
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


def seconds(node: Node | None) -> float | None:
    """An ISO 8601 duration in seconds; None where there is none."""
    try:
        return None if node is None else iso8601_duration(content(node))
    except ValueError:
        return None


def _unsaid(trigger: Table, broker: Table | None, rules: Rules) -> bool:
    """Whether the delivery that counts is the one of config-br-defaults."""
    own, brokers = (child(one, "spec", "delivery") for one in (trigger, broker))
    return brokers is None and rules.inherits != "never" and (own is None or _merges(own, rules))


def _merges(own: Node, rules: Rules) -> bool:
    return rules.inherits == "fields" and not number(fields(own).get("retry"))


def _said(trigger: Table, broker: Table | None, rules: Rules) -> tuple[Written, Node | None]:
    """The fields that count, and the dead letter sink."""
    given = child(trigger, "spec", "delivery")
    own, brokers = fields(given), fields(child(broker, "spec", "delivery"))
    said = own if given is not None or rules.inherits == "never" else brokers
    if rules.inherits == "fields" and given is not None:
        said = _merged(own, brokers)
    sink = said.get("deadLetterSink")
    if sink is None and rules.inherits == "sink":
        sink = brokers.get("deadLetterSink")
    return said, sink


def _merged(own: Written, brokers: Written) -> Written:
    """Kafka: what a Trigger leaves out is the Broker's, and its 0 counts as left out."""
    if not own.keys() & {"retry", "timeout", "deadLetterSink"}:
        return brokers  # a backoff alone says nothing
    kept = {name: node for name, node in own.items() if name != "retry" or number(node)}
    merged = {**brokers, **kept}
    # A backoff counts only beside a retry, and the policy is never the Broker's.
    counts = own if "retry" in own else {k: v for k, v in brokers.items() if k == "backoffDelay"}
    for name in ("backoffPolicy", "backoffDelay"):
        merged.pop(name, None)
        if name in counts:
            merged[name] = counts[name]
    return merged
