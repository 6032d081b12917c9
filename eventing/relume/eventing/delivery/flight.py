"""One event that a dispatcher holds."""

import asyncio
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
