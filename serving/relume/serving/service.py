"""One InferenceService: the pure parts wired to real replicas.

Everything changes through few doors, and none of them awaits: a request arrives, waits, leaves; a
replica reports; a tick or a report of the load is due; a timer fires. So the parts always agree.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relume.base.clock import Timer
from relume.config import InferenceService
from relume.serving import revision as rev
from relume.serving import spec
from relume.serving.errors import PlaneStopping, PredictorFailed
from relume.serving.kpa import Autoscaler
from relume.serving.ledger import ColdStart
from relume.serving.logs import LogFiles, tail
from relume.serving.replica import Replica, Reports, Surroundings
from relume.serving.reporter import Reporter
from relume.serving.routing import ServiceKey
from relume.serving.scale_to_zero import Scaler
from relume.serving.throttler import Backend, Throttler


@dataclass(frozen=True, slots=True)
class Lease:
    """One request's use of a replica."""

    backend: Backend
    replica: Replica
    granted_at: float
    held_ms: float
    """From the arrival until a replica was free for it."""
    cold_start_ms: float | None
    """How long the replica took to start, if the request waited for that."""

    @property
    def headers(self) -> dict[str, str]:
        """What the predictor is told about the wait; whole ms."""
        told = {"relume-queue-ms": str(round(self.held_ms))}
        if self.cold_start_ms is not None:
            told["relume-cold-start-ms"] = str(round(self.cold_start_ms))
        return told


class Service:
    """Holds, scales and accounts for one revision."""

    def __init__(
        self,
        config: InferenceService,
        around: Surroundings,
        group: asyncio.TaskGroup,
        log_dir: Path,
        rng: random.Random,
    ) -> None:
        now = around.clock.monotonic()
        self.config = config
        self.key = ServiceKey(config.namespace, config.name)
        self.timeouts = spec.timeouts(config)
        self._around = around
        self._group = group
        self._logs = LogFiles(log_dir, config.namespace, config.name)
        self._bounds = spec.scale_spec(config, around.settings)
        self._reporter = Reporter(now)
        self._autoscaler = Autoscaler(spec.kpa_spec(config))
        self._scaler = Scaler(self._bounds, now)
        self._revision = rev.Revision(self._bounds.min_scale, around.settings.backoff)
        self._throttler = Throttler(config.container_concurrency, rng)
        self._replicas: dict[int, Replica] = {}
        self._wake: Timer | None = None
        self._abandon: Timer | None = None
        self._stopping = False
        self._started = 0
        self._last: Replica | None = None
        self._log_tail: tuple[str, ...] = ()

    # Requests.

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request in and out; from its first instant it is demand."""
        clock = self._around.clock
        now = clock.monotonic()
        if self._abandon is not None:
            self._abandon.cancel()
        first = self._reporter.arrive(now)
        if first is not None:
            self._autoscaler.record(now, first.value(self._autoscaler.spec.metric))
        try:
            yield
        finally:
            self._reporter.leave(clock.monotonic())

    async def acquire(self, event_id: str | None) -> Lease:
        """Return a replica with room, starting one if there is none; pair with `release`.

        Raises PredictorFailed when the load that it waited for failed, PlaneStopping.
        """
        arrived = self._around.clock.monotonic()
        while True:
            free = self._throttler.try_acquire()
            backend = free or await self._wait(arrived, event_id)
            replica = self._replicas.get(backend.replica)
            if replica is not None:
                break
            # It died in the turn of the loop in which it was granted; nothing was sent yet.
        now = self._around.clock.monotonic()
        cold = free is None and replica.ready_at is not None and replica.ready_at >= arrived
        held_ms = (now - arrived) * 1000
        return Lease(backend, replica, now, held_ms, replica.cold.ready if cold else None)

    async def _wait(self, arrived: float, event_id: str | None) -> Backend:
        if self._stopping:
            raise PlaneStopping("the plane is shutting down")
        waiter = self._throttler.enqueue(arrived, event_id)
        if self._revision.target == 0:
            # Knative's poke: the first request at zero does not wait for the next tick (A1).
            self.tick()
        return await self._throttler.granted(waiter)

    def release(self, lease: Lease) -> None:
        """Give a replica back."""
        self._throttler.release(lease.backend)
        lease.replica.idle()

    def client_left(self) -> None:
        """A client went away. What only it waited for loads on a little, should it come back."""
        if self._throttler.held == 0 and not self._stopping:
            delay = self._around.settings.abandon_after_s
            self._abandon = self._around.clock.call_later(delay, self._abandoned)

    def _abandoned(self) -> None:
        if self._throttler.held == 0:
            self._apply(rev.Abandoned())

    # The autoscaler.

    def open(self) -> None:
        """Start the replicas that the manifest asks for without any request."""
        wanted = self._bounds.bounded(self._bounds.initial_scale, self._bounds.min_scale)
        if wanted > 0:
            self._apply(rev.ScaleTo(wanted, on_demand=False))

    def report(self) -> None:
        """Record the load of the last second; silence at zero is no sample."""
        now = self._around.clock.monotonic()
        value = self._reporter.cut(now).value(self._autoscaler.spec.metric)
        if value > 0 or self._reporter.current > 0 or self._revision.count(rev.State.READY) > 0:
            self._autoscaler.record(now, value)

    def tick(self) -> None:
        """Decide, and carry it out."""
        if self._stopping:
            return
        now = self._around.clock.monotonic()
        ready = self._revision.count(rev.State.READY)
        decision = self._autoscaler.decide(now, ready)
        wish = None if decision is None else decision.desired
        burst = -1 if decision is None else decision.excess_burst_capacity
        at_zero = self._revision.target == 0
        if self._throttler.held > 0 or (self._reporter.current > 0 and not at_zero):
            wish = max(wish or 0, 1)  # a request that waits or runs is demand, whatever the means
        elif at_zero:
            wish = None  # only a request that waits starts a load, not what is left of others
        scale = self._scaler.step(now, wish, burst, ready)
        if scale is not None and scale != self._revision.target:
            why = "timed-out" if self._scaler.timed_out else "scaled-down"
            self._apply(rev.ScaleTo(scale, why=why))

    def stop(self) -> None:
        """Refuse and fail what waits, drain what runs."""
        self._stopping = True
        for timer in (self._wake, self._abandon):
            if timer is not None:
                timer.cancel()
        self._throttler.fail(PlaneStopping("the plane is shutting down"))
        self._apply(rev.Stopping())

    def hurry(self) -> None:
        """Stop waiting for requests that still run."""
        for replica in self._replicas.values():
            replica.stop("shutting-down", hurry=True)

    # Replicas.

    def _became_ready(self, replica: Replica) -> None:
        self._apply(rev.BecameReady(replica.number))
        if replica.backend is not None:
            self._throttler.add(replica.backend)

    def _exited(self, replica: Replica, reason: str) -> None:
        del self._replicas[replica.number]
        self._throttler.remove(replica.number)
        self._log_tail = tail(replica.spec.log_path, self._around.settings.log_tail_lines)
        self._apply(rev.Exited(replica.number, reason, self._throttler.held))

    def _apply(self, event: rev.Event) -> None:
        """Tell the state machine and do what it says."""
        for effect in self._revision.on(event, self._around.clock.monotonic()):
            match effect:
                case rev.Start(number):
                    self._start(number)
                case rev.Drain(number, why) | rev.Cancel(number, why):
                    self._throttler.remove(number)
                    self._replicas[number].stop(why)
                case rev.FailHeld(reason, retry_after_s):
                    self._throttler.fail(self._failure(reason, retry_after_s))
                case rev.Forget():
                    self._forget()
                case rev.WakeAt(at):
                    self._wake_at(at)

    def _start(self, number: int) -> None:
        around = self._around
        now = around.clock.monotonic()
        first = self._throttler.first
        cold = ColdStart(
            namespace=self.key.namespace,
            service=self.key.name,
            revision=self.config.revision,
            at=around.clock.now(),
            queue=0.0 if first is None else (now - first.since) * 1000,
            triggered_by=None if first is None else first.event_id,
        )
        process = spec.predictor_spec(self.config, self._logs.path(number))
        reports = Reports(ready=self._became_ready, exited=self._exited)
        replica = Replica(number, process, around, reports, cold, triggered=first is not None)
        self._replicas[number] = replica
        self._last = replica
        self._started += 1
        self._group.create_task(replica.live(), name=f"{self.key} replica {number}")

    def _failure(self, reason: str, retry_after_s: float) -> PredictorFailed:
        message = f"{self.key} could not be started: {reason}"
        if self._log_tail:
            message += f": {self._log_tail[-1]}"
        return PredictorFailed(message, retry_after_s=retry_after_s)

    def _forget(self) -> None:
        self._autoscaler.forget()
        self._reporter.forget()
        self._scaler.forget(self._around.clock.monotonic())

    def _wake_at(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = at - self._around.clock.monotonic()
        self._wake = self._around.clock.call_later(delay, lambda: self._apply(rev.Woke()))

    # What people see.

    def status(self, base_url: str) -> dict[str, Any]:
        """Return the service's entry in the plane's status; JSON types only."""
        machine = self._revision
        failed = machine.state is rev.State.FAILED
        held = self._throttler.held
        last = self._last
        return {
            "namespace": self.key.namespace,
            "name": self.key.name,
            "revision": self.config.revision,
            "state": machine.state.value,
            "reason": machine.failure,
            "phase": last.phase if last and machine.state is rev.State.STARTING else None,
            "replicas": machine.count(rev.State.READY),
            "desired": machine.target,
            "held": held,
            "in_flight": max(self._reporter.current - held, 0),
            "url": f"{base_url}/serving/{self.key}",
            "pids": sorted(r.pid for r in self._replicas.values() if r.pid is not None),
            "cold_starts": self._started,
            "last_cold_start": last.cold.to_json() if last else None,
            "log_tail": list(self._log_tail) if failed else [],
        }

    @property
    def empty(self) -> bool:
        """Whether no process is left."""
        return not self._replicas
