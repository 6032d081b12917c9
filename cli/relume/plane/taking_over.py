"""The parts of a plane that runs, and how all of them take over another plan at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relume.base.errors import RelumeError
from relume.config import Function, InferenceService, Plan
from relume.eventing.plane import EventingPlane
from relume.plane.launchers import EveryLauncher
from relume.plane.local_jobs import LocalJobs, check_usage_broker
from relume.plane.sink_bindings import sink_environment
from relume.plane.subscribers import Destinations, SubscriberCapacity
from relume.serving.cross_origin import CrossOrigin
from relume.serving.plane import ServingPlane


class PlaneStarting(RelumeError):
    """A plane that is still starting cannot take over another plan."""

    reason = "starting"
    retryable = True


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a plane follows its plan. `allowing` is in front of its HTTP port."""

    launcher: EveryLauncher
    serving: ServingPlane
    eventing: EventingPlane
    allowing: CrossOrigin
    jobs: LocalJobs

    async def take_over(
        self, plan: Plan, to: Destinations, usage_broker: str | None
    ) -> Callable[[], Awaitable[None]]:
        """Run `plan` from now on; `to` has its addresses, `usage_broker` is to be in it.

        What is returned puts away what only the plan before needed. Raises InvalidInput,
        ModelMissing, StoreUnavailable and PlaneStopping, each before anything has changed.
        """
        models = self.launcher.models
        engines = await asyncio.to_thread(models.commands_to_keep, plan.services)
        capacity, eventing = SubscriberCapacity(plan), self.eventing
        coming = eventing.resolve(plan, to.resolve, capacity.of)
        check_usage_broker(usage_broker, map(str, coming.wiring.logs))
        bound = sink_environment(plan, to.resolve)
        await eventing.prepare(coming)
        running: tuple[InferenceService | Function, ...] = (*plan.services, *plan.functions)
        # In one step: no event may come to a service that is not there yet, or not any more.
        self.serving.update(running)
        self.launcher.expect(plan.services)
        self.launcher.functions.serve(plan, bound)
        eventing.take(coming)
        self.allowing.serve(running)
        self.jobs.serve(plan.services, plan.functions)
        models.keep(engines)
        return eventing.forget
