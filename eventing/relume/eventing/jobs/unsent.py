"""Events of settled jobs that their sink has not taken yet, and when each is sent again.

An event that could not be sent at once is parked: the store keeps it beside the records, so that
its record is done with, and neither the records nor the events of other sinks wait for this sink.
Of the events for a sink that is away one asks for all, and the others are put off.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relume.base.clock import Clock
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import Cursor, LeasedEvent
from relume.eventing.jobs.store import ParkedCursor, ParkedEvent

# The headers by which a dead letter and a parked event keep their sink, their namespace and their
# job, and a parked event the rest besides; none of them is sent.
SINK, NAMESPACE = "relume-sink", "relume-namespace"
_JOB, _UNTIL, _ATTEMPTS, _DUE = "relume-job", "relume-until", "relume-attempts", "relume-due"
_REDRIVE, _TRIED_BY, _PROBE = "relume-redrive", "relume-tried-by", "relume-probe"
# The longest that an event is put off, whatever the clock of the machine does.
_LONGEST_S = 60.0
# The longest pause of an event whose sink has not asked for one (`outbox._POLICY`).
_SHORT_S = 26.0
# The job of an event that was a dead letter, and was put back.
_PUT_BACK = "put-back"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event for one sink, tried `attempts` times, and again at `due`.

    `namespace` is that of the service that answered. It may be given up after `until`; a dead
    letter that was put back has only its few attempts. Both times are seconds since 1970.
    `tried_by` is the process that tried it last. `probes` says that it asks its sink, which is
    away, for all others.
    """

    event: CloudEvent
    sink: str
    namespace: str
    job: str = _PUT_BACK
    until: float = -math.inf
    attempts: int = 0
    due: float = -math.inf
    redrive: int = 0
    tried_by: str = ""
    probes: bool = False

    @property
    def name(self) -> str:
        """What tells the events of one job apart; the same each time that an event is parked."""
        both = f"{self.sink}\0{self.event.id}".encode()
        return hashlib.blake2b(both, digest_size=8).hexdigest()

    def parked(self) -> Envelope:
        """The form in which the store keeps it."""
        headers = self.headers | {
            _UNTIL: repr(self.until),
            _ATTEMPTS: str(self.attempts),
            _DUE: repr(self.due),
        }
        # The redrive is stored only with a Trigger, and this event is for whoever reads it.
        return Envelope(
            self.event, headers | {_REDRIVE: str(self.redrive), _TRIED_BY: self.tried_by}
        )

    @property
    def headers(self) -> dict[str, str]:
        """The headers that a dead letter needs in order to be put back."""
        return {SINK: self.sink, NAMESPACE: self.namespace, _JOB: self.job}

    @classmethod
    def from_envelope(cls, envelope: Envelope) -> "Outgoing":
        """A parked event, or a dead letter that was put back. Raises KeyError for another one."""
        headers = envelope.headers
        return cls(
            envelope.event,
            headers[SINK],
            headers[NAMESPACE],
            headers.get(_JOB, _PUT_BACK),
            float(headers.get(_UNTIL, "-inf")),
            int(headers.get(_ATTEMPTS, "0")),
            float(headers.get(_DUE, "-inf")),
            int(headers.get(_REDRIVE, envelope.redrive)),
            headers.get(_TRIED_BY, ""),
            _PROBE in headers,
        )


def place_of(dead: Envelope) -> tuple[str, str]:
    """The job of a dead letter, and what tells it from others of the job.

    Without a sink it is a whole record that a fault of ours has stopped.
    """
    if SINK in dead.headers:
        outgoing = Outgoing.from_envelope(dead)
        return outgoing.job, outgoing.name
    return _PUT_BACK, hashlib.blake2b(dead.event.data or b"", digest_size=8).hexdigest()


class Away:
    """The sinks that failed last, and when each may be asked again: one event asks for all.

    `wait_s` is how long to wait after so many failures, and an attempt takes `attempt_s` at most.
    """

    def __init__(self, wait_s: Callable[[int], float], attempt_s: float) -> None:
        self._wait_s = wait_s
        self._attempt_s = attempt_s
        self._sinks: dict[str, tuple[int, float]] = {}

    def __contains__(self, sink: str) -> bool:
        return sink in self._sinks

    def until(self, sink: str) -> float:
        return self._sinks.get(sink, (0, -math.inf))[1]

    def asks(self, sink: str, now: float) -> None:
        """An attempt begins: the others wait for its end."""
        failures, until = self._sinks[sink]
        self._sinks[sink] = (failures, max(until, now + self._attempt_s))

    def failed(self, sink: str, now: float, *, asked: bool) -> None:
        """An attempt has failed; `asked` says that it was the one for all."""
        failures, until = self._sinks.get(sink, (0, -math.inf))
        if asked or now >= until:  # those that failed together count once
            self._sinks[sink] = (failures + 1, now + self._wait_s(failures))

    def back(self, sink: str) -> bool:
        """The sink answers; whether it was away."""
        return self._sinks.pop(sink, None) is not None


class CursorOver:
    """A cursor that hands out what another one brings, in another form; `fetch` is its own."""

    def __init__(self, cursor: Cursor) -> None:
        self._over = cursor
        self.stop, self.confirm = cursor.stop, cursor.confirm

    @property
    def waiting(self) -> int:
        return self._over.waiting

    @property
    def inherited(self) -> tuple[int, int]:
        return self._over.inherited


class LeasedAs:
    """A leased event with another payload."""

    def __init__(self, leased: LeasedEvent, payload: bytes) -> None:
        self.sequence, self.generation = leased.sequence, leased.generation
        self.settle, self.give_back, self.extend = leased.settle, leased.give_back, leased.extend
        self.payload = payload


class Parked(CursorOver):
    """The cursor of parked events: it hands out those that are to be sent now, and no others.

    `process` names this process. What another one has tried is tried here at once, because the way
    from here may be another one; not so where its sink has asked for time, or its time is up.
    """

    def __init__(self, cursor: ParkedCursor, away: Away, clock: Clock, process: str) -> None:
        super().__init__(cursor)
        self._cursor = cursor
        self._away = away
        self._process = process
        self._clock = clock
        self._waiting: dict[str, set[int]] = {}  # the events that were put off, by their sinks

    async def fetch(self, limit: int) -> Sequence[LeasedEvent]:
        due: list[LeasedEvent] = []
        while not due:
            brought = list(await self._cursor.fetch(limit))
            try:
                while brought:
                    if (wanted := await self._wanted(brought[0])) is not None:
                        due.append(wanted)
                    del brought[0]
            except BaseException:  # cancelled: nothing that was brought is kept
                for leased in (*brought, *due):
                    await leased.give_back()
                raise
        return due

    async def _wanted(self, leased: ParkedEvent) -> LeasedEvent | None:
        """The event, if it is to be sent now; else it is put off."""
        try:
            envelope = Envelope.unpack(leased.payload)
            outgoing = Outgoing.from_envelope(envelope)
        except (InvalidEvent, KeyError, ValueError):
            return leased  # it is damaged: whoever sends it says so
        self._forget(outgoing.sink, leased.sequence)
        now = self._clock.now().timestamp()
        at = max(self._due(outgoing, now), min(self._away.until(outgoing.sink), outgoing.until))
        if at > now:
            self._waiting.setdefault(outgoing.sink, set()).add(leased.sequence)
            await leased.put_off(min(at - now, _LONGEST_S))
            return None
        if outgoing.sink in self._away and outgoing.until > now:
            self._away.asks(outgoing.sink, now)
            # It asks for all others of its sink.
            headers = {**envelope.headers, _PROBE: "1"}
            return LeasedAs(leased, Envelope(envelope.event, headers).pack())
        return leased

    async def recall(self, sink: str) -> None:
        """A sink that was away answers: what waits for it comes now."""
        await self._cursor.recall(self._waiting.pop(sink, ()))

    def _forget(self, sink: str, sequence: int) -> None:
        if (waiting := self._waiting.get(sink)) is not None:
            waiting.discard(sequence)
            if not waiting:
                del self._waiting[sink]

    def _due(self, outgoing: Outgoing, now: float) -> float:
        foreign = outgoing.tried_by != self._process
        short = outgoing.due - now <= _SHORT_S and outgoing.until > now
        return -math.inf if foreign and short else outgoing.due
