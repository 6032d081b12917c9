"""A Trigger, resolved, and what it has done."""

from dataclasses import dataclass

from relume.eventing.broker import BrokerKey
from relume.eventing.filters import Predicate
from relume.eventing.policy import DeliveryPolicy


@dataclass(frozen=True, slots=True)
class Route:
    """A Trigger, resolved: where its events come from and go to.

    `sink_unread`: the dead letter sink is a Broker of this plane that no Trigger reads.
    """

    broker: BrokerKey
    trigger: str
    namespace: str
    wanted: Predicate
    policy: DeliveryPolicy
    url: str
    dead_letter_url: str | None = None
    sink_unread: bool = False
    ordered: bool = False


@dataclass(slots=True)
class Tally:
    """What one Trigger has done since this process started."""

    delivered: int = 0
    replied: int = 0
    accepted: int = 0  # replies that the Broker did not have yet
    retried: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    filtered: int = 0
