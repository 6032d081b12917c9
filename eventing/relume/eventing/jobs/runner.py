"""Runs the jobs of one service: the carrier that a Dispatcher gives work messages to.

`carry` returns when the job is settled, by this worker or by anybody, and the dispatcher settles
the lease last. It raises LeaseLost when another worker has the job, and StoreUnavailable while
nothing has begun. Cancelled, it leaves the job as it is: the next worker goes on from there.
"""

import logging
from functools import partial

from relume.base.errors import RelumeError
from relume.base.interrupt import Interrupt
from relume.cloudevents import json_format
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.eventing.delivery.carrier import Idle
from relume.eventing.delivery.decision import DeadLetter, Retry
from relume.eventing.delivery.route import DeliveryPolicy, Route, Tally
from relume.eventing.delivery.turns import Slots
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import (
    BrokerKey,
    DiskFull,
    LeasedEvent,
    LeaseLost,
    StoreUnavailable,
)
from relume.eventing.jobs.chunk_log import STORE_PAUSE_S
from relume.eventing.jobs.ends import End
from relume.eventing.jobs.held_job import HeldJob
from relume.eventing.jobs.job import Job, ServiceName
from relume.eventing.jobs.job_run import JobRun, World
from relume.eventing.jobs.payloads import in_parts, stow
from relume.eventing.jobs.retries import PROFILE
from relume.eventing.jobs.settings import lifetime_s
from relume.eventing.jobs.state import (
    AlreadySettled,
    Ended,
    JobConflict,
    Leased,
    QueueExpired,
    Result,
    Usage,
)
from relume.eventing.jobs.store import NoSuchJob

log = logging.getLogger(__name__)

# What is kept of the words of a fault.
_DETAIL_BYTES = 500
# A job whose record does not allow what its worker does, in so many leases in this process, is
# dead. After the first ones another worker gets it, which reads the record again.
MOST_CONFLICTS = 3
# So many jobs with conflicts are remembered.
_REMEMBERED = 1000


class _QueueTimeUp(RelumeError):
    """The job has waited for as long as it may."""

    reason = "queue"


def route_of(service: ServiceName, url: str) -> Route:
    """What a Dispatcher wants to know of a service whose jobs it runs."""
    return Route(
        broker=BrokerKey(service.namespace, service.name),
        trigger=f"jobs of {service}",
        namespace=service.namespace,
        wanted=lambda _: True,
        policy=DeliveryPolicy(profile=PROFILE),
        url=url,
        replies=None,
    )


class _Conflicts:
    """How many leases of each job have ended in a conflict here."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def failed(self, job_id: str) -> int:
        """Count one more."""
        count = self._counts[job_id] = self._counts.pop(job_id, 0) + 1
        if len(self._counts) > _REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return count

    def forget(self, job_id: str) -> bool:
        """Whether there were any."""
        return self._counts.pop(job_id, 0) > 0


class JobRunner:
    """Runs jobs of one service, as many at once as there are slots.

    `worker` names this process in records: no other process may ever have the same name.
    """

    def __init__(self, world: World, slots: Slots, worker: str) -> None:
        self._world = world
        self._clock = world.clock
        self._store = world.store
        self._slots = slots
        self._worker = worker
        self._faulty: dict[str, int] = {}  # generations of jobs that a fault of ours has ended
        self._conflicts = _Conflicts()
        self.tally = Tally()

    async def carry(self, envelope: Envelope, leased: LeasedEvent, idle: Idle) -> None:
        """Bring a job to its end."""
        job = Job.from_envelope(envelope)
        try:
            await self._carry(job, leased.generation, idle)
        except (AlreadySettled, NoSuchJob) as error:
            log.debug("job %s: %s", job.id, error)  # its end is durable, by whomever
        except JobConflict as error:
            if self._conflicts.failed(job.id) >= MOST_CONFLICTS:
                # The next lease would end the same way, and so on for ever.
                self._faulty[job.id] = leased.generation
                raise
            raise LeaseLost(str(error)) from error
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception:
            self._faulty[job.id] = leased.generation
            raise

    async def give_up(self, envelope: Envelope, letter: DeadLetter) -> None:
        """Settle a job as dead after a fault of our own code. Raises LeaseLost, StoreUnavailable.

        Nothing else: an error from here would end the work on all jobs.
        """
        try:
            job = Job.from_envelope(envelope)
        except InvalidEvent as error:
            log.error("a job cannot be read and is dropped: %s", error)
            return
        generation = self._faulty.pop(job.id)
        reason = JobConflict.reason if self._conflicts.forget(job.id) else letter.reason
        detail = letter.data[:_DETAIL_BYTES].decode(errors="replace")
        try:
            held = await HeldJob.open(self._store, job, self._clock)
            if not held.is_held_in(generation):
                await held.take(Leased(generation, self._worker, self._clock.now()))
            await self._settle(held, End("dead", reason, detail), Usage(), 0)
        except (AlreadySettled, NoSuchJob) as error:
            log.debug("job %s: %s", job.id, error)
        except (LeaseLost, StoreUnavailable):
            raise
        except RelumeError as error:
            log.error("job %s cannot be settled, and comes again: %s", job.id, error)
            raise LeaseLost(str(error)) from error

    async def _carry(self, job: Job, generation: int, idle: Idle) -> None:
        held = await HeldJob.open(self._store, job, self._clock)
        if held.is_over:
            raise AlreadySettled(f"job {job.id} is settled already")
        if not await self._slot_in_time(held, idle):
            await held.take(QueueExpired(self._clock.now(), generation))
            return
        in_slot = True
        try:
            # Nobody has begun, and the request is at hand: its first attempt is one write with the
            # lease. Else what is stored is read before, which may be the whole answer.
            begins = held.record is None and job.payload is None
            await held.take(Leased(generation, self._worker, self._clock.now(), begins))
            run = JobRun(self._world, held, generation, begun=begins)
            async with run.opened():
                while isinstance(outcome := await run.attempt(), Retry):
                    self.tally.retried += 1
                    log.info("job %s: %s, again in %g s", job.id, outcome.why, outcome.after_s)
                    in_slot = False
                    self._slots.release()
                    with idle():
                        await self._clock.sleep(outcome.after_s)
                        await self._slots.acquire()
                    in_slot = True
                await self._settle(held, outcome, run.usage, run.position)
        finally:
            if in_slot:
                self._slots.release()

    async def _slot_in_time(self, held: HeldJob, idle: Idle) -> bool:
        """Wait for a slot, for as long as the job may wait; whether it has one."""
        if held.was_tried:  # its time in the queue was over then
            with idle():
                await self._slots.acquire()
            return True
        job = held.job
        left = job.limits.queue_s - (self._clock.now() - job.accepted_at).total_seconds()
        if left <= 0:
            return False
        try:
            with idle(), Interrupt() as interrupt:
                timer = self._clock.call_later(left, partial(interrupt.trip, _QueueTimeUp("")))
                try:
                    await self._slots.acquire()
                finally:
                    timer.cancel()
        except _QueueTimeUp:
            return False
        return True

    async def _settle(self, held: HeldJob, end: End, usage: Usage, position: int) -> None:
        record, now = held.record, self._clock.now()
        assert record is not None
        # The reply event is kept without its data, which is the result (`stored_reply`).
        reply = None if end.reply is None else CloudEvent(end.reply.attributes, None)
        ended = Ended(
            generation=record.generation,
            at=now,
            state=end.state,
            reason=end.reason,
            detail=end.detail,
            result=await self._result(held.job, end),
            usage=usage,
            position=position,
            reply=None if reply is None else json_format.dump_event(reply),
        )
        await held.take(ended)
        self.tally.delivered += end.state == "completed"
        self.tally.replied += reply is not None
        self.tally.dead_lettered += end.state != "completed"

    async def _result(self, job: Job, end: End) -> Result | None:
        """The result, with a large body in the object store; waits for a store that restarts."""
        if end.result is None:
            return None
        status, content_type, body = end.result
        inline, name = self._world.settings.result_inline_bytes, f"result.{job.round}"
        while True:
            try:
                kept, payload = await stow(
                    self._store, job.id, name, in_parts(body), inline, lifetime_s(job.limits)
                )
            except (StoreUnavailable, DiskFull):
                await self._clock.sleep(STORE_PAUSE_S)
            else:
                return Result(status, content_type, kept, payload)
