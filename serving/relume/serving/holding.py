"""One request from its arrival until it gives its replica back, HTTP or WebSocket."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from relume.base.clock import Clock
from relume.base.vocabulary import COLD_START_HEADER, QUEUE_HEADER
from relume.serving.throttler import Backend, Throttler
from relume.serving.timeouts import Cut, Cutoff, RequestClocks, Timeouts


@dataclass(frozen=True, slots=True)
class Lease:
    """One request's use of a replica."""

    backend: Backend
    granted_at: float
    headers: Mapping[str, str]
    """What the predictor and the client are told about the wait; whole ms."""


class Scaled(Protocol):
    """What the request path needs of a service: its replicas, and four doors to its scaler.

    The scaler is told what happens to a request, and none of these calls waits.
    """

    throttler: Throttler
    preferred: int | None  # the replica that a router has chosen; None: any

    def arrived(self) -> None:
        """A request is here; from its first instant it is demand."""

    def waits(self) -> None:
        """A request found no replica with room, and is in the queue."""

    def left(self) -> None:
        """A request was answered, failed or given up."""

    def client_left(self) -> None:
        """A client went away before its request was answered."""


class HeldRequest:
    """Holds a request until it has a replica, and knows what ends it.

    What runs inside `cutoff` ends when the client goes away or the time is up; `cut` says which.
    """

    def __init__(self, clock: Clock) -> None:
        self.cutoff = Cutoff()
        self.on_wait: Callable[[], None] = lambda: None
        """Called when the request found no replica with room."""
        self.clocks: RequestClocks | None = None
        self._clock = clock
        self._service: Scaled | None = None
        self._unanswered: Lease | None = None
        self._arrived: float | None = None

    def disconnect(self) -> None:
        """The client went away."""
        self.cutoff.trip(Cut.DISCONNECTED)

    @asynccontextmanager
    async def replica(
        self, service: Scaled, timeouts: Timeouts, event_id: str | None = None
    ) -> AsyncIterator[Lease]:
        """Hold the request until a replica has room, starting one if there is none.

        Called again, because a replica drains, it goes on with the clocks of its first call. Raises
        PredictorFailed when the load that it waited for failed, PlaneStopping.
        """
        self._service = service
        service.arrived()
        self._arrived = since = self._clock.monotonic() if self._arrived is None else self._arrived
        self.clocks = RequestClocks(timeouts, self._clock, self.cutoff, since)
        try:
            self._unanswered = lease = await self._acquire(service, event_id, since)
            try:
                yield lease
            finally:
                service.throttler.release(lease.backend)
                lease.backend.on_release()
        finally:
            self.clocks.cancel()
            service.left()

    async def _acquire(self, service: Scaled, event_id: str | None, arrived: float) -> Lease:
        throttler = service.throttler
        while True:
            free = backend = throttler.try_acquire(service.preferred)
            if backend is None:
                waiter = throttler.enqueue(arrived, event_id)
                service.waits()
                self.on_wait()
                backend = await throttler.granted(waiter)
            if not backend.gone:
                break
            # It died in the turn of the loop in which it was granted; nothing was sent yet.
        now = self._clock.monotonic()
        told = {QUEUE_HEADER: str(round((now - arrived) * 1000))}
        if free is None and backend.ready_at >= arrived:
            told[COLD_START_HEADER] = str(round(backend.cold_start_ms))
        return Lease(backend, now, told)

    def wrote(self, *, good_body: bool) -> None:
        """A part of the answer goes out: headers, or a part of a body that is no error."""
        if self.clocks is not None:
            self.clocks.wrote()
        if good_body and self._unanswered is not None:
            lease, self._unanswered = self._unanswered, None
            lease.backend.on_answer((self._clock.monotonic() - lease.granted_at) * 1000)

    def close(self) -> Cut | None:
        """Tell the service if its client left; returns what ended the request, if anything did."""
        if self.cutoff.cause is Cut.DISCONNECTED and self._service is not None:
            self._service.client_left()
        return self.cutoff.cause
