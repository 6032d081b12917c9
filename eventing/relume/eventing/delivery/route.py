"""A Trigger, resolved, and what it has done."""

from dataclasses import dataclass
from functools import cached_property

from relume.config.urls import without_secrets
from relume.eventing.delivery.policy import DeliveryPolicy
from relume.eventing.event_log import BrokerKey
from relume.eventing.filters import Predicate


@dataclass(frozen=True)
class Route:
    """A Trigger, resolved: where its events come from and go to.

    `url` and `dead_letter_url` may hold a password; only what posts to them reads them.
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

    @cached_property
    def subscriber(self) -> str:
        """The URL for people and events."""
        return without_secrets(self.url)

    @cached_property
    def sink(self) -> str | None:
        """The URL of the dead letter sink for people and events."""
        return without_secrets(self.dead_letter_url) if self.dead_letter_url else None


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
