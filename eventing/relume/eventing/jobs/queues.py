"""The queue of one service at work in this process: its cursor, its slots, its dispatcher."""

from collections.abc import Callable
from dataclasses import dataclass

from relume.base.clock import Clock
from relume.eventing.delivery.dispatcher import Dispatcher
from relume.eventing.delivery.turns import Slots
from relume.eventing.jobs.fair_cursor import FairCursor
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.job_run import World
from relume.eventing.jobs.predictor import Predictors
from relume.eventing.jobs.runner import JobRunner, route_of
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.store import JobStore
from relume.eventing.settings import EventingSettings


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all queues of this process share; `worker` names the process in records."""

    store: JobStore
    predictors: Predictors
    clock: Clock
    settings: JobSettings
    worker: str


class Queue:
    """Made for one service; `dispatcher.run` belongs into a task of its own.

    `at_once` is how many jobs the predictor takes at once, asked for each job.
    """

    def __init__(
        self, service: ServiceName, url: str, at_once: Callable[[], int], place: Workplace
    ) -> None:
        self.service = service
        self.slots = Slots(at_once, place.clock.monotonic)
        self.cursor = FairCursor(place.store, service, place.clock)
        world = World(
            url, place.store, place.predictors, place.clock, place.settings, self.slots.pause
        )
        self.runner = JobRunner(world, self.slots, place.worker)
        self.dispatcher = Dispatcher(
            route_of(service, url),
            self.cursor,
            self.runner,
            self.slots,
            place.clock,
            _engine(place.settings, at_once()),
        )

    def status(self) -> dict[str, object]:
        """JSON types only. `running` are those of this process, `waiting` those of all."""
        tally = self.runner.tally
        return {
            "service": str(self.service),
            "waiting": self.dispatcher.waiting,
            "running": self.dispatcher.in_flight,
            "paused": self.cursor.paused,
            "completed": tally.delivered,
            "retried": tally.retried,
            "ended_without_answer": tally.dead_lettered,
        }


def _engine(settings: JobSettings, at_once: int) -> EventingSettings:
    """The dispatcher's settings: it holds what can run, and few jobs that wait for a retry.

    What it would fetch ahead, another gateway with a free slot could run now.
    """
    return EventingSettings(
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
        held=at_once + max(1, at_once // 4),
    )
