"""kill -9 of a predictor in each phase of its life, and what each request gets.

A kill of its engine core ends the server of vLLM with code 1 in the same phase, so both are tried.
The real processes of a plane are killed in each phase by `tests/kills` (`make kill-trial`), and
every process of the event path at each of its awaits by `tests/crash`.
"""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.testing import settle
from relume.base.vocabulary import PREDICTOR_PHASES

from .conftest import Stage, Staging, service
from .conversation import ask
from .virtual import NUMBER, eventually

#: How a predictor ends: it was killed itself, or its engine core was.
ENDS = {-9: "the predictor was killed by SIGKILL", 1: "the predictor exited with code 1"}
LOADING = PREDICTOR_PHASES[:-1]
ends = pytest.mark.parametrize("code", ENDS)


async def another_answers(s: Stage) -> None:
    """The next request starts another predictor, and nothing of the first one is left."""
    again = s.ask()
    await s.clock.advance(1)
    await s.ready(2)
    assert (await again.end()).status == 200
    status = s.status()
    assert (status["state"], status["pids"]) == ("ready", [s.launcher.started[1].pid])
    assert (status["held"], status["in_flight"]) == (0, 0)


@ends
@pytest.mark.parametrize("phase", LOADING)
async def test_a_kill_while_it_loads_fails_who_waits_with_the_reason_and_the_next_one_is_answered(
    stage: Staging, phase: str, code: int
) -> None:
    async with stage() as s:
        held = [s.ask() for _ in range(2)]
        predictor = await s.launched()
        reached = LOADING[: LOADING.index(phase)]
        predictor.phases = dict.fromkeys(reached, 5.0)
        await s.clock.advance(2)
        predictor.exit(code)
        for request in held:
            assert (await request.end()).status == 503
            assert ENDS[code] in json.loads(request.body)["error"]["message"]
            assert request.headers["retry-after"] == "1"
        entry = s.plane.coldstarts()[-1]
        assert (entry["outcome"], entry["reason"]) == ("failed", ENDS[code])
        assert {name for name in LOADING if entry[name] is not None} <= set(reached)
        await another_answers(s)


@ends
@pytest.mark.parametrize("phase", ["first_token", "serving"])
async def test_a_kill_while_it_answers_is_told_and_never_sent_to_another_replica(
    stage: Staging, phase: str, code: int
) -> None:
    """Before its first byte that is 502; after it, the client sees that the stream is cut short."""
    begun = asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        if request.path != "/first":
            return web.Response(text="done")
        response = web.StreamResponse()
        if phase == "serving":
            await response.prepare(request)
            await response.write(b"data: one\n\n")
        begun.set()
        await asyncio.Event().wait()
        return response

    async with stage(handler=infer) as s:
        request = s.ask("/serving/default/summarize/first")
        predictor = await s.ready()
        await begun.wait()
        if phase == "serving":
            await eventually(lambda: request.body == b"data: one\n\n")
        predictor.exit(code)
        await request.end()
        if phase == "serving":
            assert (request.status, request.body) == (200, b"data: one\n\n")
            assert not request.complete
        else:
            assert request.status == 502
        await eventually(lambda: s.status()["state"] == "failed")
        assert s.status()["reason"] == ENDS[code]
        assert len(predictor.seen) == 1
        await another_answers(s)


@ends
async def test_a_kill_while_it_drains_is_no_failure_of_the_service(
    stage: Staging, code: int
) -> None:
    async with stage(service(timeout_s=600)) as s:
        request = s.ask()
        predictor = await s.ready()
        await request.end()
        predictor.lingers = True
        for _ in range(200):
            if s.status()["state"] == "draining":
                break
            await s.clock.advance(1)
        assert s.status()["state"] == "draining"
        predictor.exit(code)
        await eventually(lambda: s.status()["state"] == "zero")
        assert s.status()["reason"] is None
        await another_answers(s)


def late(app: ASGIApp, come: asyncio.Event) -> ASGIApp:
    """The body of a request comes after its headers."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        async def after() -> Any:
            await come.wait()
            return await receive()

        await app(scope, after, send)

    return asked


async def test_a_body_that_comes_after_its_headers_is_sent_to_another_replica_as_well(
    stage: Staging,
) -> None:
    """A client sends them in two packets; the replica refuses the headers, because it drains."""
    refusal = {"relume-draining": "true", "relume-not-begun": "draining"}
    draining, come = asyncio.Event(), asyncio.Event()

    async def infer(request: web.Request) -> web.StreamResponse:
        if draining.is_set() and request.app[NUMBER] == 1:
            return web.Response(status=503, headers=refusal)
        return web.Response(text=await request.text())

    async with stage(handler=infer) as s:
        first = s.ask()
        await s.ready()
        await first.end()
        draining.set()
        app = late(s.plane.app, come)
        again = ask(app, headers={"content-length": "3"}, body=b"one")
        await settle()
        come.set()
        await s.ready(2)
        await again.end()
        assert (again.status, again.body) == (200, b"one")
