"""Checklist A15 through the whole plane, and scaling in between, under a virtual clock."""

import asyncio

from aiohttp import web

from .conftest import Autoscaling, Stage, Staging, service
from .virtual import eventually


async def answered_once(s: Stage) -> None:
    request = s.ask()
    await s.ready()
    assert (await request.end()).status == 200


async def until_zero(s: Stage, most: float) -> float:
    """Advance until the service is at zero; return how long that took."""
    since = s.clock.monotonic()
    while s.status()["desired"] > 0:
        assert s.clock.monotonic() - since < most, "not at zero in time"
        await s.clock.advance(1)
    took = s.clock.monotonic() - since
    await eventually(lambda: s.status()["state"] == "zero")
    return took


async def test_a15_idle_for_the_window_and_behind_the_activator_goes_to_zero(
    stage: Staging,
) -> None:
    async with stage() as s:
        await answered_once(s)
        assert 58 <= await until_zero(s, 70) <= 66
        assert s.launcher.started[0].terminated
        assert s.status()["pids"] == []


async def test_a17_an_idle_window_of_an_hour_is_over_when_the_clock_says_so(
    stage: Staging,
) -> None:
    scaling = Autoscaling(window_s=3600)
    async with stage(service(autoscaling=scaling)) as s:
        await answered_once(s)
        assert 3598 <= await until_zero(s, 3700) <= 3610


async def test_a15_without_the_activator_in_the_path_the_grace_period_is_added(
    stage: Staging,
) -> None:
    scaling = Autoscaling(target_burst_capacity=0)
    async with stage(service(autoscaling=scaling)) as s:
        await answered_once(s)
        assert 88 <= await until_zero(s, 100) <= 98


async def test_a15_the_last_replica_is_retained_as_long_as_the_annotation_says(
    stage: Staging,
) -> None:
    scaling = Autoscaling(scale_to_zero_pod_retention_s=300)
    async with stage(service(autoscaling=scaling)) as s:
        await answered_once(s)
        assert 358 <= await until_zero(s, 400) <= 368


async def test_a15_the_window_is_the_service_s_own(stage: Staging) -> None:
    async with stage(service(autoscaling=Autoscaling(window_s=6))) as s:
        await answered_once(s)
        assert await until_zero(s, 14) <= 12


async def test_a15_an_open_stream_is_demand(stage: Staging) -> None:
    more = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await more.wait()
        await response.write(b"data: [DONE]\n\n")
        return response

    async with stage(service(timeout_s=3600), handler=infer) as s:
        request = s.ask()
        await s.ready()
        await eventually(lambda: bool(request.chunks))
        await s.clock.advance(1000)
        assert (s.status()["state"], s.status()["in_flight"]) == ("ready", 1)
        more.set()
        await request.end()
        assert request.body.endswith(b"data: [DONE]\n\n")
        assert await until_zero(s, 70) >= 58


async def test_a_stream_is_demand_even_where_requests_per_second_scale(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    config = service(timeout_s=3600, autoscaling=Autoscaling(metric="rps"))
    async with stage(config, handler=infer) as s:
        request = s.ask()
        await s.clock.advance(500)
        assert s.status()["state"] == "starting"
        await s.ready()
        await s.clock.advance(500)
        assert s.status()["state"] == "ready"
        request.hang_up()
        assert await until_zero(s, 70) < 10


async def test_a_load_that_no_request_began_is_in_the_ledger_when_it_is_ready(
    stage: Staging,
) -> None:
    async with stage(service(min_replicas=1)) as s:
        await s.ready()
        await eventually(lambda: len(s.plane.coldstarts()) == 1)
        entry = s.plane.coldstarts()[0]
        assert (entry["outcome"], entry["queue"], entry["first_token"]) == ("ready", 0, None)
        assert entry["total"] == entry["ready"]


async def test_after_zero_the_next_request_starts_another_predictor(stage: Staging) -> None:
    async with stage() as s:
        await answered_once(s)
        await until_zero(s, 70)
        request = s.ask()
        await s.ready(2)
        assert (await request.end()).status == 200
        assert s.status()["cold_starts"] == 2


async def test_a_request_that_comes_while_the_last_replica_exits_starts_another(
    stage: Staging,
) -> None:
    async with stage() as s:
        await answered_once(s)
        first = s.launcher.started[0]
        first.lingers = True
        while s.status()["state"] != "draining":
            await s.clock.advance(1)
        request = s.ask()
        second = await s.ready(2)
        assert (await request.end()).status == 200
        assert (len(first.seen), len(second.seen)) == (1, 1)
        first.exit(0)
        await eventually(lambda: s.status()["pids"] == [second.pid])
        assert s.status()["state"] == "ready"


async def test_a_predictor_that_does_not_exit_is_killed(stage: Staging) -> None:
    async with stage() as s:
        await answered_once(s)
        predictor = s.launcher.started[0]
        predictor.lingers = True
        while s.status()["state"] != "draining":
            await s.clock.advance(1)
        await s.clock.advance(9)
        assert not predictor.killed
        await s.clock.advance(1)
        assert predictor.killed


async def test_load_beyond_the_target_starts_more_replicas_up_to_the_maximum(
    stage: Staging,
) -> None:
    gate = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response(text="done")

    async with stage(service(container_concurrency=1, max_replicas=3), handler=infer) as s:
        requests = [s.ask() for _ in range(8)]
        await s.launched()
        # One request over a target of 0.7 asks for two, as it does on Knative.
        assert s.status()["desired"] == 2
        await s.clock.advance(4)
        assert s.status()["desired"] == 3
        for number in (1, 2, 3):
            await s.ready(number)
        await eventually(lambda: s.status()["in_flight"] == 3)
        assert s.status()["held"] == 5
        gate.set()
        assert {(await r.end()).status for r in requests} == {200}
        assert sorted(len(p.seen) for p in s.launcher.started)[0] >= 1


async def test_without_a_maximum_one_machine_starts_four_at_most(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with stage(service(container_concurrency=1), handler=infer) as s:
        for _ in range(30):
            s.ask()
        await s.clock.advance(10)
        assert s.status()["desired"] == 4


async def test_a11_scaling_down_lets_a_replica_finish_its_requests(stage: Staging) -> None:
    """Checklist A11."""
    more = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        await more.wait()
        return web.Response(text="done")

    scaling = Autoscaling(window_s=6, target=2)
    config = service(max_replicas=2, timeout_s=3000, autoscaling=scaling)
    async with stage(config, handler=infer) as s:
        many = [s.ask() for _ in range(8)]
        await s.ready()
        await s.clock.advance(4)
        await s.ready(2)
        late = [s.ask() for _ in range(8)]
        await eventually(lambda: all(p.seen for p in s.launcher.started))
        for request in many + late[1:]:
            request.hang_up()
        await eventually(lambda: s.status()["in_flight"] == 1)
        await s.clock.advance(100)
        assert s.status()["desired"] == 1
        more.set()
        assert (await late[0].end()).status == 200


async def test_a10_the_plane_s_own_probes_are_no_load(stage: Staging) -> None:
    """Checklist A10."""
    async with stage() as s:
        await answered_once(s)
        await s.clock.advance(30)
        assert s.status()["in_flight"] == 0
        assert len(s.launcher.started[0].seen) == 1
