"""One predictor process, from its launch to its exit and its line in the ledger."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import aiohttp

from relume.base.clock import Clock
from relume.base.errors import RelumeError
from relume.base.vocabulary import ANSWER_PHASE, ENGINE_HANGS, MEMORY_PHASE
from relume.serving.hang import Watch
from relume.serving.ledger import ColdStart, Ledger, StartOutcome
from relume.serving.memory import Memory, Place
from relume.serving.prediction import Progress
from relume.serving.predictor import (
    Predictor,
    PredictorLauncher,
    ServedService,
    describe_exit,
)
from relume.serving.probe import Probe, Startup
from relume.serving.settings import ServingSettings, hang_after_s
from relume.serving.throttler import Backend
from relume.serving.timeouts import Timeouts

log = logging.getLogger(__name__)

TIMED_OUT = "timed-out"
PHASE_EVERY = 10  # probes between two looks at the phase


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every replica of a plane shares."""

    launcher: PredictorLauncher
    session: aiohttp.ClientSession
    clock: Clock
    settings: ServingSettings
    ledger: Ledger
    memory: Memory
    changed: Callable[[], None] = lambda: None
    """Called when a replica gets requests from now on, and when it gets none any more."""


class ReplicaOwner(Protocol):
    """Whom a replica tells what happened to it."""

    timeouts: Timeouts
    """Of the requests that it is given now, by the newest revision."""

    def became_ready(self, replica: "Replica") -> None: ...
    def hangs(self, replica: "Replica", reason: str) -> None: ...
    def fails(self, replica: "Replica") -> None: ...
    def drains(self, replica: "Replica") -> None: ...
    def exited(self, replica: "Replica", reason: str) -> None: ...


class Replica:
    """Owns one process: nobody else starts, stops or waits for it."""

    def __init__(
        self,
        number: int,
        service: ServedService,
        log_path: Path,
        around: Surroundings,
        owner: ReplicaOwner,
        cold: ColdStart,
        place: Place,
        *,
        triggered: bool,
    ) -> None:
        self.number = number
        self.log_path = log_path
        self._service = service
        self.cold = cold
        self._place = place
        self.pid: int | None = None
        self.backend: Backend | None = None
        self._around = around
        self._owner = owner
        self._told = Startup()
        self._changed = asyncio.Event()
        self._launching: asyncio.Future[Predictor] | None = None
        self._why: str | None = None
        self._refused = ""
        self._hurry = False
        self._evicted = False
        self._first_answer_ms: float | None = None
        self._ends_by: float | None = None  # when it must have ended that takes no request
        self._recorded = False
        self._asked_at = around.clock.monotonic()
        self._triggered = triggered

    @property
    def revision(self) -> str:
        """The revision that it was started as."""
        return self._service.revision

    @property
    def starting(self) -> bool:
        """Whether the process is wanted and not ready yet."""
        return self.backend is None and self._why is None

    @property
    def progress(self) -> Progress:
        """How far the start is, as the process told when it was asked last."""
        cold, told = self.cold, self._told
        phases = {**cold.phases, **told.phases_ms}
        return Progress(cold.started, self._since_asked_ms(), told.phase, phases)

    def stop(self, why: str, *, hurry: bool = False, evicted: bool = False) -> None:
        """Ask the process to end, after its requests or, in a hurry, now. Does not wait.

        evicted: somebody waits for its memory, so that its end is no matter of form.
        """
        self._evicted = self._evicted or evicted
        self._why = self._why or why
        self._hurry = self._hurry or hurry
        self._place.leaving()
        self._changed.set()
        if self._launching is not None:
            self._launching.cancel()

    async def live(self) -> None:
        """Run the process to its end. Cancelled, it kills the process first."""
        try:
            reason = await self._live()
        finally:
            self._place.free()
        self._finish(reason)

    async def _live(self) -> str:
        """Start the process, see it through, and return why it ended."""
        predictor = None if self._why else await self._launch()
        if predictor is None:
            return self._why or self._refused
        self.pid = predictor.pid
        self.cold = replace(self.cold, started=predictor.started)
        async with asyncio.TaskGroup() as group:
            exit_code = group.create_task(predictor.wait())
            exit_code.add_done_callback(lambda _: self._changed.set())
            try:
                await self._run(predictor, exit_code)
            finally:
                # Also on the way of a cancellation: no process outlives its replica.
                if not exit_code.done():
                    predictor.kill()
                code = await exit_code
        self.pid = None
        return self._why or predictor.ended_by or describe_exit(code)

    def _finish(self, reason: str) -> None:
        """Record the end and report it."""
        self._record("failed" if self._why in (None, TIMED_OUT) else "cancelled", reason)
        self._owner.exited(self, reason)

    async def _launch(self) -> Predictor | None:
        """Start the process; None if that failed (`_refused`) or is not wanted any more.

        Starting may wait for memory, and for a template that loads, so `stop` cancels it.
        """
        self._launching = asyncio.ensure_future(self._start())
        try:
            return await self._launching
        except (RelumeError, OSError) as error:
            self._refused = str(error)
        except Exception as error:
            # A fault of this code or an odd value: of this service alone, and not of the plane.
            log.exception("%s: start of replica %d", self._place.tenant.name, self.number)
            self._refused = f"the start failed: {error!r}"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                _kill_if_started(self._launching)
                raise
            self._refused = "the start was cancelled"
        finally:
            self._launching = None
        return None

    async def _start(self) -> Predictor:
        self._told = Startup(MEMORY_PHASE)
        await self._place.granted()
        self._told = Startup()
        waited_ms = self._since_asked_ms()
        if waited_ms > 0:
            self.cold = self.cold.with_phases({MEMORY_PHASE: waited_ms})
        return await self._around.launcher.start(self._service, self.log_path)

    async def _run(self, predictor: Predictor, exit_code: asyncio.Task[int]) -> None:
        probe = Probe(self._around.session, predictor, self._around.settings.probe_timeout_s)
        said = asyncio.create_task(predictor.announced())
        said.add_done_callback(lambda _: self._changed.set())
        try:
            await self._load(probe, exit_code)
        finally:
            said.cancel()
        if not exit_code.done() and self._why is None:
            await self._become_ready(predictor, probe)
            await self._serve(predictor, probe, exit_code)
            await self._drain(exit_code)
        await self._end(predictor, exit_code)

    async def _load(self, probe: Probe, exit_code: asyncio.Task[int]) -> None:
        """Return when the predictor is ready, gone, or not wanted any more."""
        tries = 0
        while not exit_code.done() and self._why is None:
            if await probe.healthy():
                return
            tries += 1
            if tries % PHASE_EVERY == 0:
                self._told = await probe.told()
            await self._pause(self._around.settings.probe_interval_s)

    async def _become_ready(self, predictor: Predictor, probe: Probe) -> None:
        ready_ms = self._since_asked_ms()
        self.cold = replace(self.cold, ready=ready_ms, total=self.cold.queue + ready_ms)
        self.backend = Backend(
            self.number,
            predictor.base_url,
            ready_at=self._around.clock.monotonic(),
            cold_start_ms=ready_ms,
            on_answer=self._answered,
            on_drain=lambda: self._owner.drains(self),
            on_failing=self._fails,
            on_release=self._released,
        )
        self._owner.became_ready(self)
        self._place.ready(self.backend, predictor.pid)
        self.cold = self.cold.with_phases((await probe.startup()).phases_ms)
        if not self._triggered:
            self._record("ready", None)

    async def _serve(
        self, predictor: Predictor, probe: Probe, exit_code: asyncio.Task[int]
    ) -> None:
        """Return when the process is gone, killed because it hangs, or not wanted any more."""
        watch = Watch(hang_after_s(self._service))
        while not exit_code.done() and self._why is None:
            if self._first_answer_ms is not None and not self._recorded:
                await self._complete_entry(probe)
            elif self._ends_by is not None:
                await self._ending(self._ends_by)
            else:
                await self._pause(watch.every_s)
                if (why := await self._look(watch, probe)) is not None:
                    self._why = f"{ENGINE_HANGS}: {why}"
                    self._owner.hangs(self, self._why)
                    predictor.kill()

    async def _ending(self, until: float) -> None:
        """Wait for the end of a process that takes no request; it drains if it does not end."""
        if (left := until - self._around.clock.monotonic()) > 0:
            await self._pause(left)
        else:
            self._owner.drains(self)

    async def _look(self, watch: Watch, probe: Probe) -> str | None:
        """Return why the process cannot answer any more, if it cannot."""
        busy = self._in_flight() > 0
        work = (await probe.startup()).work if busy else None
        return watch.look(self._around.clock.monotonic(), work, busy=busy)

    async def _complete_entry(self, probe: Probe) -> None:
        """Record the cold start; its last phase is known once the first answer began."""
        assert self._first_answer_ms is not None
        measured = {"first_token": self._first_answer_ms}
        reported = (await probe.startup()).phases_ms
        if (token := reported.get("first_token")) is not None:
            measured[ANSWER_PHASE] = max(self._first_answer_ms - token, 0.0)
        self.cold = self.cold.with_phases({**measured, **reported})
        self._record("ready", None)

    async def _drain(self, exit_code: asyncio.Task[int]) -> None:
        """Wait until no request is left, as long as a request may take."""
        clock = self._around.clock
        until = clock.monotonic() + max(self._service.timeout_s, self._owner.timeouts.total_s)
        while not exit_code.done() and not self._hurry and self._in_flight():
            left = until - clock.monotonic()
            if left <= 0:
                return
            await self._pause(left)

    def _answered(self, since_granted_ms: float) -> None:
        """A request got its first byte; the first one completes the ledger's entry."""
        if self._first_answer_ms is None:
            self._first_answer_ms = since_granted_ms
            if self._triggered:
                self.cold = replace(self.cold, total=self.cold.queue + self._since_asked_ms())
            self._changed.set()

    def _fails(self) -> None:
        """It takes no request: as a rule its process is ending, and tells the reason then."""
        if self._ends_by is None:
            self._ends_by = self._around.clock.monotonic() + self._around.settings.ends_within_s
            self._owner.fails(self)
            self._changed.set()

    def _released(self) -> None:
        """A request was given back; a drain may be over, and a service wait for the memory."""
        self._place.released()
        if self._why is not None:
            self._changed.set()

    def _in_flight(self) -> int:
        return 0 if self.backend is None else self.backend.in_flight

    async def _end(self, predictor: Predictor, exit_code: asyncio.Task[int]) -> None:
        """Ask the process to exit, then make it."""
        clock = self._around.clock
        until = clock.monotonic() + self._around.settings.terminate_grace_s
        if not exit_code.done() and self._evicted and not self._in_flight():
            predictor.discard()
        elif not exit_code.done():
            predictor.terminate()
        while not exit_code.done():
            left = until - clock.monotonic()
            if left <= 0:
                predictor.kill()
                await exit_code
            else:
                await self._pause(left)

    async def _pause(self, seconds: float | None) -> None:
        """Wait for a change, at most `seconds`."""
        timer = None
        if seconds is not None:
            timer = self._around.clock.call_later(seconds, self._changed.set)
        await self._changed.wait()
        self._changed.clear()
        if timer is not None:
            timer.cancel()

    def _since_asked_ms(self) -> float:
        return (self._around.clock.monotonic() - self._asked_at) * 1000

    def _record(self, outcome: StartOutcome, reason: str | None) -> None:
        """Write the ledger's entry once. A process that ended after it was ready started well."""
        if self._recorded:
            return
        self._recorded = True
        if self.cold.ready is not None:
            outcome, reason = "ready", None
        else:
            ended = self._since_asked_ms()
            self.cold = replace(self.cold.with_phases(self._told.phases_ms), ended=ended)
        self.cold = replace(self.cold, outcome=outcome, reason=reason)
        self._around.ledger.append(self.cold)


def _kill_if_started(launching: asyncio.Future[Predictor]) -> None:
    if launching.done() and not launching.cancelled() and launching.exception() is None:
        launching.result().kill()
