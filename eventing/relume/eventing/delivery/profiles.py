"""What each kind of Broker does with a delivery, as the numbers and rules that a delivery follows.

`strict` is the Knative Eventing data plane contract (knative/specs, specs/eventing/data-plane.md).
The others are what the Brokers of a cluster do, where they deviate from it and from each other, so
that a user sees here what an inference that takes minutes will meet there. They were read in
knative/eventing 8cf4c4b6 (`mt`, on an in-memory channel), knative-extensions/eventing-kafka-broker
7d8fe89f, eventing-rabbitmq bd1ee997 and eventing-natss 03a34594, each with its shipped settings.

Not played: where an event is stored, and with it what only the store does. An `mt` Broker on an
in-memory channel answers its producer when every delivery is done, and forgets what was under way
when its pod ends; here a producer has its 202 once the event is on disk. More than one replica of a
dispatcher, which doubles the bounds of `kafka` and lets `nats` deliver an event a second time while
the first delivery runs. Redirects, which Go's HTTP client follows. The answers of a dead letter
sink, which `kafka` and `rabbitmq` take for replies; the attributes that `kafka` takes from response
headers `kne-…`; an `mt` dead letter after a timeout, which has no error extensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relume.config import Broker
from relume.config.broker_classes import profile_name

ErrorField = Literal["dest", "code", "data"]
_ALL: frozenset[ErrorField] = frozenset({"dest", "code", "data"})
_NO_FIELD: frozenset[ErrorField] = frozenset()
_CONTRACT = frozenset({404, 408, 409, 429})


@dataclass(frozen=True, slots=True)
class FixedRetry:
    """Retries that no delivery spec changes; linear, the first at once."""

    retry: int
    delay_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The rules of one kind of Broker. In brackets: the clauses B1–B12 of the delivery checklist.

    name, plays: the word for it, and in one line what it stands for (None: the specification).

    Attempts [B4]
    retried: the statuses tried again, besides every 5xx and no answer at all.
    first_exponent: the n of the first wait (delay · 2^n, or delay · n). It is 0 in
        knative/eventing pkg/kncloudevents/retries.go, so that a linear policy begins at once. It is
        1 in WebClientCloudEventSender (kafka), in the Go SDK's context/retry.go (rabbitmq), and by
        the delivery count (nats).
    heeds_retry_after: whether a delivery's retryAfterMax lets the header count (of a cluster's
        Brokers `mt` only, and there behind the flag delivery-retryafter, which is off).
    heeds_drops: whether a rejection by llm-d's router costs none of the retries (`llm_d`); no
        Broker of a cluster reads its reason.
    inherits: what a Trigger with a delivery of its own takes from the Broker's: the dead letter
        sink, nothing (rabbitmq), or each field that it leaves out (kafka, MergeEgressConfig).
        `never`: nothing, and without a delivery neither (nats).
    default_retry, default_delay_s: of a delivery that does not say them. `mt` and `nats` want the
        policy and the delay together; without both there is no wait (None; the filter of nats even
        crashes).
    timeout_s: of one attempt when the delivery has none [B7].
    ack_wait_s: after so long without a timeout, a second replica of the dispatcher would deliver
        the event again while the first delivery runs [B7]. It is told and not done: with the one
        replica that nats ships, a late acknowledgement counts and nothing comes twice.

    Answers [B5]
    replies_in_202: whether an event in a 202 is a reply.
    malformed_reply: what a 2xx whose body is no event is.
    refused: what a status that is not tried again is. `final`: a dead letter on the last attempt
        only, else gone (nats Terms it). `delivered`: success (rabbitmq's getStatus).
    counts_passages: whether replies carry a time to live [B2].

    Concurrency [B8]
    at_once: deliveries of one Trigger. None is no bound but what one Trigger can hold.
    parallel: whether the Trigger's parallelism annotation says it instead.
    asks_subscriber: whether it is as many as the subscriber can take (containerConcurrency of all
        replicas); the annotation may only lower that.
    pauses: whether a 429 or 503 with Retry-After pauses the whole Trigger.
    waits_in_place: whether an event between two attempts keeps its place among them.
    partitions: of an ordered Trigger, each delivered one by one; None: one for every partition key,
        or the annotation is not read.

    Dead letters [B6]
    keeps_undeliverable: whether what no sink took is kept; else it is gone, as it would be there.
    sink_retry: the retries of a sink; None: the Trigger's.
    error_fields, unanswered_fields, malformed_fields: which of knativeerrordest, -code and -data
        a dead letter gets: after a status, without an answer, after a body that is no event.
    unanswered_code: knativeerrorcode without an answer.
    tells_reason: whether a dead letter gets deadletterreason, our own word.
    error_data_bytes: how much of the answer knativeerrordata holds, before base64.
    """

    name: str
    plays: str | None
    retried: frozenset[int] = _CONTRACT
    first_exponent: int = 0
    heeds_retry_after: bool = False
    heeds_drops: bool = False
    inherits: Literal["sink", "nothing", "fields", "never"] = "sink"
    default_retry: int = 0
    default_delay_s: float | None = None
    timeout_s: float | None = None
    ack_wait_s: float | None = None
    replies_in_202: bool = True
    malformed_reply: Literal["dead-letter", "retry", "delivered"] = "delivered"
    refused: Literal["dead-letter", "final", "delivered"] = "dead-letter"
    counts_passages: bool = False
    at_once: int | None = 1
    parallel: bool = False
    waits_in_place: bool = False
    asks_subscriber: bool = False
    pauses: bool = False
    partitions: int | None = None
    keeps_undeliverable: bool = False
    sink_retry: FixedRetry | None = None
    error_fields: frozenset[ErrorField] = _ALL
    unanswered_fields: frozenset[ErrorField] = _ALL
    malformed_fields: frozenset[ErrorField] = _ALL
    unanswered_code: int = -1
    tells_reason: bool = False
    error_data_bytes: int = 768  # 1,024 characters of base64


STRICT = Profile(
    name="strict",
    plays=None,
    heeds_retry_after=True,
    heeds_drops=True,
    default_delay_s=0.2,
    replies_in_202=False,
    malformed_reply="dead-letter",
    counts_passages=True,
    at_once=None,
    parallel=True,
    asks_subscriber=True,
    pauses=True,
    keeps_undeliverable=True,
    tells_reason=True,
)
MT = Profile(
    name="mt",
    plays="the channel-based Broker of Knative Eventing: no bound on deliveries at once",
    heeds_retry_after=True,
    malformed_reply="retry",  # the filter answers 502 to the channel
    counts_passages=True,
    at_once=None,
    malformed_fields=_NO_FIELD,  # the 502 of the filter has no body to read them from
    unanswered_code=500,
)
KAFKA = Profile(
    name="kafka",
    plays="the Kafka Broker: 50 deliveries at once, 600 s each, no Retry-After, no end of loops",
    first_exponent=1,
    inherits="fields",
    default_delay_s=1.0,  # BROKER_DEFAULT_BACKOFF_DELAY_MS
    timeout_s=600.0,  # DEFAULT_TIMEOUT_MS
    malformed_reply="dead-letter",
    at_once=50,  # max.poll.records
    waits_in_place=True,
    partitions=10,  # default.topic.partitions
    unanswered_fields=frozenset({"dest"}),
    malformed_fields=frozenset({"dest"}),
    error_data_bytes=1024,
)
RABBITMQ = Profile(
    name="rabbitmq",
    plays="the RabbitMQ Broker: one delivery at a time, a refused event is gone",
    first_exponent=1,
    inherits="nothing",
    default_retry=5,
    default_delay_s=0.05,
    refused="delivered",
    parallel=True,
    waits_in_place=True,
    error_fields=frozenset({"dest", "code"}),
    unanswered_fields=frozenset({"dest", "code"}),
)
NATS = Profile(
    name="nats",
    plays="the NATS JetStream Broker: one delivery at a time, a refused event is gone",
    retried=frozenset({408, 429}),
    first_exponent=1,
    inherits="never",
    ack_wait_s=30.0,
    refused="final",
    sink_retry=FixedRetry(retry=3, delay_s=0.5, timeout_s=1.0),
    error_fields=_NO_FIELD,
    unanswered_fields=_NO_FIELD,
)
ALL: Mapping[str, Profile] = {each.name: each for each in (STRICT, MT, KAFKA, RABBITMQ, NATS)}


def profile_for(broker: Broker) -> Profile:
    """The profile that a Broker's class annotation names; `strict` without one we know."""
    return ALL[profile_name(broker.broker_class)]
