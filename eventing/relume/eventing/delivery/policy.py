"""A Trigger's delivery spec with every default of its Broker's profile filled in."""

from dataclasses import dataclass
from typing import Literal

from relume.config import Broker, Delivery, Destination, Trigger
from relume.eventing.delivery.profiles import STRICT, Profile

# config-br-defaults (knative/eventing config/core/configmaps/default-broker.yaml): the delivery of
# every Broker that has none, whatever its class.
_BROKER_DEFAULT = Delivery(retry=10, backoff_policy="exponential", backoff_delay_s=0.2)


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How often and how long to try, by the rules of `profile`.

    `retry` counts the attempts after the first, `timeout_s` bounds one attempt (None: nothing
    does), `retry_after_max_s` bounds a Retry-After header (None: the header does not count).
    """

    retry: int = 10
    backoff: Literal["linear", "exponential"] = "exponential"
    backoff_delay_s: float = 0.2
    timeout_s: float | None = None
    retry_after_max_s: float | None = None
    dead_letter_sink: Destination | None = None
    profile: Profile = STRICT
    first_exponent: int = 0


def policy_for(trigger: Trigger, broker: Broker, profile: Profile = STRICT) -> DeliveryPolicy:
    """The policy of one Trigger, as a cluster would find it.

    A delivery counts as a whole: the Trigger's, else the Broker's, else `config-br-defaults`; only
    the dead letter sink falls back by itself. A delivery that leaves out `retry` means no retries.
    A profile may say otherwise (`Profile.inherits`).
    """
    own, brokers = trigger.delivery, broker.delivery or _BROKER_DEFAULT
    match profile.inherits:
        case "sink":
            return _policy(own or brokers, profile, brokers.dead_letter_sink)
        case "nothing":
            return _policy(own or brokers, profile)
        case "fields":
            return _policy(_merged(own, brokers) if own else brokers, profile)
        case "never":
            return _policy(own or Delivery(), profile)


def sink_policy(policy: DeliveryPolicy) -> DeliveryPolicy:
    """How a dead letter is brought to its sink."""
    fixed = policy.profile.sink_retry
    if fixed is None:
        return policy
    return DeliveryPolicy(
        retry=fixed.retry,
        backoff="linear",
        backoff_delay_s=fixed.delay_s,
        timeout_s=fixed.timeout_s,
        profile=policy.profile,
    )


def _policy(
    delivery: Delivery, profile: Profile, sink: Destination | None = None
) -> DeliveryPolicy:
    delay, policy = delivery.backoff_delay_s, delivery.backoff_policy
    if profile.delay_unsaid_s is None:  # both or none
        delay = 0.0 if delay is None or policy is None else delay
    elif delay is None:
        delay = profile.delay_unsaid_s
    return DeliveryPolicy(
        retry=profile.retry_unsaid if delivery.retry is None else delivery.retry,
        backoff=policy or "exponential",
        backoff_delay_s=delay,
        timeout_s=delivery.timeout_s or profile.timeout_s,
        retry_after_max_s=delivery.retry_after_max_s if profile.heeds_retry_after else None,
        dead_letter_sink=delivery.dead_letter_sink or sink,
        profile=profile,
        first_exponent=profile.first_exponent,
    )


def _merged(own: Delivery, brokers: Delivery) -> Delivery:
    """What a Trigger leaves out is the Broker's; its 0 counts as left out (kafka)."""
    if own.retry is None and own.timeout_s is None and own.dead_letter_sink is None:
        return brokers  # a backoff alone says nothing
    return Delivery(
        retry=own.retry or brokers.retry,
        # A backoff counts only beside a retry, and the policy is never the Broker's.
        backoff_policy=own.backoff_policy if own.retry is not None else None,
        backoff_delay_s=own.backoff_delay_s if own.retry is not None else brokers.backoff_delay_s,
        timeout_s=own.timeout_s or brokers.timeout_s,
        dead_letter_sink=own.dead_letter_sink or brokers.dead_letter_sink,
    )
