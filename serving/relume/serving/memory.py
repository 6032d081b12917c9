"""The memory of one machine: each replica asks for a place in it before it starts.

This carries out what `Budget` decides: it lets replicas start, makes services give up replicas, and
drops what is kept at zero. Without a budget every replica has its place at once.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from relume.base.clock import Clock, Timer
from relume.base.sizes import written
from relume.serving.budget import Budget
from relume.serving.errors import DoesNotFit
from relume.serving.predictor import Kept, PredictorLauncher, ServedService
from relume.serving.room import (
    Claim,
    Drop,
    Effect,
    Evict,
    Grant,
    Load,
    LookAt,
    Refuse,
    World,
)
from relume.serving.throttler import Backend

log = logging.getLogger(__name__)

_DECISIONS = 1000  # in a row; more would be a fault that keeps the event loop busy for ever


class Tenant(Protocol):
    """A revision of a service, as the memory of its machine sees it."""

    @property
    def name(self) -> str:
        """What tells it from all others, for people too."""
        ...

    @property
    def config(self) -> ServedService: ...

    @property
    def held(self) -> int:
        """How many requests wait."""
        ...

    def evict(self, replicas: Sequence[int], room_for: str | None) -> None:
        """Let these replicas finish what they have, and end them."""


class Place:
    """One replica's place: asked for, granted, and given back when its process is gone."""

    def __init__(self, memory: "Memory", tenant: Tenant, number: int) -> None:
        self.claim = Claim(tenant.name, number)
        self.tenant = tenant
        self.config = tenant.config
        """As it is started; the service may have another revision by now."""
        self.used_at = 0.0
        self.pid: int | None = None
        self.backend: Backend | None = None
        self.room: asyncio.Future[None] | None = None
        self._memory = memory

    async def granted(self) -> None:
        """Return when the replica may start. Raises DoesNotFit where it never may."""
        await self._memory.admit(self)

    def ready(self, backend: Backend, pid: int) -> None:
        """The replica answers; `pid` is the process that leads its processes."""
        self.backend, self.pid = backend, pid
        self._memory.became_ready(self)

    def released(self) -> None:
        """A request has given the replica back."""
        self._memory.released(self)

    def leaving(self) -> None:
        """The replica is on its way out."""
        self._memory.is_leaving(self)

    def free(self) -> None:
        """The process is gone, or none was started."""
        self._memory.free(self)

    @property
    def load(self) -> Load:
        return Load(0 if self.backend is None else self.backend.in_flight, self.used_at)


class Memory:
    """All places of one plane. `budget` is None where nothing is bounded."""

    def __init__(self, budget: Budget | None, launcher: PredictorLauncher, clock: Clock) -> None:
        self._budget = budget
        self._launcher = launcher
        self._clock = clock
        self._places: dict[Claim, Place] = {}
        self._tenants: dict[str, Tenant] = {}
        self._dropping: dict[str, tuple[Kept, asyncio.Task[None]]] = {}
        self._timer: Timer | None = None
        self._looking = False

    def join(self, tenant: Tenant) -> None:
        """A service is there, or another revision of it; what its minReplicas need is set aside."""
        self._tenants[tenant.name] = tenant
        self._set_aside(tenant)

    def _set_aside(self, tenant: Tenant) -> None:
        config = tenant.config
        if self._budget is None:
            return
        if config.min_replicas > 0:
            need = self._launcher.memory_bytes(config)
            self._budget.pin(tenant.name, config.min_replicas, need)
        else:
            self._budget.unpin(tenant.name)

    def leave(self, tenant: Tenant) -> None:
        """A service is no longer there; its replicas go as they end."""
        name = tenant.name
        if self._tenants.get(name) is tenant:
            del self._tenants[name]
            if self._budget is not None:
                self._budget.unpin(name)
                self.look()

    def place(self, tenant: Tenant, number: int) -> Place:
        """Return the place of a new replica, which asks for it with `granted`."""
        return Place(self, tenant, number)

    def refusal(self, tenant: Tenant) -> DoesNotFit | None:
        """Return why no replica of a service can ever start; None: one can."""
        if self._budget is None:
            return None
        need = self._launcher.memory_bytes(tenant.config)
        most = self._budget.most(tenant.name, self._launcher.kept())
        return self._does_not_fit(tenant.name, need, most) if need > most else None

    def no_room_beside(self, tenant: Tenant, config: ServedService) -> bool:
        """Whether the next revision, `config`, fits only when the replicas of this one have gone.

        One that fits in neither case lets them be: it can never start, and they answer.
        """
        if self._budget is None:
            return False
        need = self._launcher.memory_bytes(config)
        most = self._budget.most(tenant.name, self._launcher.kept())
        return need <= most < need + self._budget.held_by(tenant.name)

    def is_overdue(self, tenant: Tenant) -> bool:
        """Whether a replica has waited so long for room that a busy one had to make it."""
        if self._budget is None:
            return False
        mine = [c for c in self._budget.waiting() if c.service == tenant.name]
        since = min(filter(None, map(self._budget.waiting_since, mine)), default=float("inf"))
        return self._clock.monotonic() - since >= self._budget.rules.wait_s

    def _does_not_fit(self, service: str, need: int, most: int) -> DoesNotFit:
        assert self._budget is not None
        total = self._budget.total
        aside = f" without the {written(total - most)} that others keep" if most < total else ""
        return DoesNotFit(
            f"{service} needs {written(need)} of memory, and there are {written(most)}{aside}: "
            "give relume up a larger --memory, or the service a smaller --kv-cache-memory-bytes"
        )

    # Places.

    async def admit(self, place: Place) -> None:
        """Return when there is room for the replica. Raises DoesNotFit."""
        if self._budget is None:
            return
        now = self._clock.monotonic()
        place.used_at = now
        place.room = asyncio.get_running_loop().create_future()
        self._places[place.claim] = place
        self._budget.ask(place.claim, self._launcher.memory_bytes(place.config), now)
        self.look()
        await place.room

    def became_ready(self, place: Place) -> None:
        """Begin the turn of a replica."""
        if self._budget is not None:
            place.used_at = self._clock.monotonic()
            self._budget.ready(place.claim, place.used_at)
            self.look()

    def released(self, place: Place) -> None:
        """Note that a request of the replica has ended."""
        if self._budget is not None:
            place.used_at = self._clock.monotonic()
            if self._budget.waits:
                self.look()

    def is_leaving(self, place: Place) -> None:
        """Note that a replica will be gone soon."""
        if self._budget is not None:
            self._budget.leaving(place.claim)
            # Not at once: its service is in the middle of a decision.
            asyncio.get_running_loop().call_soon(self.look)

    def free(self, place: Place) -> None:
        """Take a place back."""
        if self._budget is not None and self._places.pop(place.claim, None) is not None:
            self._budget.release(place.claim)
            self.look()

    def demand(self) -> None:
        """Other requests wait than before; a replica may be urgent now, or idle."""
        if self._budget is not None and self._budget.waits:
            self.look()

    def close(self) -> None:
        """Decide nothing any more; the plane stops."""
        self._looking = True
        if self._timer is not None:
            self._timer.cancel()
        for _, task in self._dropping.values():
            task.cancel()

    # Decisions.

    def look(self) -> None:
        """Carry out what the budget decides now.

        What is done may lead back here; then the first call goes on deciding.
        """
        if self._looking or self._budget is None:
            return
        self._looking = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            for _ in range(_DECISIONS):
                effects = self._budget.step(self._clock.monotonic(), self._world())
                for effect in effects:
                    self._do(effect)
                if all(isinstance(effect, LookAt) for effect in effects):
                    return
            log.error("the memory budget does not come to a decision")
        finally:
            self._looking = False

    def _world(self) -> World:
        return World(
            loads={claim: place.load for claim, place in self._places.items()},
            held={name: tenant.held for name, tenant in self._tenants.items()},
            kept=[each for each in self._launcher.kept() if each.name not in self._dropping],
            dropping=sum(kept.bytes for kept, _ in self._dropping.values()),
        )

    def _do(self, effect: Effect) -> None:
        match effect:
            case Grant(claim):
                self._settle(claim, None)
            case Refuse(claim, need, most):
                self._settle(claim, self._does_not_fit(claim.service, need, most))
            case Evict():
                self._evict(effect)
            case Drop(kept):
                task = asyncio.create_task(self._drop(kept), name=f"drop {kept.name}")
                self._dropping[kept.name] = (kept, task)
            case LookAt(at):
                if self._timer is not None:
                    self._timer.cancel()
                delay = at - self._clock.monotonic()
                self._timer = self._clock.call_later(delay, self.look)

    def _settle(self, claim: Claim, error: DoesNotFit | None) -> None:
        room = self._places[claim].room
        if room is None or room.done():
            return  # its start was cancelled in this turn of the event loop
        if error is None:
            room.set_result(None)
        else:
            room.set_exception(error)

    def _evict(self, effect: Evict) -> None:
        """One replica goes. With the last one go those that wait for room: they ask again."""
        service = effect.claim.service
        assert self._budget is not None
        replicas = [effect.claim.replica]
        if not self._budget.staying(service):
            replicas += [c.replica for c in self._budget.waiting() if c.service == service]
        self._places[effect.claim].tenant.evict(replicas, effect.room_for)

    async def _drop(self, kept: Kept) -> None:
        log.warning("%s is dropped: its %s are needed", kept.name, written(kept.bytes))
        try:
            await self._launcher.drop(kept)
        finally:
            del self._dropping[kept.name]
            self.look()

    # What was measured.

    async def measure(self, loaded_after_s: float) -> None:
        """Look what is held now, and decide by it.

        A replica holds all that it needs when it has been ready for `loaded_after_s`.
        """
        if self._budget is None:
            return
        until = self._clock.monotonic() - loaded_after_s
        loaded = {
            place.pid
            for place in self._places.values()
            if place.pid is not None and place.backend and place.backend.ready_at <= until
        }
        try:
            await self._launcher.measure(loaded)
        except OSError as error:  # such as too many open files
            log.warning("the memory of processes cannot be measured: %s", error)
        for tenant in self._tenants.values():
            self._set_aside(tenant)
        for place in self._places.values():
            self._budget.resize(place.claim, self._launcher.memory_bytes(place.config))
        self.look()

    # What people see; JSON types only.

    def status(self) -> dict[str, Any]:
        """Return the budget, what is used of it, and by what is kept at zero."""
        if self._budget is None:
            return {"budget": None}
        kept = self._launcher.kept()
        return {
            "budget": self._budget.total,
            "used": self._budget.used(kept),
            "kept": [
                {"name": each.name, "service": each.service, "bytes": each.bytes} for each in kept
            ],
        }

    def of(self, tenant: Tenant) -> dict[str, Any]:
        """Return what a service needs, since when it waits for room, and who is in its way."""
        if self._budget is None:
            return {"need": None, "waiting_s": None, "waits_for": []}
        mine = [c for c in self._budget.waiting() if c.service == tenant.name]
        since = min(filter(None, map(self._budget.waiting_since, mine)), default=None)
        return {
            "need": self._launcher.memory_bytes(tenant.config),
            "waiting_s": None if since is None else round(self._clock.monotonic() - since, 1),
            "waits_for": self._budget.holders(mine[0]) if mine else [],
        }
