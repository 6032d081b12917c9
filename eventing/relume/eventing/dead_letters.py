"""Dead letters that their Broker keeps: read them, put one back for its Trigger, remove it.

A dead letter is put back for the one Trigger that gave it up, without that Trigger's filter; the
others have had the event. Putting back is two steps, in an order in which a crash loses nothing:
the event is stored again, then the dead letter is removed. While the dead letter is
still there, the store knows that it was put back, so that a second try only removes it.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from relume.base.clock import Clock
from relume.base.errors import InvalidInput
from relume.base.vocabulary import (
    ARRIVAL_TIME,
    DEAD_LETTER_REASON,
    ERROR_CODE,
    ERROR_DATA,
    ERROR_DESTINATION,
)
from relume.cloudevents.event import CloudEvent, rfc3339
from relume.eventing.envelope import Envelope, identity
from relume.eventing.event_log import BrokerKey
from relume.eventing.observer import Observer, Record

# What `dead_letter_event` adds: Knative's three extensions and our reason.
_ADDED = (ERROR_DESTINATION, ERROR_CODE, ERROR_DATA, DEAD_LETTER_REASON)


class NoSuchDeadLetter(InvalidInput):
    """There is no dead letter of this number: it was put back or removed, or never was."""

    reason = "no-such-dead-letter"

    def __init__(self, broker: BrokerKey, sequence: int | str) -> None:
        super().__init__(f"{broker} has no dead letter {sequence}")


class UnknownBroker(InvalidInput):
    """The plane runs no Broker of this name."""

    reason = "unknown-broker"


class UnknownTrigger(InvalidInput):
    """The Trigger that gave the event up is gone: put back, the event would reach nobody."""

    reason = "unknown-trigger"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `sequence` numbers it in its Broker and is never given to another."""

    broker: BrokerKey
    sequence: int
    at: datetime
    envelope: Envelope

    @property
    def event(self) -> CloudEvent:
        """The event as it was before it was given up."""
        return self.envelope.event.with_attributes(**dict.fromkeys(_ADDED))

    @property
    def trigger(self) -> str:
        """The Trigger that gave it up."""
        return self.envelope.trigger or ""

    @property
    def destination(self) -> str:
        """The URL of the subscriber."""
        return self._added(ERROR_DESTINATION)

    @property
    def code(self) -> int | None:
        """The last status of the subscriber; -1 when it did not answer."""
        try:
            return int(self._added(ERROR_CODE))
        except ValueError:
            return None

    @property
    def reason(self) -> str:
        """`retries-exhausted`, `rejected`, … (`relume.eventing.delivery.decision.DeadLetter`)."""
        return self._added(DEAD_LETTER_REASON)

    @property
    def said(self) -> bytes:
        """How the subscriber's last answer begins."""
        try:
            return base64.b64decode(self._added(ERROR_DATA), validate=True)
        except binascii.Error:
            return b""

    def restored(self) -> Envelope:
        """What is put back: the event as it was, for its Trigger only."""
        return replace(self.envelope, event=self.event, redrive=self.sequence)

    def _added(self, name: str) -> str:
        return str(self.envelope.event.attributes.get(name, ""))


def burial(envelope: Envelope, trigger: str) -> str:
    """The key of a dead letter: one for each Trigger, and one more after each redrive.

    The replies of two Triggers may have the same identity here, because `via` is not stored, but
    they are two events. So the time of arrival and the data are part of the key.
    """
    event = envelope.event
    came = hashlib.blake2b(str(event.attributes.get(ARRIVAL_TIME)).encode(), digest_size=16)
    came.update(event.data or b"")
    return f"{identity(event)}.{came.hexdigest()}.{envelope.redrive}.{trigger}"


class DeadLetterStore(Protocol):
    """The dead letters of every Broker; every method raises StoreUnavailable."""

    def letters(self, broker: BrokerKey, after: int = 0) -> AsyncIterator[Letter]:
        """The dead letters with a number above `after`, oldest first."""
        ...

    async def get(self, broker: BrokerKey, sequence: int) -> Letter:
        """One dead letter. Raises NoSuchDeadLetter."""
        ...

    async def put_back(self, letter: Letter) -> bool:
        """Store the restored event in its Broker, durably; False when it was stored before.

        The dead letter stays. Raises UnknownTrigger.
        """
        ...

    async def remove(self, broker: BrokerKey, sequence: int) -> None:
        """Forget a dead letter for good. Raises NoSuchDeadLetter."""
        ...


async def redrive(store: DeadLetterStore, broker: BrokerKey, sequence: int) -> Letter:
    """Send a dead letter through its Trigger again, once, however often this is called.

    Returns the dead letter that was. Raises NoSuchDeadLetter, UnknownTrigger, StoreUnavailable;
    after the last one, call again.
    """
    letter = await store.get(broker, sequence)
    await store.put_back(letter)
    with contextlib.suppress(NoSuchDeadLetter):  # another call was here first
        await store.remove(broker, sequence)
    return letter


class DeadLetters:
    """Those of a plane's Brokers. Every method raises UnknownBroker and StoreUnavailable.

    One change at a time: a redrive that is held up must not put back what another has put back,
    delivered and removed meanwhile.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        brokers: Collection[BrokerKey],
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._brokers = brokers
        self._observer = observer
        self._clock = clock
        self._changing = asyncio.Lock()

    async def page(self, broker: BrokerKey, after: int, limit: int) -> AsyncIterator[Letter]:
        """At most `limit` dead letters with a number above `after`, oldest first, one at a time."""
        letters = self._store.letters(self._known(broker), after)
        for _ in range(limit):
            if (letter := await anext(letters, None)) is None:
                return
            yield letter

    async def get(self, broker: BrokerKey, sequence: int) -> Letter:
        """One dead letter. Raises NoSuchDeadLetter."""
        return await self._store.get(self._known(broker), sequence)

    async def redrive(self, broker: BrokerKey, sequence: int) -> Letter:
        """As `redrive`, told to whoever watches."""
        async with self._changing:
            letter = await redrive(self._store, self._known(broker), sequence)
        self._observer.publish(
            Record(
                at=rfc3339(self._clock.now()),
                stage="redriven",
                broker=str(broker),
                event=letter.event,
                trigger=letter.trigger,
                detail=f"dead letter {sequence}",
            )
        )
        return letter

    async def remove(self, broker: BrokerKey, sequence: int) -> None:
        """Forget a dead letter for good. Raises NoSuchDeadLetter."""
        async with self._changing:
            await self._store.remove(self._known(broker), sequence)

    def _known(self, broker: BrokerKey) -> BrokerKey:
        if broker not in self._brokers:
            raise UnknownBroker(f"there is no Broker {broker}")
        return broker
