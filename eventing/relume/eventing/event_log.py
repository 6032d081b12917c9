"""What the eventing plane needs of a durable event log. JetStream is one, `testing` has another.

One log per Broker, one cursor per Trigger. An event that was appended stays until every cursor has
settled it, whatever happens to this process or to the log's own.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relume.base.errors import RelumeError
from relume.eventing.envelope import Envelope
from relume.eventing.settings import MAX_STORED_BYTES

# So many events of a Broker can be recalled: as many as the observer keeps records.
RECALLED = 1000


class StoreUnavailable(RelumeError):
    """The log cannot be reached or refuses to store; nothing was promised to anybody."""

    reason = "store-unavailable"
    retryable = True


class BrokerFull(RelumeError):
    """The Broker's log has reached its limit; there is room when its Triggers have settled more."""

    reason = "broker-full"
    retryable = True


class DiskFull(RelumeError):
    """The log has no room on its disk; somebody must make some."""

    reason = "disk-full"
    retryable = True


class EventTooLarge(RelumeError):
    """The event does not fit one message of the log."""

    reason = "event-too-large"


class LeaseLost(RelumeError):
    """Another process has what was leased, or it is settled: this one stops and writes nothing."""

    reason = "lease-lost"


def packed(envelope: Envelope) -> bytes:
    """The stored form of an event. Raises EventTooLarge when it does not fit one message."""
    payload = envelope.pack()
    if len(payload) > MAX_STORED_BYTES:
        raise EventTooLarge(f"{len(payload)} bytes do not fit one message")
    return payload


class BrokerKey(NamedTuple):
    """Names a Broker."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class LeasedEvent(Protocol):
    """An event on lease to this process: settle it, give it back, or keep the lease alive.

    All three are one-way: a lost message is made up for by redelivery, never by an error.
    """

    @property
    def sequence(self) -> int:
        """The event's place in its Broker's log; the same on every redelivery."""
        ...

    @property
    def payload(self) -> bytes:
        """A packed Envelope."""
        ...

    @property
    def generation(self) -> int:
        """How often it was delivered to anybody: a later lease has a higher number."""
        ...

    async def settle(self) -> None:
        """This cursor is done with the event."""
        ...

    async def give_back(self) -> None:
        """Redeliver at once, to this process or the next."""
        ...

    async def extend(self) -> None:
        """Start the lease anew."""
        ...


class Cursor(Protocol):
    """One Trigger's place in its Broker's log."""

    @property
    def waiting(self) -> int:
        """How many events were never fetched, or were left unsettled by an earlier process."""
        ...

    @property
    def inherited(self) -> tuple[int, int]:
        """How many events earlier processes left unsettled, and the last that they ever got.

        Both as they were when the log was opened; numbers are sequences.
        """
        ...

    async def fetch(self, limit: int) -> Sequence[LeasedEvent]:
        """One to `limit` events, as soon as there is one; survives a restart of the log.

        The same event comes again after its lease ran out, after it was given back, and when a
        settlement was lost. Cancelling loses nothing.
        """
        ...

    async def stop(self) -> None:
        """Receive nothing more, and give back what was received but not handed out.

        It may be called twice.
        """
        ...

    async def confirm(self) -> None:
        """Return when the log knows what was settled and given back; a process calls this last.

        Also returns when the log cannot be reached. What was given back comes to the next process
        within two seconds, even when the log itself is started again.
        """
        ...


class EventLog(Protocol):
    """The durable logs of all Brokers."""

    async def open_broker(self, broker: BrokerKey, triggers: Sequence[str]) -> None:
        """Make the Broker's log ready, with one cursor per Trigger name and no others.

        A new Trigger sees events from now on. The place of a known one is kept, and so is the
        cursor of one that is at work. It may be called again for a Broker that is open.
        """
        ...

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        """Store an event durably; False when the log already held the same one (`identity`).

        Waits up to `patience_s` for a log that restarts, and without end where that is infinite.
        Raises StoreUnavailable, DiskFull, EventTooLarge.
        """
        ...

    async def append_all(
        self, broker: BrokerKey, envelopes: Sequence[Envelope], patience_s: float
    ) -> Sequence[bool]:
        """The same for many events. After an error some may be stored: append all of them again."""
        ...

    async def admit(self, broker: BrokerKey) -> None:
        """Ask before an event from outside: raises BrokerFull, DiskFull.

        `append` does not ask: replies and dead letters belong to accepted events, and must have
        room when producers have none.
        """
        ...

    async def bury(
        self, broker: BrokerKey, trigger: str, envelope: Envelope, patience_s: float
    ) -> None:
        """Store a dead letter that no sink took, once per Trigger and event; raises as `append`."""
        ...

    def cursor(self, broker: BrokerKey, trigger: str) -> Cursor:
        """The cursor of a Trigger that was named to `open_broker`."""
        ...

    async def recall(self, broker: BrokerKey, key: str) -> Envelope | None:
        """An event with long data that this process has stored, by its `identity`.

        None when it is not stored any more, or is not among the last `RECALLED` ones. Raises
        StoreUnavailable.
        """
        ...

    def buried(self, broker: BrokerKey) -> int:
        """How many dead letters lie in the Broker's log."""
        ...

    async def sweep(self) -> None:
        """Remove what every cursor has settled and duplicate suppression no longer needs."""
        ...
