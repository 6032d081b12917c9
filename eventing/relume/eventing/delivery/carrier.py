"""What a dispatcher gives its events to: a Trigger's courier, or the runner of a service's jobs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from relume.eventing.delivery.decision import DeadLetter
from relume.eventing.delivery.route import Tally
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import LeasedEvent

# Entered while an event waits for a slot or for its next attempt and may be given back.
Idle = Callable[[], AbstractContextManager[None]]


class Carrier(Protocol):
    """Brings one event to its end, any number at once.

    A carrier does not settle, extend or give back leases. When `carry` returns, the event may be
    settled; when it is cancelled or raises, the event must be delivered again. It raises LeaseLost
    when another process has the event: then nothing is said about the lease any more.
    """

    tally: Tally

    async def carry(self, envelope: Envelope, leased: LeasedEvent, idle: Idle) -> None:
        """Bring the event to its end; `leased` says where it lies and how often it was leased."""
        ...

    async def give_up(self, envelope: Envelope, letter: DeadLetter) -> None:
        """End the event after a fault of our own code."""
        ...
