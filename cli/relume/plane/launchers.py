"""What starts the processes of a plane: models and functions, and the memory that they hold."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from relume.config import Function, InferenceService, Plan
from relume.plane.functions import FunctionLauncher
from relume.plane.launch import LocalLauncher, check, key_of
from relume.plane.memory import TEMPLATE_BYTES, Footprints, check_minimum, estimate
from relume.plane.reloading import at_once
from relume.runtimes.kv_memory import filling
from relume.runtimes.models.errors import ModelMissing
from relume.runtimes.models.store import ModelStore
from relume.runtimes.spawn import Template
from relume.serving.predictor import Kept, Predictor, ServedService

TEMPLATE = "the warm template"
# So many makes of one service are remembered: two revisions may share the requests.
_MAKES = 3


class HeldEngine(Protocol):
    """A process that holds the loaded engine of one service, while that is at zero too."""

    @property
    def service(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def last_used(self) -> float: ...
    @property
    def in_use(self) -> bool: ...
    @property
    def key(self) -> str: ...
    @property
    def loaded(self) -> bool: ...
    @property
    def former(self) -> bool: ...


class HeldEngines(Protocol):
    """What keeps loaded engines."""

    def held(self) -> Sequence[HeldEngine]: ...
    async def drop(self, service: str) -> None: ...


class EveryLauncher:
    """Starts what serving asks for: a model or a function, by the type of the service."""

    def __init__(
        self,
        models: LocalLauncher,
        functions: FunctionLauncher,
        store: ModelStore,
        template: Template | None = None,
        engines: HeldEngines | None = None,
    ) -> None:
        self.models = models
        self.functions = functions
        self._store = store
        self._template = template
        self._engines = engines
        self._footprints = Footprints()
        self._estimates: dict[str, int] = {}
        self._makes: dict[str, list[str]] = {}
        self._forks: set[int] = set()
        self._forked_at = time.monotonic()

    def expect(self, services: Sequence[InferenceService]) -> None:
        """Load the warm template, in the background, where one of these services starts from it."""
        if self._template is not None and any(each.zero != "process" for each in services):
            self._template.start()

    async def start(self, service: ServedService, log_path: Path) -> Predictor:
        """See `PredictorLauncher.start`."""
        predictor: Predictor
        if isinstance(service, Function):
            predictor = await self.functions.start(service, log_path)
        else:
            assert isinstance(service, InferenceService), "a plan has no other services"
            predictor = await self.models.start(service, log_path)
        self._footprints.follow(self._make_of(service), predictor.pid)
        if predictor.started == "template":
            self._forks.add(predictor.pid)
            self._forked_at = time.monotonic()
        return predictor

    def memory_bytes(self, service: ServedService) -> int:
        """See `PredictorLauncher.memory_bytes`."""
        name = self._make_of(service)
        return self._footprints.need(name, lambda: self._estimate(name, service))

    def _estimate(self, name: str, service: ServedService) -> int:
        if (known := self._estimates.get(name)) is not None:
            return known
        assert isinstance(service, Function | InferenceService), "a plan has no other services"
        try:
            found = self._estimates[name] = estimate(service, self._store)
        except (ModelMissing, OSError):
            return 0  # it cannot be started either, which says why
        return found

    async def measure(self, loaded: Collection[int]) -> None:
        """See `PredictorLauncher.measure`."""
        kept = []
        if self._template is not None and self._template.pid is not None:
            self._footprints.follow(TEMPLATE, self._template.pid)
            if self._template.state == "ready":
                kept.append(self._template.pid)
        for engine in self._held():
            self._footprints.follow(self._engine_name(engine), engine.pid)
            if engine.loaded:
                kept.append(engine.pid)
        # A large cache is still being filled when its replica has been ready for a while.
        await self._footprints.measure({*loaded, *kept} - filling())

    def kept(self) -> Sequence[Kept]:
        """See `PredictorLauncher.kept`: loaded engines, and the warm template.

        An engine is a fork of the template, and ends with it.
        """
        engines = [
            Kept(
                _engine(each.service, former=each.former),
                each.service,
                self._footprints.need(self._engine_name(each), partial(self._known, each.service)),
                each.last_used,
                each.in_use,
            )
            for each in self._held()
        ]
        template = self._template
        if template is None or template.pid is None:
            return engines
        self._forks = {pid for pid in self._forks if _runs(pid)}
        held = self._footprints.need(TEMPLATE, lambda: TEMPLATE_BYTES)
        in_use = bool(self._forks or engines)
        return [*engines, Kept(TEMPLATE, None, held, self._forked_at, in_use)]

    async def drop(self, kept: Kept) -> None:
        """See `PredictorLauncher.drop`."""
        if kept.service is not None and self._engines is not None:
            await self._engines.drop(kept.service)
        elif self._template is not None:
            await self._template.drop()

    def _held(self) -> Sequence[HeldEngine]:
        return () if self._engines is None else self._engines.held()

    def _engine_name(self, engine: HeldEngine) -> str:
        """The name of an engine with what its memory depends on."""
        key = _engine(engine.service)
        return self._remember(key, f"{key} {engine.key}")

    def _known(self, service: str) -> int:
        """What a replica of a service needs, which its engine does not exceed."""
        name = self._makes.get(service, [service])[-1]
        return self._footprints.need(name, lambda: self._estimates.get(name, TEMPLATE_BYTES))

    def _make_of(self, service: ServedService) -> str:
        """The name of a service with what its memory depends on.

        After a reload with another model, what was measured of the one before tells nothing.
        """
        key = key_of(service)
        return self._remember(key, f"{key} {_made_of(service)}")

    def _remember(self, key: str, name: str) -> str:
        """Note that `name` is one of the last makes of `key`, and forget the oldest of them."""
        makes = self._makes.setdefault(key, [])
        if name not in makes:
            makes.append(name)
            for old in makes[:-_MAKES]:
                self._footprints.forget(old)
                self._estimates.pop(old, None)
            del makes[:-_MAKES]
        return name


def _made_of(service: ServedService) -> int:
    if isinstance(service, Function):
        return hash((service.folder, service.memory_bytes))
    assert isinstance(service, InferenceService), "a plan has no other services"
    env = frozenset(service.env.items())
    return hash((service.storage_uri, service.folder, service.args, env))


def _engine(service: str, *, former: bool = False) -> str:
    return f"the {'former' if former else 'loaded'} engine of {service}"


def _runs(pid: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        return True
    return False


def checked(
    read: Callable[[], Plan],
    running: Plan,
    store: ModelStore,
    budget: int | None,
    launcher: EveryLauncher | None,
) -> Plan:
    """Read the files of a running plane again and look at the disk for all that is new in them.

    What then runs beside the old revisions of `running` must fit the budget. It takes a while, and
    belongs into a thread. `launcher` remembers what each service needs.
    Raises InvalidInput and what `check` raises.
    """
    plan = read()
    check(plan, store)
    check_minimum(at_once(running, plan), store, budget)
    if launcher is not None:
        for service in plan.services:
            launcher.memory_bytes(service)
    return plan
