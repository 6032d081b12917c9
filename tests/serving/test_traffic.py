"""canaryTrafficPercent: two revisions of a service share its requests, as KServe and Knative do."""

import asyncio

import pytest
from aiohttp import web

from relume.base.vocabulary import ENGINE_FAILED, NOT_BEGUN_HEADER
from relume.config import InferenceService

from .conftest import Stage, Staging, service
from .test_rollout import answered
from .virtual import NUMBER, InProcessPredictor, eventually

REQUESTS = 200


def changed(generation: int, percent: int | None = None, **more: object) -> InferenceService:
    return service(generation=generation, canary_percent=percent, **more)


def shares(s: Stage) -> list[tuple[str, int, int]]:
    traffic = s.status()["traffic"]
    return [(part["tag"], part["percent"], part["asked"]) for part in traffic]


async def ask_often(s: Stage, count: int = REQUESTS) -> None:
    for _ in range(count):
        assert (await s.ask().end()).status == 200


def seen(s: Stage) -> list[int]:
    """How many requests each predictor has seen since the last look."""
    counts = [len(predictor.seen) for predictor in s.launcher.started]
    for predictor in s.launcher.started:
        predictor.seen.clear()
    return counts


async def split(s: Stage, percent: int, **more: object) -> InProcessPredictor:
    """Bring a first revision up, and a canary beside it."""
    await answered(s)
    s.plane.update([changed(2, percent, **more)])
    canary = await s.ready(2)
    seen(s)
    return canary


async def test_the_new_revision_gets_its_share_once_it_is_ready(stage: Staging) -> None:
    async with stage() as s:
        await answered(s)
        seen(s)
        s.plane.update([changed(2, 10)])
        await s.launched(2)
        await ask_often(s, 30)
        assert (seen(s), shares(s)) == ([30, 0], [("prev", 100, 90), ("latest", 0, 10)])
        await s.ready(2)
        await ask_often(s)
        old, new = seen(s)
        assert (old + new, shares(s)) == (REQUESTS, [("prev", 90, 90), ("latest", 10, 10)])
        assert 0.05 * REQUESTS <= new <= 0.15 * REQUESTS
        assert [part["revision"] for part in s.status()["traffic"]] == [
            "summarize-predictor-00001",
            "summarize-predictor-00002",
        ]
        await eventually(lambda: len(s.plane.coldstarts()) == 2)
        assert s.plane.coldstarts()[1]["revision"] == "summarize-predictor-00002"


@pytest.mark.parametrize("percent", [None, 100])
async def test_promoted_it_gets_every_request_and_the_old_one_finishes_what_it_has(
    stage: Staging, percent: int | None
) -> None:
    go = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/slow"):
            await go.wait()
        return web.Response()

    async with stage(handler=slow) as s:
        await split(s, 0)
        running = s.ask("/serving/default/summarize/slow")
        await eventually(lambda: s.launcher.started[0].running == 1)
        seen(s)
        s.plane.update([changed(2, percent)])
        await ask_often(s, 20)
        assert (seen(s), shares(s)) == ([0, 20], [])
        await s.clock.advance(120)
        assert not s.launcher.started[0].terminated
        go.set()
        assert (await running.end()).status == 200
        await eventually(lambda: s.launcher.started[0].exited)
        assert s.status()["revision"] == "summarize-predictor-00002"


async def test_at_zero_percent_the_old_one_gets_all_of_them_again(stage: Staging) -> None:
    async with stage() as s:
        await split(s, 50)
        s.plane.update([changed(2, 0)])
        await ask_often(s, 30)
        assert (seen(s), shares(s)) == ([30, 0], [("prev", 100, 100), ("latest", 0, 0)])


async def test_a_revision_that_had_all_is_rolled_back_to_the_one_before_it(stage: Staging) -> None:
    async with stage() as s:
        await split(s, 100)
        s.plane.update([changed(2, 0)])
        await s.ready(3)
        await ask_often(s, 10)
        assert seen(s)[1:] == [0, 10]
        assert s.status()["revision"] == "summarize-predictor-00001"


async def test_each_has_memory_and_logs_of_its_own(stage: Staging) -> None:
    async with stage(memory_bytes=10) as s:
        s.launcher.needs = {"summarize": 3}
        await split(s, 10)
        assert s.plane.status()["memory"]["used"] == 6
        s.plane.update([changed(2, 100)])
        await eventually(lambda: s.launcher.started[0].exited)
        s.plane.update([changed(3, min_replicas=1)])
        await s.ready(3)  # the second replica of what began as the second revision
        await eventually(lambda: s.launcher.started[1].exited)
        s.plane.update([changed(3, 50, min_replicas=1)])  # and back to the second
        (await s.ready(4)).exit(0)
        await eventually(lambda: s.status()["traffic"][0]["replicas"] == 0)
        held = s.ask("/x", headers={"host": "prev-summarize.default.example.com"})
        await s.clock.advance(2)
        await s.ready(5)
        assert (await held.end()).status == 200
        assert s.plane.status()["memory"]["used"] == 6
        assert len(set(s.launcher.logs)) == 5


async def test_a_request_that_waits_for_a_revision_stays_with_it(stage: Staging) -> None:
    async with stage() as s:
        canary = await split(s, 10)
        canary.exit(0)
        await eventually(lambda: s.status()["traffic"][1]["replicas"] == 0)
        held = s.ask("/x", headers={"host": "latest-summarize.default.example.com"})
        third = await s.launched(3)
        await ask_often(s, 1)
        s.plane.update([changed(2, 0)])
        await s.ready(3)
        assert (await held.end()).status == 200
        assert (len(third.seen), seen(s)[0]) == (1, 1)


async def test_each_scales_on_its_own(stage: Staging) -> None:
    async with stage() as s:
        canary = await split(s, 0)
        for _ in range(40):
            await s.ask().end()
            await s.clock.advance(2)
        assert (canary.terminated, s.launcher.started[0].terminated) == (True, False)
        states = [part["state"] for part in s.status()["traffic"]]
        assert states == ["ready", "zero"]


async def test_one_that_fails_gets_nothing_is_tried_again_and_tells_why(stage: Staging) -> None:
    async with stage() as s:
        await answered(s)
        s.plane.update([changed(2, 50)])
        for attempt, wait_s in ((2, 1), (3, 2), (4, 4)):
            (await s.launched(attempt)).exit(3)
            await eventually(lambda: s.status()["traffic"][1]["state"] == "failed")
            assert "exited with code 3" in s.status()["traffic"][1]["reason"]
            assert (await s.ask().end()).status == 200
            await s.clock.advance(wait_s + 2)
        assert shares(s)[1] == ("latest", 0, 50)
        await s.ready(5)
        assert shares(s)[1] == ("latest", 50, 50)


async def test_another_canary_takes_the_place_of_the_first(stage: Staging) -> None:
    async with stage() as s:
        canary = await split(s, 50)
        s.plane.update([changed(3, 50)])
        await eventually(lambda: canary.terminated)
        await s.ready(3)
        s.plane.update([changed(4)])
        await s.ready(4)
        await eventually(lambda: s.launcher.started[0].terminated)
        await ask_often(s, 5)
        assert (seen(s)[3], shares(s)) == (5, [])


async def test_a_request_of_a_revision_that_was_replaced_gets_another_replica_of_it(
    stage: Staging,
) -> None:
    go = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/late") and request.app[NUMBER] == 2:
            await go.wait()
            return web.Response(status=503, headers={NOT_BEGUN_HEADER: ENGINE_FAILED})
        return web.Response(text="done")

    async with stage(handler=infer) as s:
        canary = await split(s, 99)
        host = {"host": "latest-summarize.default.example.com"}
        late = s.ask("/late", headers=host)
        await eventually(lambda: canary.running == 1)
        s.plane.update([changed(3, 0)])
        await s.ready(3)
        go.set()
        await eventually(lambda: canary.running == 0)
        canary.exit(0)
        (await s.launched(4)).ready = True
        await s.clock.advance(2)
        assert ((await late.end()).status, late.body) == (200, b"done")
        await eventually(lambda: s.launcher.started[3].terminated)


@pytest.mark.parametrize(("host", "which"), [("latest", 1), ("prev", 0)])
async def test_a_host_with_a_tag_asks_for_one_of_the_two(
    stage: Staging, host: str, which: int
) -> None:
    async with stage() as s:
        await split(s, 0 if host == "latest" else 99)
        for name in ("summarize", "summarize-predictor"):
            answer = s.ask("/x", headers={"host": f"{host}-{name}.default.example.com"})
            assert (await answer.end()).status == 200
        assert seen(s)[which] == 2


async def test_a_service_that_is_removed_takes_both_with_it(stage: Staging) -> None:
    async with stage() as s:
        await split(s, 50)
        s.plane.update([])
        await eventually(lambda: all(each.exited for each in s.launcher.started))
        assert (await s.ask().end()).status == 404


async def test_a_canary_that_made_room_before_it_was_ready_starts_again(stage: Staging) -> None:
    async with stage(service(), service(name="other"), memory_bytes=10) as s:
        s.launcher.needs = {"summarize": 5, "other": 6}
        await answered(s)
        s.plane.update([changed(2, 10), service(name="other")])
        await s.launched(2)
        urgent = s.ask("/serving/default/other/x")
        await s.clock.advance(1)
        other = await s.ready(3)
        assert (await urgent.end()).status == 200
        assert s.launcher.started[1].terminated
        other.exit(0)
        await s.clock.advance(4)
        await s.ready(4)
        assert shares(s)[1] == ("latest", 10, 10)
