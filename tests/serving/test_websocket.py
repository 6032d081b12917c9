"""WebSockets through the plane under a virtual clock."""

import asyncio
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from relume.base.testing import settle
from relume.base.vocabulary import DRAINING, NOT_BEGUN_HEADER
from relume.serving.activator import Activator
from relume.serving.errors import PredictorFailed

from .conftest import Staging, service
from .virtual import NUMBER, eventually


class Socket:
    """A client that speaks ASGI to the plane."""

    def __init__(self, app: Activator, *, can_refuse: bool = True) -> None:
        self.sent: list[dict[str, Any]] = []
        self.breaks_at = ""
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "path": "/serving/default/summarize/ws",
            "raw_path": b"/serving/default/summarize/ws",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"sec-websocket-key", b"x")],
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}} if can_refuse else {},
        }
        self.task = asyncio.create_task(app(scope, self._inbox.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == self.breaks_at:
            raise OSError("the client is gone")

    def says(self, kind: str, **more: Any) -> None:
        self._inbox.put_nowait({"type": kind, **more})

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.sent]


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.data == b"die":
            assert request.transport is not None
            request.transport.abort()
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def test_it_is_held_and_an_open_one_outlives_the_timeout(stage: Staging) -> None:
    async with stage(service(timeout_s=60), handler=echo) as s:
        socket = Socket(s.plane.app)
        await s.launched()
        assert socket.sent == []
        await s.ready()
        await eventually(lambda: socket.kinds == ["websocket.accept"])
        await s.clock.advance(600)
        assert s.status()["state"] == "ready"
        socket.says("websocket.receive", text="hello")
        socket.says("websocket.receive", bytes=b"\x00")
        await eventually(lambda: len(socket.sent) == 3)
        assert socket.sent[1]["text"] == "hello"
        assert socket.sent[2]["bytes"] == b"\x00"
        socket.says("websocket.disconnect", code=1000)
        await socket.task
        assert socket.kinds[3:] == []
        assert s.status()["in_flight"] == 0


async def test_waiting_longer_than_the_timeout_refuses_the_handshake(stage: Staging) -> None:
    async with stage(service(timeout_s=60), handler=echo) as s:
        socket = Socket(s.plane.app)
        await s.launched()
        await s.clock.advance(60)
        await socket.task
        assert socket.sent[0]["status"] == 504
        assert socket.sent[1]["body"] == b"activator request timeout"


async def test_a_server_that_cannot_refuse_with_an_answer_closes(stage: Staging) -> None:
    async with stage(service(timeout_s=60), handler=echo) as s:
        socket = Socket(s.plane.app, can_refuse=False)
        await s.clock.advance(60)
        await socket.task
        assert socket.sent == [{"type": "websocket.close", "code": 1001}]


async def test_a_client_that_leaves_while_held_abandons_the_load(stage: Staging) -> None:
    async with stage(handler=echo) as s:
        socket = Socket(s.plane.app)
        await s.launched()
        await settle()
        socket.says("websocket.disconnect", code=1006)
        await socket.task
        assert socket.sent == []
        await s.clock.advance(2)
        assert s.status()["desired"] == 0


async def test_a_predictor_that_breaks_off_closes_with_a_code_that_may_be_sent(
    stage: Staging,
) -> None:
    async with stage(handler=echo) as s:
        socket = Socket(s.plane.app)
        await s.ready()
        await eventually(lambda: socket.kinds == ["websocket.accept"])
        for data in (b"die", b"more", b"and more"):
            socket.says("websocket.receive", bytes=data)
        await socket.task
        assert socket.sent[1:] == [{"type": "websocket.close", "code": 1001}]


async def test_a_handshake_with_a_predictor_that_has_ended_goes_to_another_replica(
    stage: Staging,
) -> None:
    async with stage(handler=echo) as s:
        first = s.ask()
        predictor = await s.ready()
        await first.end()
        await predictor.close_port()
        socket = Socket(s.plane.app)
        await eventually(lambda: s.status()["held"] == 1)
        predictor.exit(-9)
        await s.ready(2)
        await eventually(lambda: socket.kinds == ["websocket.accept"])
        socket.says("websocket.disconnect", code=1000)
        await socket.task


async def test_a_handshake_that_the_predictor_does_not_answer_is_bounded(stage: Staging) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with stage(service(timeout_s=60), handler=silent) as s:
        socket = Socket(s.plane.app)
        predictor = await s.ready()
        await eventually(lambda: bool(predictor.seen))
        await s.clock.advance(60)
        await socket.task
        assert socket.sent[0]["status"] == 504


@pytest.mark.parametrize(("seconds", "value"), [(0.0, b"1"), (1.0, b"1"), (1.2, b"2")])
def test_retry_after_is_whole_seconds_and_at_least_one(seconds: float, value: bytes) -> None:
    answer = PredictorFailed("no", retry_after_s=seconds).response()
    assert (b"retry-after", value) in answer.raw_headers


async def test_the_timeout_and_the_client_s_leave_end_a_handshake_that_is_not_answered(
    stage: Staging,
) -> None:
    """It would be in flight for ever, and keep its replica."""

    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with stage(service(timeout_s=60), handler=silent) as s:
        socket, leaver = Socket(s.plane.app), Socket(s.plane.app)
        predictor = await s.ready()
        await eventually(lambda: len(predictor.seen) == 2)
        leaver.says("websocket.disconnect", code=1006)
        await leaver.task
        assert s.status()["in_flight"] == 1
        await s.clock.advance(60)
        await socket.task
        assert (socket.sent[0]["status"], s.status()["in_flight"]) == (504, 0)


async def test_a_replica_that_drains_refuses_the_handshake_and_another_one_takes_it(
    stage: Staging,
) -> None:
    async def first_drains(request: web.Request) -> web.StreamResponse:
        if request.app[NUMBER] == 1:
            return web.Response(status=503, headers={NOT_BEGUN_HEADER: DRAINING})
        return await echo(request)

    async with stage(handler=first_drains) as s:
        socket = Socket(s.plane.app)
        (await s.launched()).ready = True
        await s.clock.advance(1)
        await s.ready(2)
        await eventually(lambda: socket.kinds == ["websocket.accept"])
        socket.says("websocket.disconnect", code=1000)
        await socket.task


async def test_the_reason_of_a_close_passes_both_ways(stage: Staging) -> None:
    closed: list[object] = []

    async def closing(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        message = await socket.receive()
        closed.append(message.extra)
        if message.type is WSMsgType.TEXT:
            await socket.close(code=4001, message=b"enough")
        return socket

    async with stage(handler=closing) as s:
        one, other = Socket(s.plane.app), Socket(s.plane.app)
        await s.ready()
        one.says("websocket.receive", text="hello")
        other.says("websocket.disconnect", code=4002, reason="I go")
        await one.task
        await other.task
        assert one.sent[1:] == [{"type": "websocket.close", "code": 4001, "reason": "enough"}]
        assert "I go" in closed


async def test_a_client_that_is_gone_when_it_is_written_to_is_no_error(stage: Staging) -> None:
    async def talks(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.receive()
        return socket

    async with stage(handler=talks) as s:
        socket = Socket(s.plane.app)
        socket.breaks_at = "websocket.send"
        await s.ready()
        await socket.task
        await eventually(lambda: s.status()["in_flight"] == 0)
