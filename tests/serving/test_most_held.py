"""How many requests may wait for a service, and what one more is told."""

import asyncio
import json

from aiohttp import web

from relume.serving.prediction import Pace
from relume.serving.throttler import MOST_HELD

from .conftest import Staging, service
from .virtual import eventually

FEW = {"relume.dev/max-held": "2"}


async def test_a7_one_request_more_than_may_be_held_is_told_when_to_come_again(
    stage: Staging,
) -> None:
    """Checklist A7: Knative's activator does not refuse it, and its queue-proxy does with 503."""
    async with stage(service(annotations=FEW)) as s:
        held = [s.ask() for _ in range(2)]
        await s.launched()
        refused = await s.ask().end()
        assert (refused.status, refused.headers["retry-after"]) == (429, "10")
        said = json.loads(refused.body)
        assert (said["error"]["code"], said["reason"]) == (429, "too-many-held")
        assert (s.status()["held"], s.status()["refused"]) == (2, 1)
        await s.ready()
        assert [(await each.end()).status for each in held] == [200, 200]
        assert (await s.ask().end()).status == 200


async def test_the_time_is_the_one_that_is_predicted_for_the_start(stage: Staging) -> None:
    async with stage(service(annotations=FEW)) as s:
        s.plane.warm("default", "summarize")
        await s.launched()
        await s.clock.advance(30)
        await s.ready()
        await s.clock.advance(120)
        await eventually(lambda: s.status()["state"] == "zero")
        held = [s.ask() for _ in range(2)]
        await s.launched(2)
        await s.clock.advance(10)
        refused = await s.ask().end()
        assert 20 <= int(refused.headers["retry-after"]) <= 23
        for each in held:
            each.hang_up()


async def test_where_replicas_are_busy_it_is_the_pace_at_which_they_answer(stage: Staging) -> None:
    gate = asyncio.Semaphore(0)

    async def infer(request: web.Request) -> web.StreamResponse:
        await gate.acquire()
        return web.Response()

    busy = service(annotations=FEW, container_concurrency=1, max_replicas=1)
    async with stage(busy, handler=infer) as s:
        first = s.ask()
        await s.ready()
        running = [first, s.ask(), s.ask()]
        for each in running:
            await s.clock.advance(8)
            gate.release()
            await each.end()
            running.append(s.ask())
            if len(running) == 6:
                break
        refused = await s.ask().end()
        assert (refused.status, refused.headers["retry-after"]) == (429, "16")
        for each in running:
            each.hang_up()


async def test_without_an_annotation_so_many_may_wait_as_in_knative_s_activator(
    stage: Staging,
) -> None:
    async with stage() as s:
        assert s.plane._service("default", "summarize").throttler.most == MOST_HELD == 10_000


def test_a_pace_forgets_what_was_before_a_pause() -> None:
    pace = Pace()
    assert pace.ends_in_s(3) is None
    for at in (0.0, 2.0, 4.0):
        pace.left(at, held=1)
    pace.left(6.0, held=0)
    pace.left(1000.0, held=1)
    assert pace.ends_in_s(3) == 6
