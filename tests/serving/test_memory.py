"""Services that share the memory of one machine, under a virtual clock."""

import asyncio
import itertools
from typing import Any

import pytest
from aiohttp import web

from relume.base.testing import settle
from relume.serving.predictor import Kept
from relume.serving.room import Rules

from .conftest import Autoscaling, Stage, Staging, service
from .conversation import Conversation
from .test_failures import reason
from .virtual import eventually

RULES = Rules(wait_s=20, turn_s=5, idle_s=0.25)
SIX_OF_TEN: dict[str, Any] = {"memory_bytes": 10, "memory": RULES}


def ask(s: Stage, name: str) -> Conversation:
    return s.ask(f"/serving/default/{name}/v1/chat/completions")


def three() -> list[Any]:
    return [service(name=name) for name in ("one", "two", "three")]


def give_each_six(s: Stage) -> None:
    s.launcher.needs = {"one": 6, "two": 6, "three": 6}


class Working:
    """A handler that answers when it is told to, and notes what each predictor was asked."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.seen: list[web.Request] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        await self.go_on.wait()
        return web.Response(text="done")


@pytest.mark.parametrize(("needs", "first_goes"), [(6, True), (5, False), (11, False)])
async def test_a_changed_service_makes_room_for_its_next_revision_where_both_do_not_fit(
    stage: Staging, needs: int, first_goes: bool
) -> None:
    """6 of 10: the old replica goes first. What never fits leaves the old one alone."""
    async with stage(service(name="one"), **SIX_OF_TEN) as s:
        s.launcher.needs = {"one": min(needs, 6)}
        first = ask(s, "one")
        old = await s.ready()
        await first.end()
        s.launcher.needs = {"one": needs}
        s.plane.update([service(name="one", generation=2)])
        await s.clock.advance(1)
        assert old.terminated is first_goes
        assert len(s.launcher.started) == (1 if needs > 10 else 2)
        request = ask(s, "one")
        if first_goes:
            await s.ready(2)
        assert (await request.end()).status == 200


async def test_a_replica_counts_as_loaded_when_it_has_been_ready_for_a_while(
    stage: Staging,
) -> None:
    async with stage(service(name="one", min_replicas=1), **SIX_OF_TEN) as s:
        await s.clock.advance(15)  # it loads, and was measured
        assert s.launcher.loaded == set()
        predictor = await s.ready()
        await s.clock.advance(5.5)  # its cache is not filled yet
        assert s.launcher.loaded == set()
        await s.clock.advance(10)
        assert s.launcher.loaded == {predictor.pid}


async def test_a_replica_of_an_old_revision_is_counted_with_what_that_needs(
    stage: Staging,
) -> None:
    """The next revision needs less, and it still loads when the memory is measured."""
    old = service(name="one", min_replicas=1)
    async with stage(old, **SIX_OF_TEN) as s:
        s.launcher.memory_bytes = (  # type: ignore[method-assign]
            lambda config: 7 if config.revision == old.revision else 2
        )
        await s.ready()
        s.plane.update([service(name="one", min_replicas=1, generation=2)])
        await s.clock.advance(10.5)
        assert s.plane.status()["memory"]["used"] == 9


async def test_what_does_not_fit_makes_the_idle_one_go_and_the_ledger_adds_up(
    stage: Staging,
) -> None:
    async with stage(*three(), **SIX_OF_TEN) as s:
        give_each_six(s)
        first = ask(s, "one")
        old = await s.ready()
        await first.end()
        await s.clock.advance(10)
        old.lingers = True  # so that the wait takes time
        second = ask(s, "two")
        await s.clock.advance(3)
        assert old.terminated
        assert len(s.launcher.started) == 1
        assert (s.status("two")["state"], s.status("two")["phase"]) == ("starting", "memory")
        assert s.status("two")["memory"] == {
            "need": 6,
            "waiting_s": 3.0,
            "waits_for": ["default/one"],
        }
        old.exit(0)
        new = await s.ready(2)
        await second.end()
        assert (second.status, new.service) == (200, "two")
        await eventually(lambda: len(s.plane.coldstarts()) == 2)
        entry = s.plane.coldstarts()[-1]
        assert entry["memory"] == 3000
        assert entry["total"] >= entry["queue"] + entry["memory"]
        told = new.seen[0].headers
        assert int(told["relume-queue-ms"]) >= 3000
        assert s.status("one")["state"] == "zero"


async def test_a_client_that_waits_for_memory_is_told_so_and_no_time(stage: Staging) -> None:
    work = Working()
    headers = {"prefer": "heartbeat=5", "content-type": "application/json"}
    async with stage(*three(), handler=work, **SIX_OF_TEN) as s:
        give_each_six(s)
        s.launcher.needs["three"] = 1
        first = ask(s, "three")
        await s.ready()
        work.go_on.set()
        await first.end()  # so that there is a start to predict from
        work.go_on.clear()
        running = ask(s, "one")
        await s.ready(2)
        await eventually(lambda: len(work.seen) == 2)
        path, body = "/serving/default/two/v1/chat/completions", b'{"stream": true}'
        waiting = s.ask(path, headers=headers, body=body)
        await settle()
        await s.clock.advance(10)
        assert set(waiting.chunks) == {b": waiting phase=memory\n\n"}
        assert s.status("two")["ready_in_s"] is None
        work.go_on.set()
        await running.end()
        while len(s.launcher.started) < 3:
            await s.clock.advance(1)
            await asyncio.sleep(0.002)  # the process that makes room has to end
        await s.clock.advance(5)
        assert waiting.chunks[-1].startswith(b": starting")
        await s.ready(3)
        await waiting.end()


async def test_two_busy_services_take_turns(stage: Staging) -> None:
    work = Working()
    async with stage(*three(), handler=work, **SIX_OF_TEN) as s:
        give_each_six(s)
        running = ask(s, "one")
        first = await s.ready()
        await eventually(lambda: len(work.seen) == 1)
        waiting = ask(s, "two")
        await s.clock.advance(19)
        another = ask(s, "one")  # it still takes new requests
        await eventually(lambda: len(work.seen) == 2)
        assert s.status("one")["state"] == "ready"
        await s.clock.advance(2)
        held = ask(s, "one")  # now it holds them, and finishes what it has
        await s.clock.advance(5)
        assert (len(work.seen), first.terminated) == (2, False)
        work.go_on.set()
        await running.end()
        await another.end()
        assert (running.status, another.status) == (200, 200)
        await eventually(lambda: first.terminated)
        assert (await s.ready(2)).service == "two"
        await waiting.end()
        await s.clock.advance(5)
        assert (await s.ready(3)).service == "one"
        await held.end()
        assert (waiting.status, held.status) == (200, 200)


async def test_a_service_that_can_never_fit_is_an_answer_and_starts_nothing(
    stage: Staging,
) -> None:
    async with stage(*three(), **SIX_OF_TEN) as s:
        s.launcher.needs = {"one": 11}
        assert s.status("one")["state"] == "failed"
        for _ in range(2):
            request = await ask(s, "one").end()
            assert request.status == 507
            assert "retry-after" not in request.headers
            word, message, _ = reason(request.body)
            assert word == "does-not-fit"
            assert "needs 11 of memory" in message and "--memory" in message
        await s.clock.advance(100)
        assert s.launcher.started == []
        assert s.status("one")["reason"] == message


async def test_a_client_that_leaves_while_its_service_waits_frees_the_place_in_line(
    stage: Staging,
) -> None:
    work = Working()
    async with stage(*three(), handler=work, **SIX_OF_TEN) as s:
        give_each_six(s)
        ask(s, "one")
        await s.ready()
        await eventually(lambda: len(work.seen) == 1)
        leaver = ask(s, "two")
        await s.clock.advance(1)
        leaver.hang_up()
        await leaver.end()
        await s.clock.advance(3)
        assert s.status("two")["state"] == "zero"
        await s.clock.advance(60)
        assert (s.status("one")["state"], len(s.launcher.started)) == ("ready", 1)
        work.go_on.set()


async def test_a_minimum_is_never_evicted(stage: Staging) -> None:
    services = [service(name="one", min_replicas=1), service(name="two")]
    async with stage(*services, memory_bytes=10, memory=RULES) as s:
        await s.ready()
        s.launcher.needs = {"two": 9}  # the minimum needs 1
        request = ask(s, "two")
        await s.ready(2)
        assert (await request.end()).status == 200
        s.launcher.needs = {"two": 10}
        await s.clock.advance(10)  # it is measured again
        assert (await ask(s, "two").end()).status == 507
        assert s.status("one")["replicas"] == 1


async def test_more_replicas_than_fit_are_said_to_wait(stage: Staging) -> None:
    work = Working()
    config = service(name="one", container_concurrency=1, max_replicas=3)
    async with stage(config, handler=work, **SIX_OF_TEN) as s:
        give_each_six(s)
        requests = [ask(s, "one") for _ in range(3)]
        await s.ready()
        await s.clock.advance(8)
        status = s.status("one")
        assert (status["replicas"], status["desired"]) == (1, 3)
        assert status["memory"]["waiting_s"] > 0
        work.go_on.set()
        for request in requests:
            assert (await request.end()).status == 200
        assert len(s.launcher.started) == 1


async def test_what_is_kept_is_dropped_before_a_busy_service_goes(stage: Staging) -> None:
    work = Working()
    async with stage(*three(), handler=work, **SIX_OF_TEN) as s:
        s.launcher.needs = {"one": 4, "two": 5}
        s.launcher.things = [Kept("the engine of three", "default/three", 2, 0.0)]
        ask(s, "one")
        await s.ready()
        await eventually(lambda: len(work.seen) == 1)
        ask(s, "two")
        await s.ready(2)
        assert s.launcher.dropped == ["the engine of three"]
        assert s.plane.status()["memory"] == {"budget": 10, "used": 9, "kept": []}
        work.go_on.set()


async def test_out_of_memory_is_an_answer_to_all_who_wait_and_not_a_loop(stage: Staging) -> None:
    work = Working()
    async with stage(service(container_concurrency=1, max_replicas=1), handler=work) as s:
        running, held = s.ask(), s.ask()
        predictor = await s.ready()
        await eventually(lambda: len(work.seen) == 1)
        predictor.ended_by = "out-of-memory: the kernel killed the predictor"
        predictor.leaves_port_open = True  # the end of the connection is noticed late
        predictor.exit(-9)
        await held.end()
        await predictor.close_port()
        await running.end()
        assert (running.status, held.status) == (502, 503)
        assert reason(held.body)[0] == "out-of-memory"
        assert held.headers["retry-after"] == "1"
        assert s.status()["reason"] == predictor.ended_by
        await s.clock.advance(100)
        assert len(s.launcher.started) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_twelve_clients_and_three_services_for_five_minutes(
    stage: Staging, at_once: bool
) -> None:
    """Shows that nobody starves, and that nobody goes while it is busy."""

    async def work(request: web.Request) -> web.StreamResponse:
        await clock.sleep(1.5)
        return web.Response(text="done")

    names = ("one", "two", "three")
    services = [service(name=n, autoscaling=Autoscaling(window_s=30)) for n in names]
    async with stage(*services, handler=work, **SIX_OF_TEN) as s:
        clock = s.clock
        give_each_six(s)
        waits: list[float] = []
        turn = itertools.count()

        async def client(number: int) -> None:
            while clock.monotonic() < 300:
                name = names[(number if at_once else next(turn)) % 3]
                began = clock.monotonic()
                answer = await ask(s, name).end()
                assert answer.status == 200
                waits.append(clock.monotonic() - began)
                await clock.sleep(0.1 if at_once else 1.0)

        clients = [asyncio.create_task(client(number)) for number in range(12)]
        loading: dict[int, float] = {}
        while not all(task.done() for task in clients):
            for predictor in s.launcher.started:
                since = loading.setdefault(predictor.pid, clock.monotonic())
                predictor.ready = clock.monotonic() - since >= 2
            assert sum(not p.exited for p in s.launcher.started) <= 1
            await clock.advance(0.25)
            await asyncio.sleep(0.002)
            await settle()
        for task in clients:
            await task
        most = RULES.wait_s + 3 * (3 + RULES.turn_s + 1.5) + 5
        assert max(waits) <= most
        assert len(waits) > 200
        assert not any(p.died_busy for p in s.launcher.started)


async def test_a_rollout_that_finds_no_room_beside_the_old_replica_takes_its_place(
    stage: Staging,
) -> None:
    """The room was there when it was reloaded, and has gone since."""
    async with stage(service(name="one"), service(name="two"), **SIX_OF_TEN) as s:
        s.launcher.needs = {"one": 4, "two": 5}
        await ask_and_end(s, "one", 1)
        work = Working()
        s.launcher.handler = work
        running = ask(s, "two")
        await s.ready(2)
        await eventually(lambda: len(work.seen) == 1)
        s.plane.update([service(name="one", generation=2), service(name="two")])
        await s.clock.advance(RULES.wait_s - 1)
        assert not s.launcher.started[0].terminated
        await s.clock.advance(4)
        assert s.launcher.started[0].terminated
        await s.ready(3)
        assert s.status("one")["replicas"] == 1
        work.go_on.set()
        await running.end()


async def test_what_a_replica_of_the_old_revision_holds_is_not_what_the_new_one_needs(
    stage: Staging,
) -> None:
    async with stage(service(name="one"), **SIX_OF_TEN) as s:
        s.launcher.memory_bytes = lambda each: 8 if each.generation == 1 else 2  # type: ignore[method-assign]
        await ask_and_end(s, "one", 1)
        s.plane.update([service(name="one", generation=2)])
        await s.launched(2)
        await s.clock.advance(11)  # it was measured meanwhile
        assert s.plane.status()["memory"]["used"] == 10


async def test_a_service_that_does_not_fit_any_more_is_507_to_who_waits_already(
    stage: Staging,
) -> None:
    work = Working()
    async with stage(*three(), handler=work, **SIX_OF_TEN) as s:
        give_each_six(s)
        running = ask(s, "one")
        await s.ready()
        waiting = ask(s, "two")
        await s.clock.advance(1)
        s.plane.update([*three(), service(name="four", min_replicas=5)])
        await waiting.end()
        assert (waiting.status, reason(waiting.body)[0]) == (507, "does-not-fit")
        work.go_on.set()
        await running.end()


async def test_who_waits_is_served_when_the_one_before_it_gives_up(stage: Staging) -> None:
    """A service whose requests have gone holds no place in the line."""
    work = Working()
    services = [service(name="one", timeout_s=600), service(name="two", timeout_s=30)]
    async with stage(*services, service(name="three"), handler=work, **SIX_OF_TEN) as s:
        s.launcher.needs = {"one": 6, "two": 9, "three": 3}
        running = ask(s, "one")
        await s.ready()
        gives_up = ask(s, "two")
        await s.clock.advance(RULES.wait_s + 5)
        ask(s, "three")
        await s.clock.advance(4.9)
        assert (gives_up.done, len(s.launcher.started)) == (False, 1)
        await s.clock.advance(0.1)
        assert gives_up.status == 504
        await s.launched(2)
        work.go_on.set()
        await running.end()


async def test_a_service_that_is_warmed_makes_an_idle_one_go(stage: Staging) -> None:
    async with stage(*three(), **SIX_OF_TEN) as s:
        give_each_six(s)
        await ask_and_end(s, "one", 1)
        await s.clock.advance(1)
        s.plane.warm("default", "two")
        assert (await s.ready(2)).service == "two"
        assert s.launcher.started[0].terminated


async def ask_and_end(s: Stage, name: str, number: int) -> None:
    request = ask(s, name)
    await s.ready(number)
    assert (await request.end()).status == 200
