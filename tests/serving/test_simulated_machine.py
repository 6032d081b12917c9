"""Services, requests, ends of processes, reloads and time in any order, in one memory budget.

`RELUME_SEEDS=2000` runs as many seeds instead of a few, and `RELUME_SEEDS=117:118` that one alone.
"""

import asyncio
import copy
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from relume.base.vocabulary import QUEUE_HEADER
from relume.config import Autoscaling, InferenceService
from relume.serving import plane as serving_plane
from relume.serving.plane import ServingPlane
from relume.serving.predictor import Kept, ServedService
from relume.serving.room import LookAt, Rules
from relume.serving.settings import ServingSettings

from .conftest import service
from .conversation import Conversation, ask
from .simulated import (
    PLAN,
    Exchange,
    Machine,
    QuickClock,
    Session,
    SimulatedPredictor,
    Socket,
    rest,
)

FIRST, _, LAST = os.environ.get("RELUME_SEEDS", "10").rpartition(":")
SEEDS = range(int(FIRST or 0), int(LAST))
STEPS = 60
#: What a request may be answered with; 404: its service was removed.
DOCUMENTED = {200, 404, 429, 502, 503, 504, 507}
STREAM = b'{"model": "x", "stream": true}'
BEATS = {"prefer": "heartbeat=5", "content-type": "application/json"}


@dataclass(eq=False)
class Asked:
    """One request, as its client sees it."""

    name: str
    at: float
    talk: Conversation
    is_socket: bool
    timeout_s: float
    takes_s: float
    leaves: bool = False
    sent_at: float | None = None
    over_at: float | None = None


class SocketConversation(Conversation):
    """A WebSocket, for which `status` is 101 once it is open."""

    def __init__(self, app: Any, scope: dict[str, Any], body: bytes) -> None:
        super().__init__(app, scope, body)
        self._inbox = [{"type": "websocket.connect"}]

    async def _receive(self) -> dict[str, Any]:
        message = await super()._receive()
        if message["type"] == "http.disconnect":
            return {"type": "websocket.disconnect", "code": 1001}
        return message

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        self.complete = self.complete or kind == "websocket.close"


class World:
    """A machine, its plane, and everybody who uses it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = rng = random.Random(seed)
        self.clock = QuickClock()
        self.machine = machine = Machine(self.clock)
        self.slowest_load_s = rng.choice([0.5, 2.0, 8.0])
        self.longest_s = rng.choice([1.0, 10.0, 40.0])
        self.lingers_s = rng.choice([0.0, 0.0, 1.0])
        self.bad = rng.random() < 0.5
        self.calm = self.stops = False
        machine.load_s = lambda: rng.uniform(0.1, self.slowest_load_s)
        machine.linger_s = lambda: rng.uniform(0.0, self.lingers_s)
        machine.drop_s = lambda: rng.choice([0.0, 0.5])
        machine.crashes_while_loading = lambda: self.harm(0.1)
        machine.refuses = lambda: self.harm(0.05)
        machine.told_to_stop = self.told_to_stop
        machine.asked = self.asked
        self.total = rng.choice([10, 10, 14, None])
        self.plane: ServingPlane = None  # type: ignore[assignment]
        self.services = {name: self.any_service(name) for name in "abcd"[: rng.randint(1, 4)]}
        for name in "abcd":
            machine.needs[name] = rng.randint(1, 9)
        if not self.fits():
            self.services = {n: replace(s, min_replicas=0) for n, s in self.services.items()}
        if rng.random() < 0.3:
            machine.things = [Kept("the warm template", None, 1, 0.0)]
            if rng.random() < 0.5:
                machine.things.append(Kept("the engine of a", "default/a", rng.randint(1, 3), 0.0))
        self.rules = Rules.for_wait(rng.choice([20.0, 5.0, 0.0]))
        self.plane = ServingPlane(
            tuple(self.services.values()),
            machine,
            log_dir=folder / "logs",
            clock=self.clock,
            rng=random.Random(seed),
            settings=ServingSettings(
                probe_interval_s=0.5, memory_bytes=self.total, memory=self.rules
            ),
        )
        self.requests: list[Asked] = []
        self.reasons = 0
        """How often something else than a request may have started a process."""
        self.by_id: dict[str, Asked] = {}

    def harm(self, chance: float) -> bool:
        return self.bad and not self.calm and self.random.random() < chance

    def any_service(self, name: str) -> InferenceService:
        rng = self.random
        least = rng.choice([0, 0, 0, 0, 1, 2])
        most = rng.choice([0, max(least, 1), max(least, 3)])
        timeout_s = rng.choice([20.0, 100.0, 1000.0])
        notes = {}
        if rng.random() < 0.2:
            notes["autoscaling.knative.dev/initial-scale"] = "1"
        if rng.random() < 0.1:
            notes["relume.dev/max-held"] = "2"
        return service(
            name=name,
            min_replicas=least,
            max_replicas=most,
            container_concurrency=rng.choice([0, 0, 1, 1, 2, 5]),
            timeout_s=timeout_s,
            response_start_timeout_s=rng.choice([timeout_s, timeout_s, timeout_s / 2]),
            idle_timeout_s=rng.choice([0.0, 0.0, timeout_s / 2]),
            progress_deadline_s=rng.choice([600.0, 10.0]),
            annotations=notes,
            autoscaling=Autoscaling(
                window_s=rng.choice([6.0, 30.0]),
                initial_scale=rng.choice([0, 1, 2]),
                metric=rng.choice(["concurrency", "concurrency", "rps"]),
                target=rng.choice([None, 1.0]),
                activation_scale=rng.choice([1, 1, 2]),
                scale_down_delay_s=rng.choice([0.0, 0.0, 10.0]),
                scale_to_zero_pod_retention_s=rng.choice([0.0, 0.0, 20.0]),
                target_burst_capacity=rng.choice([211.0, 0.0, -1]),
            ),
        )

    def fits(self) -> bool:
        """Whether `relume up` and `relume reload` take these minReplicas."""
        there = [each for each in self.configs() if each not in self.services.values()]
        wanted = (*there, *self.services.values())
        aside = sum(each.min_replicas * self.machine.memory_bytes(each) for each in wanted)
        return self.total is None or aside <= self.total

    def configs(self, name: str | None = None) -> list[ServedService]:
        """The revisions that the plane has, of a service or of all."""
        there = [] if self.plane is None else [each.config for each in self.plane._services]
        return [each for each in there if name in (None, each.name)]

    # What happens.

    async def step(self) -> None:
        acts: list[tuple[Callable[[], None], int]] = [
            (self.a_request, 10),
            (self.a_burst, 2),
            (self.a_client_leaves, 2),
            (self.a_process_ends, 2 if self.bad else 0),
            (self.a_sigterm, 1 if self.bad else 0),
            (self.a_reload, 2),
            (self.a_warm, 1),
            (self.nothing, 4),
        ]
        act = self.random.choices([a for a, _ in acts], weights=[w for _, w in acts])[0]
        act()
        await self.passes(self.random.choice([0.0, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 45.0]))

    async def passes(self, seconds: float) -> None:
        """Let time pass, and look at everything after each event."""
        until = self.clock.monotonic() + seconds
        await rest()
        self.look()
        while (next_s := min(self.clock.sleeping, default=1e9)) + self.clock.monotonic() <= until:
            await self.clock.advance(next_s)
            self.look()
        await self.clock.advance(until - self.clock.monotonic())
        self.look()

    def nothing(self) -> None: ...

    def a_burst(self) -> None:
        for _ in range(self.random.randint(2, 12)):
            self.a_request()

    def a_request(
        self, takes_s: float | None = None, name: str | None = None, kind: str | None = None
    ) -> Asked:
        rng = self.random
        name = name or rng.choice("abcd"[: len(self.services)] + "a")
        name = name if name in self.services else next(iter(self.services))
        config = self.services[name]
        longest = min(self.longest_s, config.timeout_s)
        takes_s = rng.choice([0.0, 0.05, 0.5, longest]) if takes_s is None else takes_s
        kind = kind or rng.choices(["plain", "stream", "beats", "socket"], [6, 2, 2, 1])[0]
        chunks, between_s = (4, takes_s / 4) if kind in ("stream", "beats") else (1, 0.0)
        number = str(len(self.requests))
        path = f"/serving/default/{name}/v1/chat/completions"
        before_s = takes_s - between_s * (chunks - 1)
        headers = {"x-number": number, PLAN: f"{before_s} {chunks} {between_s}"}
        tag = rng.choice([None, None, None, "latest", "prev"])
        if tag is not None:
            headers["host"] = f"{tag}-{name}.default.example.com"
            path = path.removeprefix(f"/serving/default/{name}")
        if kind == "beats":
            headers |= BEATS
        if kind == "socket":
            scope = {
                "type": "websocket",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
                "extensions": {"websocket.http.response": {}},
            }
            talk: Conversation = SocketConversation(self.plane.app, scope, b"")
        else:
            body = STREAM if kind == "beats" else b"{}"
            talk = ask(self.plane.app, path, headers=headers, body=body)
        now = self.clock.monotonic()
        there = [config.timeout_s, *(each.timeout_s for each in self.configs(name))]
        asked = Asked(name, now, talk, kind == "socket", max(there), takes_s)
        self.requests.append(asked)
        self.by_id[number] = asked
        return asked

    def a_client_leaves(self) -> None:
        if here := [each for each in self.requests if not each.talk.done]:
            leaver = self.random.choice(here)
            leaver.leaves = True
            leaver.talk.hang_up()

    def a_process_ends(self) -> None:
        self.reasons += 1
        if self.machine.alive:
            self.random.choice(self.machine.alive).exit(self.random.choice([0, 3, -9]))

    def a_sigterm(self) -> None:
        self.reasons += 1
        if self.machine.alive:
            self.random.choice(self.machine.alive).sigterm_from_outside()

    def a_warm(self) -> None:
        self.reasons += 1
        self.plane.warm("default", self.random.choice(list(self.services)))

    def a_reload(self) -> None:
        self.reasons += 1
        rng = self.random
        name = rng.choice("abcd")
        now, before = self.services.get(name), dict(self.services)
        if now is None:
            self.services[name] = self.any_service(name)
        elif rng.random() < 0.2 and len(self.services) > 1:
            del self.services[name]
        elif rng.random() < 0.5:
            share = rng.choice([None, 0, 30, 100])
            self.services[name] = replace(now, canary_percent=share)
            self.plane.update(tuple(self.services.values()))
            return
        else:
            share = rng.choice([None, None, 30])
            new = replace(self.any_service(name), generation=now.generation + 1)
            self.services[name] = replace(new, canary_percent=share)
        if name in self.services and rng.random() < 0.3:
            each = self.services[name]
            self.machine.needs[f"{name} {each.revision}"] = rng.randint(1, 9)
        if not self.fits():
            self.services = before
        self.plane.update(tuple(self.services.values()))

    # What is seen.

    def told_to_stop(self, predictor: SimulatedPredictor) -> None:
        until = self.clock.monotonic() + 0.001
        for each in () if self.stops else predictor.requests:
            assert isinstance(each, Socket | Exchange)
            one = self.by_id[each.headers["x-number"]]
            timeout_s = predictor.service.timeout_s
            assert one.is_socket or one.at + timeout_s <= until, f"it is stopped at {until}: {one}"

    def asked(self, predictor: SimulatedPredictor, headers: Mapping[str, str]) -> None:
        one = self.by_id[headers["x-number"]]
        assert one.name == predictor.service.name, "it came to another service"
        now = self.clock.monotonic()
        waited_ms = round((now - one.at) * 1000)
        assert abs(int(headers[QUEUE_HEADER]) - waited_ms) <= 1, "queuems is what it waited"

    def look(self) -> None:
        now = self.clock.monotonic()
        for one in [each for each in self.requests if each.over_at is None]:
            if one.talk.done:
                one.over_at = now
                one.talk.task.result()
                if not one.leaves:
                    assert one.talk.status in DOCUMENTED | {101}, one
            elif not (one.is_socket and one.talk.status == 101):
                assert now - one.at <= one.timeout_s + 0.001, f"{one} outlives its timeout"
        self.look_at_counts()
        self.look_at_memory()

    def look_at_counts(self) -> None:
        """What the plane counts is what its clients and its processes see."""
        here = [each for each in self.requests if each.over_at is None]
        sent = sum(len(each.requests) for each in self.machine.processes)
        services = self.plane._services
        assert sum(each._reporter.current for each in services) == len(here)
        assert sum(each.held for each in services) == len(here) - sent
        status = self.plane.status()["services"]
        parts = [part for each in status for part in (each["traffic"] or [each])]
        pids = {pid for part in parts for pid in part["pids"]}
        alive = {each.pid for each in self.machine.alive}
        assert pids <= alive
        if not self.plane._ending:
            assert pids == alive
            assert sum(part["held"] for part in parts) == len(here) - sent
            assert sum(part["in_flight"] for part in parts) == sent

    def look_at_memory(self) -> None:
        """The budget holds, and what it would decide now was decided."""
        if self.total is None or self.stops:
            return
        held = sum(each.need for each in self.machine.alive)
        kept = sum(each.bytes for each in self.machine.things)
        assert held + kept <= self.total, f"more than the budget at {self.clock.monotonic()}"
        memory = self.plane._memory
        budget = copy.deepcopy(memory._budget)
        assert budget is not None
        effects = budget.step(self.clock.monotonic(), memory._world())
        looks = [each.at for each in effects if isinstance(each, LookAt)]
        told = f"at {self.clock.monotonic()}: {effects}, {vars(memory._budget)}"
        assert len(looks) == len(effects), f"it was not decided {told}"
        assert not looks or memory._timer is not None, f"nobody looks again {told}"
        for each in self.plane._services:
            if each.held and not each._stopping:
                assert each._replicas or each._revision.target, "nothing starts for who waits"

    # The end.

    async def all_are_answered(self) -> None:
        """Nothing goes wrong any more: each service answers, and then everything is at rest."""
        self.calm = True
        for _ in range(2000):
            if all(each.over_at is not None for each in self.requests):
                break
            await self.passes(1.0)
        for name in self.services:
            one = self.a_request(0.05, name, "plain")
            await self.passes(1.0)
            for _ in range(3):  # a start that was bound to fail before
                if one.over_at is not None and one.talk.status == 503:
                    await self.passes(10.0)
                    one = self.a_request(0.05, name, "plain")
            start = self.slowest_load_s + self.rules.turn_s + self.longest_s + self.lingers_s + 4
            bound = self.rules.wait_s + 65 + 2 * len(self.services) * start
            while one.over_at is None and self.clock.monotonic() <= one.at + bound:
                await self.passes(1.0)
            patient = min(each.timeout_s for each in self.configs(name)) > bound
            allowed = {200} if patient else {200, 504}
            status = self.status(name)
            if "failed" in {part["state"] for part in (status, *status["traffic"])}:
                allowed.add(507)
            assert one.over_at is not None and one.talk.status in allowed, (
                one,
                one.talk.status,
                one.talk.body,
            )
        await self.passes(700.0 + 180.0)
        for each in self.plane._services:
            told = each.status("")
            assert (told["held"], told["in_flight"]) == (0, 0), told
            least = each.config.min_replicas
            assert (told["replicas"], len(told["pids"])) == (least, least), told
        assert not self.plane._ending
        if self.total is not None:
            budget = self.plane._memory._budget
            assert budget is not None
            assert not budget.waits, vars(budget)
            assert self.plane._memory._places.keys() == budget._holdings.keys()
            assert len(budget._holdings) == len(self.machine.alive)

    def status(self, name: str) -> dict[str, Any]:
        return next(s for s in self.plane.status()["services"] if s["name"] == name)


async def play(seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(seed, folder)
    monkeypatch.setattr(serving_plane, "client_session", lambda _: Session(world.machine))
    await world.plane.start()
    try:
        for _ in range(STEPS):
            await world.step()
        await world.all_are_answered()
    finally:
        world.stops = True
        stop = asyncio.create_task(world.plane.stop(0))
        while not stop.done():
            await world.clock.advance(1)
        await stop
    assert not world.machine.alive
    return world


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_script(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, nothing busy is stopped, and what is counted and held is true."""
    world = await play(seed, tmp_path, monkeypatch)
    served = sum(each.talk.status in (101, 200) for each in world.requests)
    assert served > 0
    # Each start answers somebody or was asked for otherwise: services do not stop each other idly.
    wanted = len(world.requests) + world.reasons
    assert len(world.machine.processes) <= 2 * wanted + 20
