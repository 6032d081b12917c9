"""Who may talk to which ready replica of a revision now, and who waits for one.

containerConcurrency 0 releases every held request at once on the first ready replica; N lets N x
ready replicas through. The choice among replicas is Knative's: random choice of two for 0, the
first with room for 1 to 3, round robin above (knative/serving pkg/activator/net; checklist A6).
First come, first served.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from relume.base.vocabulary import DRAINING

#: How many requests of a service may wait: the queue depth of Knative's activator
#: (`breakerQueueDepth`, knative/serving pkg/activator/net/throttler.go), which does not enforce it.
MOST_HELD = 10_000
# The ledger keeps the id of the event that started a process.
EVENT_ID_CHARACTERS = 4096


@dataclass(slots=True, eq=False)
class Backend:
    """One ready replica, as the request path sees it."""

    replica: int
    base_url: str
    in_flight: int = 0
    ready_at: float = -math.inf
    """Monotonic seconds."""
    cold_start_ms: float = 0.0
    """From the request for the process until it was ready."""
    gone: bool = False
    """The process has ended."""
    ended: str | None = None
    """Why the plane itself has ended the process."""
    on_answer: Callable[[float], None] = lambda _: None
    """Called at the first byte of a good answer, with the ms since its request was granted."""
    on_drain: Callable[[], None] = lambda: None
    """Called when the process says that it was told to stop, by somebody else."""
    on_failing: Callable[[], None] = lambda: None
    """Called when the process can take no request, and is about to end as far as anyone knows."""
    on_release: Callable[[], None] = lambda: None
    """Called whenever a request gives the replica back."""

    def begins_none(self, why: str) -> None:
        """The process has refused a request before it began, for the reason `why`."""
        if why == DRAINING:
            self.on_drain()
        else:
            self.on_failing()


@dataclass(slots=True, eq=False)
class Waiter:
    """One held request."""

    since: float
    """When it arrived; monotonic seconds."""
    event_id: str | None
    """The id of the CloudEvent that it carries; only its beginning where it is very long."""
    granted: asyncio.Future[Backend]


class Throttler:
    """Holds the requests of one revision and hands out its replicas."""

    def __init__(
        self,
        container_concurrency: int,
        rng: random.Random,
        most: int = MOST_HELD,
        full: Callable[[], Exception] = lambda: asyncio.QueueFull(),
    ) -> None:
        """most: how many requests may wait; one more is refused with what `full` returns."""
        self.limit = container_concurrency
        """containerConcurrency; 0: no limit."""
        self._rng = rng
        self.most = most
        self._full = full
        self._backends: list[Backend] = []
        self._waiters: deque[Waiter] = deque()
        self._next = 0
        self._closed: Exception | None = None

    @property
    def held(self) -> int:
        """How many requests wait."""
        return len(self._waiters)

    @property
    def first(self) -> Waiter | None:
        """The request that has waited longest."""
        return self._waiters[0] if self._waiters else None

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The replicas that get requests, in the order in which they became ready."""
        return tuple(self._backends)

    def backend(self, replica: int | None) -> Backend | None:
        """Return this replica if it gets requests."""
        return next((b for b in self._backends if b.replica == replica), None)

    def try_acquire(self, preferred: int | None = None) -> Backend | None:
        """Return a replica with room, counted as used; None if there is none.

        It is the preferred replica where that one has room, else the one that `_pick` chooses.
        This overtakes nobody: the requests that wait were given all the room there was.
        """
        backend = self.backend(preferred)
        if backend is None or (self.limit and backend.in_flight >= self.limit):
            return self._pick()
        backend.in_flight += 1
        return backend

    def enqueue(self, since: float, event_id: str | None) -> Waiter:
        """Put a request at the end of the queue; then await `granted`.

        Raises what `close` was called with, and what `full` returns.
        """
        if self._closed is not None:
            raise self._closed.with_traceback(None)
        if len(self._waiters) >= self.most:
            raise self._full()
        waiter = Waiter(
            since,
            event_id and event_id[:EVENT_ID_CHARACTERS],
            asyncio.get_running_loop().create_future(),
        )
        self._waiters.append(waiter)
        self._grant()
        return waiter

    async def granted(self, waiter: Waiter) -> Backend:
        """Return a replica with room, waiting as long as it takes; pair with `release`.

        Cancelled while waiting, the request leaves the queue and nothing is used. Raises what
        `fail` was called with.
        """
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
            elif waiter.granted.exception() is None:
                # Granted in the same turn of the loop in which the client went away.
                self.release(waiter.granted.result())
            raise

    def release(self, backend: Backend) -> None:
        """Give back what `granted` or `try_acquire` returned."""
        backend.in_flight -= 1
        self._grant()

    def add(self, backend: Backend) -> None:
        """A replica became ready."""
        self._backends.append(backend)
        self._grant()

    def remove(self, replica: int) -> None:
        """A replica drains or is gone; it gets no new request."""
        self._backends = [b for b in self._backends if b.replica != replica]

    def fail(self, error: Exception) -> None:
        """Answer every held request with `error`."""
        while self._waiters:
            self._waiters.popleft().granted.set_exception(error)

    def close(self, error: Exception) -> None:
        """Answer every held request, and each that would wait from here on, with `error`."""
        self._closed = error
        self.fail(error)

    def _grant(self) -> None:
        while self._waiters:
            if self._waiters[0].granted.done():  # cancelled, and not yet taken off the queue
                self._waiters.popleft()
                continue
            backend = self._pick()
            if backend is None:
                return
            self._waiters.popleft().granted.set_result(backend)

    def _pick(self) -> Backend | None:
        if self.limit == 0:
            chosen = self._choice_of_two()
        elif self.limit <= 3:
            chosen = self._first_with_room(0)
        else:
            chosen = self._first_with_room(self._next)
            if chosen is not None:
                self._next = self._backends.index(chosen) + 1
        if chosen is not None:
            chosen.in_flight += 1
        return chosen

    def _choice_of_two(self) -> Backend | None:
        if len(self._backends) < 2:
            return self._backends[0] if self._backends else None
        one, other = self._rng.sample(self._backends, 2)
        return other if other.in_flight < one.in_flight else one

    def _first_with_room(self, start: int) -> Backend | None:
        count = len(self._backends)
        start = start if start < count else 0
        for i in range(count):
            backend = self._backends[(start + i) % count]
            if backend.in_flight < self.limit:
                return backend
        return None
