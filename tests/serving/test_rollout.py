"""A changed service: the old revision answers until the new one is ready; no request is lost."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from relume.base.testing import settle
from relume.base.vocabulary import DRAINING, ENGINE_FAILED, NOT_BEGUN_HEADER
from relume.config import Function, InferenceService
from relume.serving import revision as rev
from relume.serving.errors import PlaneStopping

from .conftest import Stage, Staging, service
from .conversation import Conversation
from .test_processes import BASE, Machines
from .test_processes import machine as machine
from .virtual import NUMBER, eventually

ANSWER = b"data: 1\n\ndata: [DONE]\n\n"


async def stream(request: web.Request) -> web.StreamResponse:
    """Two events, with turns of the loop between them."""
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(ANSWER[:9])
    await settle()
    await answer.write(ANSWER[9:])
    return answer


def changed(generation: int, **changes: object) -> InferenceService:
    return service(generation=generation, **changes)


async def answered(s: Stage) -> InferenceService:
    """Bring the first revision up."""
    request = s.ask()
    await s.ready()
    await request.end()
    return changed(1)


async def test_the_old_revision_answers_until_the_new_one_is_ready(stage: Staging) -> None:
    async with stage() as s:
        await answered(s)
        s.plane.update([changed(2)])
        old, new = s.launcher.started[0], await s.launched(2)
        await s.clock.advance(20)
        assert (await s.ask().end()).status == 200
        assert (len(old.seen), len(new.seen), old.terminated) == (2, 0, False)
        assert s.status()["rollout"] == {"to": "summarize-predictor-00002", "reason": None}
        new.ready = True
        await s.clock.advance(2)
        await eventually(lambda: old.terminated)
        assert (await s.ask().end()).status == 200
        assert (len(old.seen), len(new.seen)) == (2, 1)
        assert (s.status()["rollout"], s.status()["replicas"]) == (None, 1)


async def test_a_model_whose_name_a_function_gets_is_predicted_as_a_function(
    stage: Staging,
) -> None:
    async with stage() as s:
        await answered(s)
        s.plane.update([Function("default", "summarize", Path("/f"))])
        assert not s.plane._service("default", "summarize").subject.is_model


async def test_a_new_revision_that_fails_leaves_the_old_one_and_is_told(stage: Staging) -> None:
    async with stage() as s:
        await answered(s)
        s.plane.update([changed(2)])
        (await s.launched(2)).exit(3)
        await eventually(lambda: s.status()["rollout"]["reason"] is not None)
        assert "exited with code 3" in s.status()["rollout"]["reason"]
        assert s.status()["state"] == "ready"
        assert (await s.ask().end()).status == 200
        await s.clock.advance(1)  # it is tried again after the back-off
        await s.launched(3)
        s.plane.update([changed(3)])  # the repaired one need not wait for that
        await s.ready(4)
        await eventually(lambda: s.launcher.started[0].terminated)
        assert s.launcher.started[2].terminated


async def test_at_zero_only_the_next_start_is_another(stage: Staging) -> None:
    async with stage() as s:
        s.plane.update([changed(2)])
        await s.clock.advance(10)
        assert s.launcher.started == []
        assert s.status()["revision"] == "summarize-predictor-00002"


async def test_where_there_is_no_room_for_both_the_old_one_stops_first(stage: Staging) -> None:
    async with stage(memory_bytes=10) as s:
        s.launcher.needs = {"summarize": 6}
        await answered(s)
        s.plane.update([changed(2)])
        held = s.ask()
        await s.launched(2)
        assert s.launcher.started[0].exited
        await s.ready(2)
        assert (await held.end()).status == 200


async def test_requests_that_wait_for_the_old_revision_get_the_new_one(stage: Staging) -> None:
    async with stage() as s:
        held = s.ask()
        first = await s.launched()
        s.plane.update([changed(2)])
        await s.ready(2)
        assert (await held.end()).status == 200
        assert (first.terminated, len(first.seen)) == (True, 0)


async def test_services_come_and_go(stage: Staging) -> None:
    other = service(name="other")
    async with stage() as s:
        await answered(s)
        s.plane.update([other])
        assert (await s.ask().end()).status == 404
        held = s.ask("/openai/v1/chat/completions", body=b'{"model": "other"}')
        await s.ready(2)
        assert (await held.end()).status == 200
        await eventually(lambda: s.launcher.started[0].exited)
        s.plane.update([other, service()])
        waiting = s.ask()  # it is still held when its service is removed
        await s.launched(3)
        s.plane.update([other])
        assert (await waiting.end()).status == 404
    with pytest.raises(PlaneStopping):
        s.plane.update([other])


async def test_a_removed_service_answers_what_it_has_begun(stage: Staging) -> None:
    gate = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response(text="whole")

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        s.plane.update([])
        await s.clock.advance(10)
        assert not predictor.terminated
        gate.set()
        assert (await request.end()).body == b"whole"
        await eventually(lambda: predictor.exited)


async def test_fifty_restarts_under_load_lose_nothing(stage: Staging) -> None:
    """Eight clients ask all the time, with a limit, so that some are held at every restart.

    At half of them there is no memory for both revisions.
    """
    limited = {"container_concurrency": 4, "max_replicas": 1}
    done: list[Conversation] = []
    stopped_first: list[bool] = []
    over = asyncio.Event()

    async def client(s: Stage) -> None:
        while not over.is_set():
            done.append(await s.ask().end())

    async with stage(changed(1, **limited), handler=stream, memory_bytes=10) as s:
        s.launcher.memory_bytes = (  # type: ignore[method-assign]
            lambda config: 3 if int(config.revision[-5:]) % 4 == 3 else 6
        )
        async with asyncio.TaskGroup() as clients:
            for _ in range(8):
                clients.create_task(client(s))
            await s.ready()
            for generation in range(2, 52):
                before = len(done)
                s.plane.update([changed(generation, **limited)])
                predictor = await s.launched(generation)
                stopped_first.append(s.launcher.started[-2].exited)
                predictor.ready = True
                while not s.launcher.started[-2].exited or len(done) < before + 8:
                    await s.clock.advance(0.5)
                    await asyncio.sleep(0.001)  # probes and answers go through real sockets
            over.set()
        assert len(done) >= 50 * 8
        assert all(stopped_first[number - 2] for number in range(2, 52) if number % 4 in (1, 2))
        assert not all(stopped_first)
        assert {(each.status, each.body, each.complete) for each in done} == {(200, ANSWER, True)}
        assert sum(each.exited for each in s.launcher.started) == 50


async def test_what_a_replica_refuses_because_it_drains_gets_another_one(stage: Staging) -> None:
    """Somebody has sent a SIGTERM to the process, and the plane does not know yet."""
    draining, go = asyncio.Event(), asyncio.Event()

    async def drains(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/running"):
            await go.wait()
        elif draining.is_set() and request.app[NUMBER] == 1:
            return web.Response(status=503, headers={NOT_BEGUN_HEADER: DRAINING})
        return web.Response(text=await request.text())

    async with stage(handler=drains) as s:
        await answered(s)
        running = s.ask("/serving/default/summarize/running")
        await eventually(lambda: s.launcher.started[0].running == 1)
        draining.set()
        again = [s.ask(body=b"one"), s.ask(body=b"two")]
        await s.ready(2)
        ends = [await each.end() for each in again]
        assert [(each.status, each.body) for each in ends] == [(200, b"one"), (200, b"two")]
        assert not s.launcher.started[0].exited
        go.set()
        assert (await running.end()).status == 200
        await eventually(lambda: s.launcher.started[0].exited)
        assert (s.status()["state"], s.status()["reason"]) == ("ready", None)


async def test_a_request_that_finds_the_engine_ended_waits_for_the_next_replica(
    stage: Staging,
) -> None:
    """The server of vLLM ends some time after its engine, and says why it has not begun."""
    ended = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        if ended.is_set() and request.app[NUMBER] == 1:
            return web.Response(status=503, headers={NOT_BEGUN_HEADER: ENGINE_FAILED})
        return web.Response(text=await request.text())

    async with stage(handler=infer) as s:
        await answered(s)
        ended.set()
        requests = [s.ask(body=b"one"), s.ask(body=b"two")]
        await eventually(lambda: s.status()["held"] == 2)
        assert len(s.launcher.started) == 1
        s.launcher.started[0].exit(0)
        await s.ready(2)
        ends = [await each.end() for each in requests]
        assert [(each.status, each.body) for each in ends] == [(200, b"one"), (200, b"two")]
        assert (s.status()["state"], s.status()["reason"]) == ("ready", None)


async def test_what_cannot_be_sent_again_is_refused_and_the_replica_gets_no_other(
    stage: Staging,
) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/long"):
            return web.Response(status=503, headers={NOT_BEGUN_HEADER: DRAINING})
        return web.Response(text="done")

    async with stage(handler=infer) as s:
        await answered(s)
        long = s.ask("/serving/default/summarize/long", body=bytes(2**22), more_body=b"more")
        assert (await long.end()).status == 503
        await eventually(lambda: s.launcher.started[0].exited)
        next_one = s.ask()
        await s.ready(2)
        assert (await next_one.end()).status == 200


async def test_only_a_503_says_that_a_request_was_not_begun(stage: Staging) -> None:
    """A container of the user's may send any header; what it has answered is not asked again."""

    async def infer(request: web.Request) -> web.StreamResponse:
        return web.Response(text="done", headers={NOT_BEGUN_HEADER: ENGINE_FAILED})

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        assert ((await request.end()).status, request.body) == (200, b"done")
        assert (len(predictor.seen), len(s.launcher.started)) == (1, 1)


async def test_the_wait_that_is_told_begins_with_the_request_not_with_the_second_replica(
    stage: Staging,
) -> None:
    async def drains_first(request: web.Request) -> web.StreamResponse:
        if request.app[NUMBER] == 1:
            return web.Response(status=503, headers={NOT_BEGUN_HEADER: DRAINING})
        return web.Response(text="hello")

    async with stage(handler=drains_first) as s:
        request = s.ask()
        predictor = await s.launched()
        await s.clock.advance(10)
        predictor.ready = True
        while len(s.launcher.started) == 1:
            await s.clock.advance(1)
            await asyncio.sleep(0.002)  # the probe goes through a real socket
        await s.clock.advance(20)
        await s.ready(2)
        assert (await request.end()).status == 200
        assert int(request.headers["relume-queue-ms"]) >= 30_000
        assert 20_000 <= int(request.headers["relume-cold-start-ms"]) < 30_000


@pytest.mark.parametrize("who", ["the plane", "the predictor"])
@pytest.mark.parametrize("point", ["/slow?s=0.3", "/stream?n=3&gap=0.1"])
async def test_a_sigterm_during_a_request_lets_it_finish(
    machine: Machines, who: str, point: str
) -> None:
    async with machine() as m:
        await m.client.get(f"{BASE}/v1/x")
        request = asyncio.create_task(m.client.get(f"{BASE}{point}"))
        await eventually(lambda: m.status()["in_flight"] == 1)
        await asyncio.sleep(0.1)
        if who == "the plane":
            await m.plane.stop(20)
        else:
            os.kill(m.launcher.started[0].pid, signal.SIGTERM)
        answer = await request
        assert answer.status_code == 200
        assert "stream" not in point or answer.text.endswith("data: [DONE]\n\n")


async def test_real_processes_are_replaced_under_load(machine: Machines, tmp_path: Path) -> None:
    """Streams of real processes, over real sockets, through five rollouts."""
    statuses: list[tuple[int, bool]] = []
    over = asyncio.Event()
    async with machine(service(env={"FAKE_LOAD_S": "0.1"})) as m:

        async def client() -> None:
            while not over.is_set():
                answer = await m.client.post(f"{BASE}/stream?n=3&gap=0.02")
                statuses.append((answer.status_code, answer.text.endswith("data: [DONE]\n\n")))

        async with asyncio.TaskGroup() as clients:
            for _ in range(6):
                clients.create_task(client())
            for generation in range(2, 7):
                await eventually(lambda: m.status()["replicas"] > 0)
                config = replace(service(env={"FAKE_LOAD_S": "0.1"}), generation=generation)
                m.plane.update([config])
                await eventually(
                    lambda wanted=generation: (
                        len(m.launcher.started) == wanted and m.status()["rollout"] is None
                    )
                )
            over.set()
    assert set(statuses) == {(200, True)}
    assert len(m.launcher.started) == 6


def test_the_state_machine_replaces_one_replica_after_the_other() -> None:
    machine = rev.Revision(0, rev.Backoff())
    machine.on(rev.ScaleTo(2), 0)
    machine.on(rev.BecameReady(1), 1)
    machine.on(rev.BecameReady(2), 1)
    assert machine.on(rev.Renewed(), 2) == [rev.Start(3), rev.Start(4)]
    assert machine.on(rev.BecameReady(3), 3) == [rev.Drain(2, "replaced")]
    assert machine.rolling_out
    assert machine.on(rev.BecameReady(4), 4) == [rev.Drain(1, "replaced")]
    assert (machine.rolling_out, machine.count(rev.State.READY)) == (False, 2)
    assert machine.on(rev.Exited(1, "", 0), 5) == []


def test_going_to_zero_takes_both_revisions_away() -> None:
    machine = rev.Revision(0, rev.Backoff())
    machine.on(rev.ScaleTo(1), 0)
    machine.on(rev.BecameReady(1), 1)
    machine.on(rev.Renewed(), 2)
    assert machine.on(rev.ScaleTo(0), 3) == [
        rev.Cancel(2, "scaled-down"),
        rev.Drain(1, "scaled-down"),
    ]
    assert machine.on(rev.Exited(2, "", 0), 4) == machine.on(rev.Exited(1, "", 0), 4) == []
    assert machine.state is rev.State.ZERO
