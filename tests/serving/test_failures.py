"""Predictors that die, refuse and break off, under a virtual clock."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from relume.base.testing import settle
from relume.serving.settings import ServingSettings

from .conftest import Autoscaling, Staging, service
from .virtual import eventually


def reason(body: bytes) -> tuple[str, str, Any]:
    parsed = json.loads(body)
    return parsed["reason"], parsed["error"]["message"], parsed["error"]["code"]


async def test_a_predictor_that_dies_while_loading_fails_everyone_who_waits(
    stage: Staging,
) -> None:
    async with stage() as s:
        requests = [s.ask() for _ in range(3)]
        predictor = await s.launched()
        predictor.exit(3)
        for request in requests:
            await request.end()
            assert request.status == 503
            assert request.headers["retry-after"] == "1"
            word, message, code = reason(request.body)
            assert (word, code) == ("predictor-failed", 503)
            assert "exited with code 3" in message
        assert s.status()["state"] == "failed"
        assert s.status()["reason"] == "the predictor exited with code 3"
        entry = s.plane.coldstarts()[-1]
        assert (entry["outcome"], entry["reason"]) == ("failed", s.status()["reason"])


async def test_the_ledger_says_how_long_a_failed_start_took_and_which_phases_it_had(
    stage: Staging,
) -> None:
    async with stage() as s:
        request = s.ask()
        predictor = await s.launched()
        await s.clock.advance(12)
        await eventually(lambda: predictor.probed > 0)
        await settle()
        predictor.exit(3)
        await request.end()
        entry = s.plane.coldstarts()[-1]
        assert (entry["outcome"], entry["ended"], entry["ready"]) == ("failed", 12_000.0, None)
        assert (entry["fork"], entry["weights"]) == (20.0, 300.0)


async def test_a_predictor_that_cannot_be_started_fails_the_same_way(stage: Staging) -> None:
    async with stage() as s:
        s.launcher.refuse = "the model hf://org/model is not in the store"
        request = s.ask()
        await request.end()
        assert request.status == 503
        assert "not in the store" in reason(request.body)[1]
        assert s.status()["pids"] == []


async def test_a_fault_in_a_start_is_of_its_service_and_not_of_the_plane(stage: Staging) -> None:
    async def odd(*_: object) -> None:
        raise ValueError("embedded null byte")

    async with stage(service(), service(name="other")) as s:
        start, s.launcher.start = s.launcher.start, odd  # type: ignore[method-assign,assignment]
        request = await s.ask().end()
        assert request.status == 503
        assert "embedded null byte" in reason(request.body)[1]
        s.launcher.start = start  # type: ignore[method-assign]
        other = s.ask("/serving/default/other/x")
        await s.ready()
        assert (await other.end()).status == 200


async def test_the_next_request_tries_again_after_the_back_off(stage: Staging) -> None:
    async with stage() as s:
        first = s.ask()
        (await s.launched()).exit(3)
        await first.end()
        second = s.ask()
        await s.clock.advance(0.9)
        assert len(s.launcher.started) == 1
        assert (s.status()["state"], s.status()["held"]) == ("failed", 1)
        await s.clock.advance(0.1)
        await s.ready(2)
        assert (await second.end()).status == 200
        assert s.status()["reason"] is None


async def test_the_back_off_doubles(stage: Staging) -> None:
    async with stage() as s:
        for number, wait in enumerate((1, 2, 4, 8), start=1):
            request = s.ask()
            (await s.launched(number)).exit(3)
            await request.end()
            assert request.headers["retry-after"] == str(wait)
            await s.clock.advance(wait)


async def test_a_failure_without_requests_starts_nothing_by_itself(stage: Staging) -> None:
    async with stage() as s:
        request = s.ask()
        (await s.launched()).exit(3)
        await request.end()
        await s.clock.advance(1000)
        assert len(s.launcher.started) == 1


async def test_with_a_minimum_the_plane_tries_again_by_itself(stage: Staging) -> None:
    async with stage(service(min_replicas=1)) as s:
        (await s.launched()).exit(3)
        await eventually(lambda: s.status()["state"] == "failed")
        await s.clock.advance(1)
        await s.ready(2)
        assert s.status()["state"] == "ready"


async def test_a_predictor_killed_while_it_answers_is_502_and_the_next_request_starts_another(
    stage: Staging,
) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        if request.path == "/first":
            await asyncio.Event().wait()
        return web.Response(text="done")

    async with stage(handler=infer) as s:
        request = s.ask("/serving/default/summarize/first")
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        predictor.exit(-9)
        await request.end()
        assert request.status == 502
        assert reason(request.body)[0] == "predictor-unreachable"
        assert s.status()["reason"] == "the predictor was killed by SIGKILL"
        again = s.ask()
        await s.ready(2)
        assert (await again.end()).status == 200


async def test_a_request_that_was_with_a_dead_predictor_starts_nothing(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        predictor.leaves_port_open = True  # the end of the connection is noticed late
        predictor.exit(-9)
        await eventually(lambda: s.status()["state"] == "failed")
        await s.clock.advance(10)
        await predictor.close_port()
        assert (await request.end()).status == 502
        await s.clock.advance(10)
        assert len(s.launcher.started) == 1


async def test_after_a_crash_the_service_starts_over(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    config = service(container_concurrency=10, max_replicas=3)
    async with stage(config, handler=infer) as s:
        requests = [s.ask() for _ in range(30)]
        await s.ready()
        await s.clock.advance(4)
        assert s.status()["desired"] == 3
        for request in requests:
            request.hang_up()
            await request.end()
        for predictor in reversed(s.launcher.started):
            predictor.exit(-9)
            await eventually(lambda p=predictor: p.pid not in s.status()["pids"])
        assert s.status()["state"] == "failed"
        s.ask()
        await settle()
        assert s.status()["desired"] == 1


async def test_after_a_crash_the_first_request_counts_as_the_first(stage: Staging) -> None:
    async with stage(service(autoscaling=Autoscaling(activation_scale=2))) as s:
        request = s.ask()
        predictor = await s.ready()
        await request.end()
        (await s.launched(2)).exit(-9)
        await eventually(lambda: len(s.status()["pids"]) == 1)
        predictor.exit(-9)
        await eventually(lambda: s.status()["state"] == "failed")
        s.ask()
        await settle()
        assert s.status()["desired"] == 2


async def test_after_a_crash_a_new_load_has_its_whole_progress_deadline(stage: Staging) -> None:
    async with stage(service(timeout_s=60)) as s:
        request = s.ask()
        predictor = await s.ready()
        await request.end()
        predictor.exit(-9)
        await eventually(lambda: s.status()["state"] == "failed")
        await s.clock.advance(400)
        s.ask()
        await s.clock.advance(620)
        assert s.status()["state"] == "starting"
        await s.clock.advance(20)
        await eventually(lambda: s.status()["state"] == "failed")


async def test_an_answer_that_is_an_error_is_not_taken_for_a_first_token(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=400 if request.path == "/bad" else 200)

    async with stage(handler=infer) as s:
        bad = s.ask("/serving/default/summarize/bad")
        await s.ready()
        await bad.end()
        assert s.plane.coldstarts() == []
        assert s.status()["last_cold_start"]["first_token"] is None
        await s.ask().end()
        await eventually(lambda: len(s.plane.coldstarts()) == 1)
        assert s.plane.coldstarts()[0]["first_token"] is not None


async def test_a_good_answer_without_a_body_completes_the_ledger_too(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async with stage(handler=infer) as s:
        request = s.ask()
        await s.ready()
        await request.end()
        await eventually(lambda: len(s.plane.coldstarts()) == 1)
        assert s.plane.coldstarts()[0]["first_token"] is not None


async def test_a_stream_that_breaks_off_is_not_ended_as_if_it_were_complete(
    stage: Staging,
) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await asyncio.Event().wait()
        return response

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await eventually(lambda: bool(request.chunks))
        predictor.exit(-9)
        await request.end()
        assert (request.status, request.body, request.complete) == (200, b"data: one\n\n", False)


@pytest.mark.parametrize("ends", [True, False])
async def test_a13_a_refused_connection_goes_to_another_replica(stage: Staging, ends: bool) -> None:
    """The process has ended and the plane does not know yet, or it lives on and listens no more."""
    async with stage() as s:
        first = s.ask()
        predictor = await s.ready()
        await first.end()
        await predictor.close_port()
        requests = [s.ask(body=b"one"), s.ask(body=b"two")]
        await eventually(lambda: s.status()["held"] == 2)
        if ends:
            predictor.exit(-9)
        else:
            await s.clock.advance(ServingSettings().ends_within_s)
        await s.ready(2)
        assert [(await request.end()).status for request in requests] == [200, 200]
        assert predictor.exited
        assert (s.status()["held"], s.status()["in_flight"]) == (0, 0)


async def test_a_request_that_reached_the_predictor_is_never_sent_again(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await request.end()
        assert request.status == 502
        assert len(predictor.seen) == 1


async def test_stopping_answers_what_is_held_and_ends_what_loads(stage: Staging) -> None:
    async with stage() as s:
        request = s.ask()
        predictor = await s.launched()
        stopping = asyncio.create_task(s.plane.stop(30))
        await request.end()
        assert request.status == 503
        assert reason(request.body)[0] == "shutting-down"
        await stopping
        assert predictor.terminated
        late = await s.ask().end()
        assert late.status == 503


async def test_stopping_does_not_wait_for_a_template_that_loads(stage: Staging) -> None:
    async with stage() as s:
        s.launcher.template_loaded.clear()
        request = s.ask()
        await settle()
        await s.plane.stop(30)
        assert (await request.end()).status == 503
        await s.plane.wait()
        assert s.launcher.started == []


async def test_a_plane_that_fails_says_so_and_leaves_nothing(stage: Staging) -> None:
    def fail() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(ExceptionGroup):  # once more from the stop at the end
        async with stage(service(), service(name="other", timeout_s=3600)) as s:
            request = s.ask()
            predictor = await s.ready()
            await request.end()
            held = s.ask("/serving/default/other/x")
            predictor.terminate = fail  # type: ignore[method-assign]
            while s.status()["state"] != "draining":
                await s.clock.advance(1)
            with pytest.raises(ExceptionGroup):
                await s.plane.wait()
            assert predictor.killed
            assert (await held.end()).status == 503
            assert (await s.ask().end()).status == 503


async def test_stopping_lets_a_running_request_finish(stage: Staging) -> None:
    more = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        await more.wait()
        return web.Response(text="done")

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        stopping = asyncio.create_task(s.plane.stop(30))
        await s.clock.advance(29)
        assert not predictor.terminated
        more.set()
        await request.end()
        assert (request.status, request.body) == (200, b"done")
        await stopping
        assert predictor.terminated


async def test_stopping_does_not_wait_longer_than_its_grace(stage: Staging) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with stage(handler=infer) as s:
        request = s.ask()
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        stopping = asyncio.create_task(s.plane.stop(30))
        await s.clock.advance(30)
        await stopping
        assert predictor.terminated
        assert (await request.end()).status == 502


async def test_a_switch_of_protocols_that_nobody_asked_for_is_no_answer(stage: Staging) -> None:
    async def switches(request: web.Request) -> web.StreamResponse:
        return web.Response(status=101)

    async with stage(handler=switches) as s:
        request = s.ask()
        await s.ready()
        await request.end()
        assert (request.status, reason(request.body)[0]) == (502, "predictor-unreachable")


async def test_a_question_about_the_server_itself_is_answered_and_starts_nothing(
    stage: Staging,
) -> None:
    async with stage() as s:
        asked = s.ask("*", method="OPTIONS", headers={"host": "summarize.default"}, body=b"")
        assert (await asked.end()).status == 200
        assert s.launcher.started == []
