"""The life of one revision: events in, effects out, no I/O.

    zero ──ScaleTo──▶ starting ──BecameReady──▶ ready ──ScaleTo(0)──▶ draining ──Exited──▶ zero
                         │  └─Abandoned / ScaleTo(0)──▶ draining            │
                         └──Exited──▶ failed(reason) ──ScaleTo, after the back-off──▶ starting

The caller tells what happened and carries out the returned effects in their order; it never reads
a state to act on it. Invariants: no replica is started twice or stopped twice; held
requests are failed only when nothing is left that could answer them; a load is cancelled only
when it was begun for requests and none waits any more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

#: How many replicas start at once; those that are missing besides follow as these become ready. A
#: scale of a million, which a cluster takes, would otherwise stop the plane.
MOST_STARTING = 50


class State(StrEnum):
    """What a revision, or one replica of it, is doing."""

    ZERO = "zero"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """The autoscaler applies a scale. on_demand: for requests, not for a configured minimum."""

    replicas: int
    on_demand: bool = True
    why: str = "scaled-down"


@dataclass(frozen=True, slots=True)
class BecameReady:
    """A replica answers."""

    replica: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A replica is gone, or could not be started; `held` requests wait at this moment."""

    replica: int
    reason: str
    held: int
    fails_held: bool = False
    """Who waits is answered with the reason, even where a replica that was ready has ended."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """These replicas have to make room in memory; `held` requests wait at this moment."""

    replicas: tuple[int, ...]
    why: str
    held: int


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The last client that waited went away."""


@dataclass(frozen=True, slots=True)
class Woke:
    """The time that a WakeAt asked for has come."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The service has changed: each replica that is there now is one of the old revision.

    It goes when a new one is ready. stop_first: it goes at once, because there is no room for both.
    """

    stop_first: bool = False


@dataclass(frozen=True, slots=True)
class NoRoom:
    """There is no memory for a new revision beside the old one, which has to go first."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The plane shuts down; nothing is started from here on."""


RevisionEvent = (
    ScaleTo | BecameReady | Exited | Evicted | Abandoned | Woke | Renewed | NoRoom | Stopping
)


@dataclass(frozen=True, slots=True)
class Start:
    """Start this replica."""

    replica: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Give this replica no new request, let it finish what it has, stop it."""

    replica: int
    why: str
    evicted: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop this replica, which is still loading."""

    replica: int
    why: str
    evicted: bool = False


@dataclass(frozen=True, slots=True)
class FailHeld:
    """Answer every held request with this failure."""

    reason: str
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Forget:
    """The revision is at zero for a reason that the metrics do not know; forget the metrics."""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send Woke at this time (monotonic seconds)."""

    at: float


RevisionEffect = Start | Drain | Cancel | FailHeld | Forget | WakeAt


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th failure in a row, in seconds."""

    first_s: float = 1.0
    max_s: float = 60.0
    stable_s: float = 10.0
    """A replica that was ready for this long ends the row of failures."""

    def after(self, failures: int) -> float:
        """Return the wait after `failures` failures in a row; 0 for none."""
        return min(self.first_s * 2.0 ** (failures - 1), self.max_s) if failures else 0.0


@dataclass(slots=True)
class _Replica:
    state: State
    on_demand: bool
    ready_at: float | None = None
    old: bool = False


class Revision:
    """The replicas of one revision and what should become of them."""

    def __init__(self, min_scale: int, backoff: Backoff) -> None:
        self.min_scale = min_scale
        self._backoff = backoff
        self._replicas: dict[int, _Replica] = {}
        self.target = 0
        """How many replicas there should be."""
        self._on_demand = True
        self._last_id = 0
        self._failures = 0
        self._failure: str | None = None
        self._retry_at = 0.0
        self._stopping = False
        self._stop_first = False

    @property
    def state(self) -> State:
        """The best that any replica offers; failed when none is left after a failure."""
        states = {r.state for r in self._replicas.values()}
        for state in (State.READY, State.STARTING):
            if state in states:
                return state
        if self._failure is not None:
            return State.FAILED
        return State.DRAINING if states else State.ZERO

    @property
    def failure(self) -> str | None:
        """Why the revision is in state failed."""
        return self._failure if self.state is State.FAILED else None

    def count(self, state: State) -> int:
        """Return how many replicas are in this state."""
        return sum(r.state is state for r in self._replicas.values())

    def waits_s(self, now: float) -> float:
        """Return how long nothing is started yet because the last starts have failed."""
        return max(self._retry_at - now, 0.0)

    def on(self, event: RevisionEvent, now: float) -> list[RevisionEffect]:
        """Take in what happened at `now` (monotonic seconds) and return what to do about it."""
        match event:
            case ScaleTo():
                return list(self._scale(event, now))
            case BecameReady(replica):
                return list(self._became_ready(replica, now))
            case Exited():
                return list(self._exited(event, now))
            case Evicted():
                return list(self._evicted(event, now))
            case Abandoned():
                return list(self._abandoned())
            case Woke():
                return list(self._reconcile(now))
            case Renewed():
                return list(self._renewed(event, now))
            case NoRoom():
                self._stop_first = True
                return [self._stop(each, "replaced") for each in reversed(self._live(old=True))]
            case Stopping():
                self._stopping = True
                return list(self._scale(ScaleTo(0, why="shutting-down"), now))

    @property
    def rolling_out(self) -> bool:
        """Whether replicas of the old revision still answer."""
        return bool(self._live(old=True))

    @property
    def rollout_failure(self) -> str | None:
        """Why the new revision is not ready, while the old one answers."""
        return self._failure if self.rolling_out else None

    def _live(self, *, old: bool | None = None) -> list[int]:
        """Return the replicas that answer or will, the ones to stop first at the end.

        old: only those of the old revision, or only the others.
        """
        wanted = [(i, r) for i, r in self._replicas.items() if old is None or r.old is old]
        live = [i for i, r in wanted if r.state in (State.STARTING, State.READY)]
        return sorted(live, key=lambda i: (self._replicas[i].state is State.STARTING, i))

    def _scale(self, event: ScaleTo, now: float) -> Iterator[RevisionEffect]:
        self.target = event.replicas
        self._on_demand = event.on_demand
        live = self._live(old=False)
        for replica in reversed(live[event.replicas :]):
            yield self._stop(replica, event.why)
        yield from self._replace_old(event.why)
        for replica in live[: event.replicas]:
            # What is wanted without requests stays when the last request is given up.
            self._replicas[replica].on_demand &= event.on_demand
        if event.why == "timed-out":
            self._failure = "the predictor did not become ready before the progress deadline"
        yield from self._reconcile(now)

    def _stop(self, replica: int, why: str, *, evicted: bool = False) -> Drain | Cancel:
        entry = self._replicas[replica]
        loading = entry.state is State.STARTING
        entry.state = State.DRAINING
        return (Cancel if loading else Drain)(replica, why, evicted)

    def _reconcile(self, now: float) -> Iterator[RevisionEffect]:
        missing = self.target - len(self._live(old=False))
        if missing <= 0 or self._stopping or self._waits_for_old():
            return
        if now < self._retry_at:
            yield WakeAt(self._retry_at)
            return
        for _ in range(min(missing, MOST_STARTING - self.count(State.STARTING))):
            self._last_id += 1
            self._replicas[self._last_id] = _Replica(State.STARTING, self._on_demand)
            yield Start(self._last_id)

    def _waits_for_old(self) -> bool:
        """Whether a replica of the old revision has to be gone before a new one starts."""
        return self._stop_first and any(entry.old for entry in self._replicas.values())

    def _renewed(self, event: Renewed, now: float) -> Iterator[RevisionEffect]:
        self._stop_first = event.stop_first
        self._failures, self._failure, self._retry_at = 0, None, now
        for entry in self._replicas.values():
            entry.old = True
        for replica in reversed(self._live(old=True)):
            # One that still loads would come up as what nobody wants any more.
            if event.stop_first or self._replicas[replica].state is State.STARTING:
                yield self._stop(replica, "replaced")
        yield from self._reconcile(now)

    def _became_ready(self, replica: int, now: float) -> Iterator[RevisionEffect]:
        entry = self._replicas.get(replica)
        if entry is None or entry.state is not State.STARTING:
            return
        entry.state = State.READY
        entry.ready_at = now
        self._failure = None
        yield from self._replace_old("replaced")
        yield from self._reconcile(now)

    def _replace_old(self, why: str) -> Iterator[RevisionEffect]:
        """Stop the replicas of the old revision that are not needed beside the new ones."""
        new = [r for r in self._replicas.values() if r.state is State.READY and not r.old]
        for other in reversed(self._live(old=True)[max(self.target - len(new), 0) :]):
            yield self._stop(other, why)

    def _exited(self, event: Exited, now: float) -> Iterator[RevisionEffect]:
        entry = self._replicas.pop(event.replica)
        if entry.ready_at is not None and now - entry.ready_at >= self._backoff.stable_s:
            self._failures = 0
        if entry.state is State.DRAINING:
            yield from self._reconcile(now)
            return
        # The first failure of a replica that had been ready is repaired at once, without a wait.
        loading = entry.state is State.STARTING or event.fails_held
        wait = self._backoff.after(self._failures + loading)
        self._failures += 1
        self._failure = event.reason
        self._retry_at = now + wait
        if self._live():
            yield from self._reconcile(now)
        else:
            yield from self._nothing_left(event, loading=loading, now=now)

    def _nothing_left(
        self, event: Exited, *, loading: bool, now: float
    ) -> Iterator[RevisionEffect]:
        held = event.held
        if loading and held:
            yield FailHeld(event.reason, max(self._retry_at - now, 0.0))
            held = 0
        if held == 0 and self.min_scale == 0:
            self.target = 0
            yield Forget()
        else:
            yield from self._reconcile(now)

    def _evicted(self, event: Evicted, now: float) -> Iterator[RevisionEffect]:
        """Stop the replicas; where none is left, start again only for requests or a minimum."""
        live = self._live()
        for replica in reversed([each for each in live if each in event.replicas]):
            yield self._stop(replica, event.why, evicted=True)
        if not self._live() and event.held == 0 and self.min_scale == 0:
            self.target = 0
            yield Forget()
        else:
            yield from self._reconcile(now)

    def _abandoned(self) -> Iterator[RevisionEffect]:
        live = self._live()
        entries = [self._replicas[i] for i in live]
        on_demand = all(r.state is State.STARTING and r.on_demand for r in entries)
        if not on_demand or self.min_scale > 0 or self.target == 0:
            return
        self.target = 0
        for replica in reversed(live):
            yield self._stop(replica, "abandoned")
        yield Forget()
