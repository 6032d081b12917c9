"""An engine that makes no step while requests run in it is killed, and who waits is told why."""

import asyncio

import pytest
from aiohttp import web

from relume.base.vocabulary import HANG_AFTER
from relume.serving.hang import Watch, Work

from .conftest import Stage, Staging, service
from .virtual import InProcessPredictor, eventually


def looks(watch: Watch, *seen: tuple[float, Work | None, bool]) -> list[str | None]:
    return [watch.look(now, work, busy=busy) for now, work, busy in seen]


def test_no_step_for_so_long_while_a_request_runs_is_a_hang() -> None:
    seen = looks(Watch(60), *((now, Work(7, 2), True) for now in (0, 30, 59, 60)))
    assert seen[:3] == [None, None, None]
    assert seen[3] == "the engine made no step for 60 s, with 2 requests to answer"


def test_a_long_prompt_whose_steps_give_no_token_is_none() -> None:
    steps = ((now, Work(now // 50, 1), True) for now in range(0, 1000, 10))
    assert not any(looks(Watch(60), *steps))


def test_time_without_a_request_does_not_count_and_the_next_request_goes_on_counting() -> None:
    idle = Work(7, 0)
    seen = looks(
        Watch(60),
        *((0, Work(7, 1), True), (50, Work(7, 1), True), (55, idle, True), (900, idle, False)),
        *((1000, Work(7, 1), True), (1004, Work(7, 1), True), (1006, Work(7, 1), True)),
    )
    assert seen[:-1] == [None] * 6
    assert seen[-1] is not None
    assert "for 61 s" in seen[-1]


def test_requests_that_are_not_with_the_engine_do_not_count() -> None:
    """A WebSocket, or a body that still comes in."""
    assert not any(looks(Watch(60), *((now, Work(7, 0), True) for now in range(0, 600, 10))))


def test_a_server_that_does_not_answer_counts_once_it_has_told_of_steps() -> None:
    told = looks(Watch(60), (0, Work(1, 1), True), (30, None, True), (61, None, True))
    assert told[-1] == "the server gave no answer to probes for 61 s"
    never = looks(Watch(60), *((now, None, True) for now in range(0, 600, 10)))
    assert not any(never), "a server that tells of no steps is not watched"


def test_it_can_be_switched_off() -> None:
    watch = Watch(0)
    assert watch.every_s is None
    assert not any(looks(watch, *((now, Work(7, 2), True) for now in range(0, 9000, 100))))


@pytest.mark.parametrize(("limit_s", "every_s"), [(1, 0.5), (20, 2), (300, 10)])
def test_it_is_looked_at_often_enough(limit_s: float, every_s: float) -> None:
    assert Watch(limit_s).every_s == every_s


async def hangs(request: web.Request) -> web.StreamResponse:
    if request.path.endswith("/fine"):
        return web.Response()
    answer = web.StreamResponse()
    if request.path.endswith("/stream"):
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
    await asyncio.Event().wait()
    return answer


async def looked_at(s: Stage, predictor: InProcessPredictor, times: int) -> None:
    """Let time pass until the plane has asked so often what the engine does, once a second."""
    for _ in range(times):
        before = predictor.probed
        while predictor.probed == before and not predictor.killed:
            await s.clock.advance(0.5)
            await asyncio.sleep(0.002)


async def test_it_is_killed_and_its_requests_are_told_why(stage: Staging) -> None:
    limited = service(container_concurrency=2, max_replicas=1, annotations={HANG_AFTER: "10"})
    async with stage(limited, handler=hangs) as s:
        first = s.ask("/serving/default/summarize/x")
        predictor = await s.ready()
        predictor.work = {"steps": 3, "running": 2}
        stream = s.ask("/serving/default/summarize/stream")
        await eventually(lambda: predictor.running == 2)
        held = s.ask("/serving/default/summarize/fine")
        await looked_at(s, predictor, 4)
        assert not predictor.killed
        await looked_at(s, predictor, 20)
        assert predictor.killed
        for answer in (await first.end(), await held.end()):
            assert answer.status in (502, 503)
            assert b"the engine made no step for " in answer.body
        assert held.headers["retry-after"] == "1"
        assert b'"reason": "engine-hangs"' in held.body
        await stream.end()
        assert not stream.complete
        assert s.status()["state"] == "failed"
        assert s.status()["reason"].startswith("engine-hangs: the engine made no step")
        again = s.ask("/serving/default/summarize/fine")
        await s.clock.advance(1)  # the back-off
        await s.ready(2)
        assert (await again.end()).status == 200


async def test_an_engine_that_works_slowly_is_left_alone(stage: Staging) -> None:
    async with stage(service(annotations={HANG_AFTER: "10"}), handler=hangs) as s:
        request = s.ask()
        predictor = await s.ready()
        for step in range(8):
            predictor.work = {"steps": step, "running": 1}
            await looked_at(s, predictor, 4)
        assert not predictor.killed
        request.hang_up()
        await request.end()
