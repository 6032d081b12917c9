"""Checklist A1, A2, A6, A8, A9 through the whole plane, under a virtual clock."""

import asyncio
import json

import pytest
from aiohttp import web

from relume.base.testing import settle

from .conftest import Staging, service
from .virtual import eventually


async def forever(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def test_a1_a_request_at_zero_is_held_and_starts_a_predictor_without_waiting_for_a_tick(
    stage: Staging,
) -> None:
    async with stage() as s:
        before = s.clock.monotonic()
        request = s.ask()
        await s.launched()
        assert s.clock.monotonic() == before
        assert (s.status()["state"], s.status()["held"]) == ("starting", 1)
        assert not request.done
        await s.ready()
        await request.end()
        assert request.status == 200
        assert json.loads(request.body) == {"hello": "/v1/chat/completions"}


async def test_a1_the_service_is_at_zero_until_then(stage: Staging) -> None:
    async with stage() as s:
        await s.clock.advance(100)
        assert s.status()["state"] == "zero"
        assert s.launcher.started == []


async def test_a2_waiting_longer_than_the_timeout_is_504_with_knative_s_text(
    stage: Staging,
) -> None:
    async with stage() as s:
        request = s.ask()
        await s.launched()
        await s.clock.advance(299.9)
        assert not request.done
        await s.clock.advance(0.1)
        await request.end()
        assert request.status == 504
        assert request.body == b"activator request timeout"
        assert request.headers["content-type"].startswith("text/plain")
        assert s.status()["held"] == 0


async def test_a2_waiting_and_answering_count_together(stage: Staging) -> None:
    async with stage(service(timeout_s=30), handler=forever) as s:
        request = s.ask()
        await s.launched()
        await s.clock.advance(20)
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        await s.clock.advance(8.5)
        assert not request.done
        await s.clock.advance(0.5)
        await request.end()
        assert (request.status, request.body) == (504, b"activator request timeout")


async def test_a2_a_timeout_cancels_the_inference(stage: Staging) -> None:
    cancelled = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        try:
            return await forever(request)
        finally:
            cancelled.set()

    async with stage(service(timeout_s=30), handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        await s.clock.advance(30)
        await request.end()
        await eventually(cancelled.is_set)


async def test_a6_without_a_limit_all_who_wait_are_released_at_once(stage: Staging) -> None:
    async with stage(handler=forever) as s:
        requests = [s.ask() for _ in range(20)]
        predictor = await s.ready()
        await eventually(lambda: len(predictor.seen) == 20)
        assert (s.status()["held"], s.status()["in_flight"]) == (0, 20)
        assert len(s.launcher.started) == 1
        for request in requests:
            request.hang_up()


async def test_a6_a_limit_lets_that_many_through_and_the_rest_wait(stage: Staging) -> None:
    gate = asyncio.Semaphore(0)

    async def infer(request: web.Request) -> web.StreamResponse:
        await gate.acquire()
        return web.Response(text="done")

    async with stage(service(container_concurrency=2, max_replicas=1), handler=infer) as s:
        requests = [s.ask() for _ in range(5)]
        predictor = await s.ready()
        await eventually(lambda: len(predictor.seen) == 2)
        assert (s.status()["held"], s.status()["in_flight"]) == (3, 2)
        gate.release()
        await eventually(lambda: len(predictor.seen) == 3)
        assert s.status()["held"] == 2
        for _ in range(4):
            gate.release()
        assert [(await r.end()).status for r in requests] == [200] * 5


async def test_a8_a_client_that_leaves_the_queue_frees_its_place_and_no_inference_starts(
    stage: Staging,
) -> None:
    async with stage() as s:
        leaver, stayer = s.ask("/serving/default/summarize/leaver"), s.ask()
        await s.launched()
        leaver.hang_up()
        await leaver.end()
        assert leaver.status is None
        assert s.status()["held"] == 1
        predictor = await s.ready()
        await stayer.end()
        assert stayer.status == 200
        assert [r.path for r in predictor.seen] == ["/v1/chat/completions"]


async def test_a8_a_client_that_leaves_while_it_is_answered_cancels_the_inference(
    stage: Staging,
) -> None:
    cancelled = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        try:
            return await forever(request)
        finally:
            cancelled.set()

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        request.hang_up()
        await request.end()
        await eventually(cancelled.is_set)
        assert s.status()["in_flight"] == 0


async def test_a_load_that_nobody_waits_for_any_more_is_cancelled(stage: Staging) -> None:
    async with stage() as s:
        request = s.ask()
        predictor = await s.launched()
        await settle()
        request.hang_up()
        await request.end()
        await s.clock.advance(1.9)
        assert s.status()["state"] == "starting"
        await s.clock.advance(0.1)
        await eventually(lambda: s.status()["state"] == "zero")
        assert predictor.terminated
        assert s.plane.coldstarts()[-1]["outcome"] == "cancelled"
        await s.clock.advance(600)
        assert len(s.launcher.started) == 1


async def test_a_start_that_still_waits_for_the_template_is_cancelled_too(stage: Staging) -> None:
    async with stage() as s:
        s.launcher.template_loaded.clear()
        request = s.ask()
        await settle()
        assert s.status()["state"] == "starting"
        request.hang_up()
        await request.end()
        await s.clock.advance(2)
        assert s.status()["state"] == "zero"
        assert s.plane.coldstarts()[-1]["outcome"] == "cancelled"
        s.launcher.template_loaded.set()
        await settle()
        assert s.launcher.started == []


async def test_a_client_that_comes_back_in_time_finds_the_same_load(stage: Staging) -> None:
    async with stage() as s:
        first = s.ask()
        await s.launched()
        first.hang_up()
        await first.end()
        await s.clock.advance(1)
        second = s.ask()
        await s.clock.advance(60)
        await s.ready()
        assert (await second.end()).status == 200
        assert len(s.launcher.started) == 1


async def test_a_client_that_comes_back_and_leaves_again_is_waited_for_again(
    stage: Staging,
) -> None:
    async with stage() as s:
        for _ in range(3):
            request = s.ask()
            await settle()
            request.hang_up()
            await request.end()
            await s.clock.advance(1.5)
        assert s.status()["state"] == "starting"
        await s.clock.advance(0.5)
        assert s.status()["desired"] == 0


async def test_a_request_that_is_over_leaves_no_timer(stage: Staging) -> None:
    async with stage(service(idle_timeout_s=30)) as s:
        first = s.ask()
        await s.ready()
        await first.end()
        before = s.clock.sleeping
        for _ in range(10):
            await s.ask().end()
        assert s.clock.sleeping == before


async def test_a9_while_a_request_waits_a_slow_load_is_never_given_up(stage: Staging) -> None:
    async with stage(service(timeout_s=3600)) as s:
        request = s.ask()
        await s.launched()
        await s.clock.advance(1000)  # the deadline is 600
        assert s.status()["state"] == "starting"
        await s.ready()
        assert (await request.end()).status == 200


async def test_a9_a_load_whose_requests_timed_out_goes_on_until_the_deadline_and_thirty_seconds(
    stage: Staging,
) -> None:
    async with stage() as s:
        request = s.ask()
        predictor = await s.launched()
        await s.clock.advance(300)
        assert (await request.end()).status == 504
        await s.clock.advance(328)
        assert s.status()["state"] == "starting"
        await s.clock.advance(4)
        await eventually(lambda: predictor.terminated)
        await eventually(lambda: s.status()["state"] == "failed")
        assert "progress deadline" in s.status()["reason"]
        entry = s.plane.coldstarts()[-1]
        assert (entry["outcome"], entry["reason"]) == ("failed", "timed-out")


async def test_a9_after_that_the_next_request_activates_again(stage: Staging) -> None:
    async with stage(service(progress_deadline_s=60, timeout_s=60)) as s:
        first = s.ask()
        await s.launched()
        await s.clock.advance(200)
        assert (await first.end()).status == 504
        await eventually(lambda: s.status()["state"] == "failed")
        second = s.ask()
        await s.ready(2)
        assert (await second.end()).status == 200
        assert s.status()["state"] == "ready"


async def test_a9_a_first_deployment_without_traffic_has_the_same_clock(stage: Staging) -> None:
    annotated = service(annotations={"autoscaling.knative.dev/initial-scale": "1"})
    async with stage(annotated) as s:
        predictor = await s.launched()
        await s.clock.advance(628)
        assert s.status()["state"] == "starting"
        await s.clock.advance(4)
        await eventually(lambda: predictor.terminated)


@pytest.mark.parametrize("minimum", [1, 2])
async def test_a_minimum_is_started_with_the_plane_and_kept(stage: Staging, minimum: int) -> None:
    async with stage(service(min_replicas=minimum)) as s:
        for number in range(1, minimum + 1):
            await s.ready(number)
        await s.clock.advance(1000)
        assert (s.status()["replicas"], s.status()["state"]) == (minimum, "ready")
