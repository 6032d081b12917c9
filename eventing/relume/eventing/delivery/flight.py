"""One event that a dispatcher holds."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from relume.eventing.delivery.turns import Turn
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import LeasedEvent


@dataclass(slots=True)
class Flight:
    """One event between its fetch and its end. A newer lease replaces `leased`."""

    leased: LeasedEvent
    envelope: Envelope
    turn: Turn | None = None  # in an ordered Trigger
    idle: bool = False
    tried: bool = False  # it has had a slot
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Idling:
    """The block in which an event waits for its turn, a slot or its next attempt.

    `begin` is called first, and may refuse the wait.
    """

    __slots__ = ("_begin", "_flight")

    def __init__(self, flight: Flight, begin: Callable[[], None]) -> None:
        self._flight = flight
        self._begin = begin

    def __enter__(self) -> None:
        self._begin()
        self._flight.idle = True

    def __exit__(self, error: object, *_: object) -> None:
        self._flight.idle = False
        if error is None:
            self._flight.tried = True
