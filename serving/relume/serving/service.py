"""One InferenceService: the pure scaler core wired to real replicas.

Everything changes through few doors, and none of them awaits: a request arrives, waits, leaves; a
replica reports; a tick or a report of the load is due; a timer fires. So the parts always agree.
`SCALING.md` tells the whole.
"""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relume.base.clock import Timer
from relume.base.vocabulary import ENGINE_HANGS, OUT_OF_MEMORY
from relume.config.waiting import waiting
from relume.serving import revision as rev
from relume.serving import settings
from relume.serving.errors import PlaneStopping, PredictorFailed, ServingError, TooManyHeld
from relume.serving.kpa import Autoscaler
from relume.serving.ledger import ColdStart, LogFiles, tail
from relume.serving.prediction import NOT_STARTED, Pace, Progress, Subject, first_byte_ms, told_ms
from relume.serving.predictor import ServedService, ServiceKey
from relume.serving.replica import Replica, Surroundings
from relume.serving.reporter import Reporter
from relume.serving.scale_to_zero import Scaler
from relume.serving.throttler import MOST_HELD, Throttler
from relume.serving.warming import Alarm

_TOLD_LINES = 3  # of the log, to who waits; the status shows more
# What is likely to happen again to the next replica: who waits is told, and not held for it.
_HOPELESS = (OUT_OF_MEMORY, ENGINE_HANGS)


class Service:
    """Scales and accounts for one revision, and for the one that follows it in a rollout."""

    def __init__(
        self,
        config: ServedService,
        around: Surroundings,
        group: asyncio.TaskGroup,
        log_dir: Path,
        label: str = "",
    ) -> None:
        """label: tells it apart from other revisions of the same service that are there too."""
        now = around.clock.monotonic()
        self.key = ServiceKey(config.namespace, config.name)
        self.label = label
        self.name = f"{self.key} ({label})" if label else str(self.key)
        self._around = around
        self._group = group
        self._logs = LogFiles(log_dir, config.namespace, label or config.name)
        self._reporter = Reporter(now)
        self.preferred: int | None = None
        self.throttler = Throttler(
            config.container_concurrency, random.Random(), MOST_HELD, self._full
        )
        self._configure(config)
        self._scaler = Scaler(self._bounds, now)
        self._revision = rev.Revision(self._bounds.min_scale, around.settings.backoff)
        self._refused = 0
        self._pace = Pace()
        self._replicas: dict[int, Replica] = {}
        self._wake: Timer | None = None
        self._abandon: Timer | None = None
        self._stopping = False
        self._retired = False
        self.was_ready = False
        """A replica was ready once."""
        self._started = 0
        self._last: Replica | None = None
        self._log_tail: tuple[str, ...] = ()
        around.memory.join(self)

    def _configure(self, config: ServedService) -> None:
        """Take over what a revision of the service says; a model may become a function."""
        self.config = config
        self.subject = Subject(config.namespace, config.name, config.is_model)
        self.timeouts = settings.timeouts(config)
        self.waiting = waiting(config.annotations)
        self.throttler.limit = config.container_concurrency
        self.throttler.most = self.waiting.max_held or MOST_HELD
        at = self.waiting.warm_at
        self._alarm = None if at is None else Alarm(at, self._around.clock.now())
        self._bounds = settings.scale_spec(config, self._around.settings)
        self._autoscaler = Autoscaler(config.autoscaling, config.container_concurrency)

    # Requests, by `holding.HeldRequest`.

    def arrived(self) -> None:
        """A request is here; from its first instant it is demand."""
        now = self._around.clock.monotonic()
        if self._abandon is not None:
            self._abandon.cancel()
        first = self._reporter.arrive(now)
        if first is not None:
            self._autoscaler.record(now, first.value(self._autoscaler.metric))

    def waits(self) -> None:
        """Start a replica for the first request at zero, without waiting for a tick.

        This is Knative's poke (checklist A1).
        """
        if self._revision.target > 0:
            self._around.memory.demand()
        elif (refusal := self._around.memory.refusal(self)) is not None:
            self.throttler.fail(refusal)
        else:
            self.tick()

    def left(self) -> None:
        """A request was answered, failed or given up."""
        now = self._around.clock.monotonic()
        self._reporter.leave(now)
        self._pace.left(now, self.throttler.held)
        self._around.memory.demand()
        if self._retired and self._reporter.current == 0:
            # Not at once: a request that its replica has not begun with leaves and arrives again.
            asyncio.get_running_loop().call_soon(self._end_retired)

    def _end_retired(self) -> None:
        if self._reporter.current == 0 and not self._stopping:
            self.stop()

    def client_left(self) -> None:
        """A client went away. A load that only it waited for goes on for a while: it may return."""
        if self.throttler.held == 0 and not self._stopping:
            delay = self._around.settings.abandon_after_s
            self._abandon = self._around.clock.call_later(delay, self._abandoned)

    def _abandoned(self) -> None:
        if self.throttler.held == 0:
            self._apply(rev.Abandoned())

    # The autoscaler.

    def open(self) -> None:
        """Start the replicas that the manifest asks for without any request."""
        wanted = self._bounds.bounded(self._bounds.initial_scale, self._bounds.min_scale)
        if wanted > 0:
            self._apply(rev.ScaleTo(wanted, on_demand=False))

    def warm(self) -> None:
        """Start a replica, if there is none, for requests that are still to come.

        It goes back to zero by the usual rules, as if a request had just been answered.
        """
        if self._stopping:
            raise PlaneStopping("the plane is shutting down")
        self._apply(rev.ScaleTo(max(self._revision.target, 1), on_demand=False))
        self._scaler.activated(self._around.clock.monotonic())

    def report(self) -> None:
        """Record the load of the last second; silence at zero is no sample."""
        now = self._around.clock.monotonic()
        value = self._reporter.cut(now).value(self._autoscaler.metric)
        if value > 0 or self._reporter.current > 0 or self._revision.count(rev.State.READY) > 0:
            self._autoscaler.record(now, value)

    def tick(self) -> None:
        """Decide, and carry it out."""
        if self._stopping:
            return
        if self._alarm is not None and self._alarm.rings(self._around.clock.now()):
            self.warm()
        if self._revision.rolling_out and self._around.memory.is_overdue(self):
            self._apply(rev.NoRoom())
        now = self._around.clock.monotonic()
        ready = self._revision.count(rev.State.READY)
        decision = self._autoscaler.decide(now, ready)
        wish = None if decision is None else decision.desired
        burst = -1 if decision is None else decision.excess_burst_capacity
        at_zero = self._revision.target == 0
        if self.throttler.held > 0 or (self._reporter.current > 0 and not at_zero):
            # A request that waits or runs is demand, whatever the averages say.
            wish = max(wish or 0, 1)
        elif at_zero:
            wish = None  # at zero only a request that waits starts a load, not one that still runs
        scale = self._scaler.step(now, wish, burst, ready)
        if scale is not None and scale != self._revision.target:
            why = "timed-out" if self._scaler.timed_out else "scaled-down"
            self._apply(rev.ScaleTo(scale, why=why))

    def renew(self, config: ServedService, *, stop_first: bool) -> None:
        """Go on as another revision of the same service; requests wait and run as before.

        The replicas of the old revision answer until new ones are ready. stop_first: they drain
        first, because both do not fit.
        """
        self._configure(config)
        self._around.memory.join(self)
        self._scaler.spec, self._revision.min_scale = self._bounds, self._bounds.min_scale
        self._apply(rev.Renewed(stop_first))
        if self._revision.target < self._bounds.min_scale:
            self._apply(rev.ScaleTo(self._bounds.min_scale, on_demand=False))

    def retire(self) -> None:
        """Answer the requests that are here, and stop; the caller sends no other."""
        self._retired = True
        if self._reporter.current == 0:
            self.stop()

    def stop(self, error: ServingError | None = None) -> None:
        """Refuse and fail what waits, with `error` or because the plane stops; drain what runs."""
        self._stopping = True
        for timer in (self._wake, self._abandon):
            if timer is not None:
                timer.cancel()
        self.throttler.close(error or PlaneStopping("the plane is shutting down"))
        self._apply(rev.Stopping())
        self._around.memory.leave(self)

    @property
    def at_zero(self) -> bool:
        """Whether no replica is wanted."""
        return self._revision.target == 0

    @property
    def gone(self) -> bool:
        """Whether it was stopped and has no process any more."""
        return self._stopping and not self._replicas

    def hurry(self) -> None:
        """Stop waiting for requests that still run."""
        for replica in self._replicas.values():
            replica.stop("shutting-down", hurry=True)

    # Replicas.

    @property
    def held(self) -> int:
        """How many requests wait."""
        return self.throttler.held

    def evict(self, replicas: Sequence[int], room_for: str | None) -> None:
        """Let these replicas finish what they have and go; `room_for` needs their memory."""
        why = f"room for {room_for}" if room_for else "over the memory budget"
        self._apply(rev.Evicted(tuple(replicas), why, self.throttler.held))

    def became_ready(self, replica: Replica) -> None:
        """A replica answers; from here on it gets requests."""
        self.was_ready = True
        self._apply(rev.BecameReady(replica.number))
        if replica.backend is not None:
            self.throttler.add(replica.backend)
            self._around.changed()

    def hangs(self, replica: Replica, reason: str) -> None:
        """A replica is about to be killed, because it answers no more."""
        self.throttler.remove(replica.number)
        if replica.backend is not None:
            replica.backend.ended = reason

    def fails(self, replica: Replica) -> None:
        """A replica takes no request any more; whoever waits does so until it has ended."""
        self.throttler.remove(replica.number)
        self._around.changed()

    def drains(self, replica: Replica) -> None:
        """A replica was told to stop by somebody else; others answer what it does not take."""
        self._apply(rev.Evicted((replica.number,), "stopped from outside", self.throttler.held))

    def exited(self, replica: Replica, reason: str) -> None:
        """A replica is gone, or could not be started."""
        del self._replicas[replica.number]
        if replica.backend is not None:
            replica.backend.gone = True
        self.throttler.remove(replica.number)
        self._around.changed()
        self._log_tail = tail(replica.log_path, self._around.settings.log_tail_lines)
        hopeless = reason.startswith(_HOPELESS)
        self._apply(rev.Exited(replica.number, reason, self.throttler.held, hopeless))

    def _apply(self, event: rev.RevisionEvent) -> None:
        """Tell the state machine and do what it says."""
        for effect in self._revision.on(event, self._around.clock.monotonic()):
            match effect:
                case rev.Start(number):
                    self._start(number)
                case rev.Drain(number, why, evicted) | rev.Cancel(number, why, evicted):
                    self.throttler.remove(number)
                    self._around.changed()
                    self._replicas[number].stop(why, evicted=evicted)
                case rev.FailHeld(reason, retry_after_s):
                    self.throttler.fail(self._failure(reason, retry_after_s))
                case rev.Forget():
                    self._forget()
                case rev.WakeAt(at):
                    self._wake_at(at)

    def _start(self, number: int) -> None:
        around = self._around
        now = around.clock.monotonic()
        first = self.throttler.first
        cold = ColdStart(
            namespace=self.key.namespace,
            service=self.key.name,
            revision=self.config.revision,
            at=around.clock.now(),
            queue=0.0 if first is None else (now - first.since) * 1000,
            triggered_by=None if first is None else first.event_id,
        )
        log_path = self._logs.path(number)
        triggered = first is not None
        place = around.memory.place(self, number)
        replica = Replica(
            number, self.config, log_path, around, self, cold, place, triggered=triggered
        )
        self._replicas[number] = replica
        self._last = replica
        self._started += 1
        self._group.create_task(replica.live(), name=f"{self.key} replica {number}")

    def _full(self) -> TooManyHeld:
        """As many requests wait as may; try again when they have been let through."""
        self._refused += 1
        is_ready = self._revision.count(rev.State.READY) > 0
        ready_in_s = self._pace.ends_in_s(self.throttler.held) if is_ready else self.ready_in_s
        message = f"{self.key}: {self.throttler.most} requests wait for a replica, and no more may"
        retry_after_s = settings.UNKNOWN_S if ready_in_s is None else ready_in_s
        return TooManyHeld(message, retry_after_s=min(retry_after_s, self.config.timeout_s))

    def _failure(self, reason: str, retry_after_s: float) -> ServingError:
        if (refusal := self._around.memory.refusal(self)) is not None:
            return refusal
        failed = "failed" if reason.startswith(ENGINE_HANGS) else "could not be started"
        message = f"{self.key} {failed}: {reason}"
        if self._log_tail:
            message += "; its log ends with: " + "\n".join(self._log_tail[-_TOLD_LINES:])
        word = next((word for word in _HOPELESS if reason.startswith(word)), None)
        return PredictorFailed(message, retry_after_s=retry_after_s, reason=word)

    def _forget(self) -> None:
        self._autoscaler.forget()
        self._reporter.forget()
        self._scaler.forget(self._around.clock.monotonic())

    def _wake_at(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = at - self._around.clock.monotonic()
        self._wake = self._around.clock.call_later(delay, lambda: self._apply(rev.Woke()))

    # What people and routers see.

    @property
    def members(self) -> dict[int, str]:
        """The revision of each replica that gets requests, by the number of the replica."""
        return {b.replica: self._replicas[b.replica].revision for b in self.throttler.backends}

    @property
    def progress(self) -> Progress | None:
        """How far the start that began first is; None where none is under way."""
        if self._revision.state is not rev.State.STARTING:
            return None
        return next((r.progress for r in self._replicas.values() if r.starting), None)

    @property
    def ready_in_s(self) -> float | None:
        """Predict when a replica is ready, if one is wanted now; None where nothing tells."""
        if self._revision.count(rev.State.READY) > 0:
            return 0.0
        progress = self.progress
        left = told_ms(self._around.ledger.history, self.subject, progress or NOT_STARTED)
        wait_s = self._revision.waits_s(self._around.clock.monotonic())
        return None if left is None else left / 1000 + (0.0 if progress else wait_s)

    @property
    def first_byte_ms(self) -> float | None:
        """Predict how long a request waits for its first byte when it comes at zero."""
        return first_byte_ms(self._around.ledger.history, self.subject)

    def _rollout(self) -> dict[str, str | None] | None:
        """Return the revision that is to follow the one that answers, and why it has not yet."""
        if not self._revision.rolling_out:
            return None
        return {"to": self.config.revision, "reason": self._revision.rollout_failure}

    def status(self, base_url: str) -> dict[str, Any]:
        """Return the service's entry in the plane's status; JSON types only."""
        machine = self._revision
        state, reason = machine.state, machine.failure
        refusal = self._around.memory.refusal(self)
        if refusal is not None and machine.target == 0:
            state, reason = rev.State.FAILED, str(refusal)
        failed = state is rev.State.FAILED
        held = self.throttler.held
        last = self._last
        progress = self.progress
        ready_in_s = self.ready_in_s
        return {
            "namespace": self.key.namespace,
            "name": self.key.name,
            "revision": self.config.revision,
            "state": state.value,
            "reason": reason,
            "rollout": self._rollout(),
            "phase": progress.phase if progress else None,
            "ready_in_s": None if ready_in_s is None else round(ready_in_s, 1),
            "start": progress.to_json() if progress else None,
            "replicas": machine.count(rev.State.READY),
            "desired": machine.target,
            "held": held,
            "refused": self._refused,
            "warm_at": self._alarm.due.isoformat() if self._alarm and self._alarm.due else None,
            "in_flight": max(self._reporter.current - held, 0),
            "url": f"{base_url}/serving/{self.key}",
            "pids": sorted(r.pid for r in self._replicas.values() if r.pid is not None),
            "cold_starts": self._started,
            "last_cold_start": last.cold.to_json() if last else None,
            "log_tail": list(self._log_tail) if failed and refusal is None else [],
            "memory": self._around.memory.of(self),
        }
