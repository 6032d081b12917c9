"""Jobs among workers that die, sleep and wake, and people who cancel, retry, delete and repeat.

Everybody acts on what it has read before, which may be old by then. What the store promises is kept
by this model: a record is written by compare-and-set, a work message is replaced likewise, and it
is delivered again when its lease has run out or its worker has died.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from relume.eventing.jobs.job import Job, Limits, ServiceName
from relume.eventing.jobs.state import (
    SETTLED,
    AlreadySettled,
    Answering,
    Attempted,
    Cancelled,
    Deleted,
    Ended,
    Happening,
    JobConflict,
    Leased,
    LeaseLost,
    QueueExpired,
    Record,
    Usage,
    may_be_attempted,
    next_round,
    step,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Message:
    """A work message: its place, how often it was delivered, and who has it now."""

    job: Job
    place: int
    deliveries: int = 0
    holder: "Worker | None" = None
    acknowledged: bool = False


@dataclass
class Stored:
    """What the store has of one job, and what has happened to it."""

    message: Message | None
    record: Record | None = None
    revision: int = 0
    settlements: list[int] = field(default_factory=list)  # the round of each

    @property
    def state(self) -> str:
        """As everybody sees it."""
        record = self.record
        if record is None:
            return "queued"
        if self.message is not None and self.message.job.round > record.round:
            return record.state if record.deleted else "queued"
        return record.state


@dataclass(eq=False)
class Actor:
    """Somebody who has read a job, and will write what follows from that."""

    stored: Stored
    job: Job | None = None
    place: int = 0
    record: Record | None = None
    revision: int = 0

    def read(self) -> None:
        self.record, self.revision = self.stored.record, self.stored.revision


@dataclass(eq=False)
class Worker(Actor):
    """One delivery of a work message, with the generation of its lease."""

    generation: int = 0
    name: str = ""
    stopped: bool = False


class Jobs(RuleBasedStateMachine):
    """`workers` are all deliveries, `people` all who ever read a job through the API."""

    jobs = Bundle("jobs")
    workers = Bundle("workers")
    people = Bundle("people")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Stored] = []
        self.places = 0

    # ---- the store

    def _publish(self, stored: Stored, job: Job) -> None:
        self.places += 1
        stored.message = Message(job, self.places)

    def _write(self, actor: Actor, after: Record, happening: Happening) -> bool:
        """Compare-and-set, and what every write must keep to."""
        stored = actor.stored
        if actor.revision != stored.revision:
            return False
        before, stored.record = stored.record, after
        stored.revision += 1
        actor.read()
        if before is not None:
            assert after.position >= before.position
            if after.round != before.round:
                self._check_new_round(before, after)
            elif before.settled:
                assert after == step(before, actor.job, Deleted(NOW)), "a settled job has changed"
            else:
                assert after.generation >= before.generation
                assert after.attempt >= before.attempt
                assert after.usage == after.usage.at_least(before.usage)
        if isinstance(actor, Worker):
            assert actor.job is not None
            assert after.round == actor.job.round, "a worker wrote into another round"
        self._check_fence(before, after, happening)
        if after.settled and not after.deleted:
            stored.settlements.append(after.round)
        return True

    def _check_new_round(self, before: Record, after: Record) -> None:
        assert after.round == before.round + 1
        assert before.settled and before.state != "completed" and not before.deleted

    def _check_fence(self, before: Record | None, after: Record, happening: Happening) -> None:
        """A worker writes under the newest lease that the record knows, or with a newer one."""
        known = before.generation if before and before.round == after.round else 0
        if isinstance(happening, Leased):
            assert happening.generation > known
        elif isinstance(happening, Attempted | Answering | Ended):
            assert happening.generation == known > 0

    def _acknowledge(self, worker: Worker) -> None:
        message = worker.stored.message
        if message is not None and message.place == worker.place:
            message.acknowledged = True
            message.holder = None

    # ---- accepting

    @initialize(target=jobs, attempts=st.integers(1, 3))
    def first(self, attempts: int) -> Stored:
        return self._submitted(attempts)

    @rule(target=jobs, attempts=st.integers(1, 3))
    def submit(self, attempts: int) -> Stored:
        return self._submitted(attempts)

    def _submitted(self, attempts: int) -> Stored:
        job = Job(
            id=f"job_{len(self.all)}",
            service=ServiceName("default", "smollm2"),
            route="/",
            tenant="t",
            owner="",
            priority="normal",
            limits=Limits(max_attempts=attempts),
            accepted_at=NOW,
            digest="d",
        )
        stored = Stored(None)
        self._publish(stored, job)
        self.all.append(stored)
        return stored

    @rule(stored=jobs)
    def repeat(self, stored: Stored) -> None:
        """The same message once more, beyond the duplicate window: its deliveries count anew."""
        if stored.message is not None:
            self._publish(stored, stored.message.job)

    # ---- workers

    @rule(target=workers, stored=jobs)
    def deliver(self, stored: Stored) -> Worker:
        return self._delivered(stored)

    def _delivered(self, stored: Stored) -> Worker:
        message = stored.message
        if message is None or message.acknowledged or message.holder is not None:
            return Worker(stored, stopped=True)
        message.deliveries += 1
        worker = Worker(
            stored,
            message.job,
            message.place,
            generation=message.deliveries,
            name=f"w{message.place}.{message.deliveries}",
        )
        message.holder = worker
        worker.read()
        return worker

    @rule(target=workers, stored=jobs)
    def take_over(self, stored: Stored) -> Worker:
        """The lease runs out, and somebody else has the job and has begun."""
        return self._taken_over(stored)

    def _taken_over(self, stored: Stored) -> Worker:
        self.lease_runs_out(stored)
        worker = self._delivered(stored)
        self.lease(worker, begins=False)
        self.attempt(worker)
        return worker

    @rule(target=workers, stored=jobs, state=st.sampled_from(SETTLED), deleted=st.booleans())
    def end_and_retry(self, stored: Stored, state: str, deleted: bool) -> Worker:
        """A job goes through a round, somebody tries to retry it, and a worker wakes up late."""
        worker = self._taken_over(stored)
        late = replace(worker)
        self.end(worker, state, 3)
        person, slow = self._opened(stored), self._opened(stored)
        self.retry(person)
        if deleted:
            self.delete(slow)
        self.lease(self._delivered(stored), begins=False)
        late.read()
        return late

    @rule(stored=jobs)
    def lease_runs_out(self, stored: Stored) -> None:
        if stored.message is not None:
            stored.message.holder = None  # the worker goes on: it does not know

    @rule(worker=consumes(workers))
    def die(self, worker: Worker) -> None:
        message = worker.stored.message
        if message is not None and message.holder is worker:
            message.holder = None

    @rule(worker=workers)
    def look_again(self, worker: Worker) -> None:
        worker.read()

    def _act(self, worker: Worker, happening: Happening) -> None:
        if worker.stopped:
            return
        try:
            after = step(worker.record, worker.job, happening)
        except AlreadySettled:
            worker.stopped = True
            self._acknowledge(worker)
            return
        except LeaseLost:
            worker.stopped = True
            return
        except JobConflict:
            return
        if self._write(worker, after, happening) and after.settled:
            worker.stopped = True
            self._acknowledge(worker)

    @rule(worker=workers, begins=st.booleans())
    def lease(self, worker: Worker, begins: bool) -> None:
        self._act(worker, Leased(worker.generation, worker.name, NOW, begins))

    @rule(worker=workers)
    def attempt(self, worker: Worker) -> None:
        self._act(worker, Attempted(worker.generation))

    @rule(worker=workers, cold_start_ms=st.integers(0, 9))
    def answer(self, worker: Worker, cold_start_ms: int) -> None:
        self._act(worker, Answering(worker.generation, NOW, cold_start_ms))

    @rule(worker=workers, state=st.sampled_from(SETTLED), figure=st.integers(0, 9))
    def end(self, worker: Worker, state: str, figure: int) -> None:
        ended = Ended(worker.generation, NOW, state, usage=Usage(figure), position=figure)  # type: ignore[arg-type]
        self._act(worker, ended)

    @rule(worker=workers)
    def find_overdue(self, worker: Worker) -> None:
        self._act(worker, QueueExpired(NOW, worker.generation))

    # ---- people, and the queue clock

    @rule(target=people, stored=jobs)
    def open(self, stored: Stored) -> Actor:
        return self._opened(stored)

    def _opened(self, stored: Stored) -> Actor:
        person = Actor(stored)
        if stored.message is not None:
            person.job, person.place = stored.message.job, stored.message.place
        person.read()
        return person

    def _ask(self, person: Actor, happening: Happening) -> None:
        if person.job is None and person.record is None:
            return
        try:
            after = step(person.record, person.job, happening)
        except JobConflict:
            return
        self._write(person, after, happening)

    @rule(stored=jobs)
    def withdraw(self, stored: Stored) -> None:
        """Whoever has deleted a job does this afterwards, now or later."""
        if stored.record is not None and stored.record.deleted:
            stored.message = None

    @rule(person=people, position=st.integers(0, 9))
    def cancel(self, person: Actor, position: int) -> None:
        self._ask(person, Cancelled(NOW, position=position))

    @rule(person=people)
    def expire(self, person: Actor) -> None:
        self._ask(person, QueueExpired(NOW))

    @rule(person=people)
    def delete(self, person: Actor) -> None:
        self._ask(person, Deleted(NOW))

    @rule(person=people)
    def retry(self, person: Actor) -> None:
        if person.job is None:
            return
        try:
            job = next_round(person.record, person.job, NOW)
        except JobConflict:
            return
        message = person.stored.message
        if message is not None and message.place == person.place:
            self._publish(person.stored, job)

    # ---- what holds at any time

    @invariant()
    def every_round_is_settled_at_most_once(self) -> None:
        for stored in self.all:
            assert len(stored.settlements) == len(set(stored.settlements))

    @invariant()
    def accepted_is_queued_and_running_and_settled(self) -> None:
        states = [stored.state for stored in self.all]
        queued = states.count("queued")
        running = states.count("leased") + states.count("streaming")
        settled = sum(states.count(each) for each in SETTLED)
        assert queued + running + settled == len(self.all)

    @invariant()
    def what_is_not_settled_will_be_delivered(self) -> None:
        for stored in self.all:
            if stored.state not in SETTLED:
                assert stored.message is not None and not stored.message.acknowledged

    @invariant()
    def what_waited_too_long_was_never_tried_and_nobody_tries_too_often(self) -> None:
        for record in (each.record for each in self.all if each.record is not None):
            assert record.reason != "queue" or not record.attempt
        for stored in self.all:
            if stored.record is not None and stored.message is not None:
                assert stored.record.attempt <= stored.message.job.limits.max_attempts

    @invariant()
    def what_is_settled_has_been_settled_in_its_round(self) -> None:
        for stored in self.all:
            record = stored.record
            if record is not None and record.settled:
                assert record.round in stored.settlements
            if record is not None and not record.settled:
                assert record.round not in stored.settlements

    def teardown(self) -> None:
        """Let workers come that neither die nor sleep: then every job is settled."""
        for stored in self.all:
            for _ in range(200):
                message = stored.message
                if message is None or message.acknowledged:
                    break
                message.holder = None
                self._work(self._delivered(stored))
            assert stored.state in SETTLED
            assert stored.message is None or stored.message.acknowledged
        self.every_round_is_settled_at_most_once()
        self.what_is_settled_has_been_settled_in_its_round()

    def _work(self, worker: Worker) -> None:
        self.lease(worker, begins=False)
        if worker.stopped or worker.record is None or worker.job is None:
            return
        if may_be_attempted(worker.record, worker.job):
            self.attempt(worker)
            self.answer(worker, 1)
            self.end(worker, "completed", 5)
        else:
            self.end(worker, "dead", 5)


class TestJobs(Jobs.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=150, stateful_step_count=50)
