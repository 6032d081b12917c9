"""Checklist A3, A4, A5: the clocks on an answer that has begun, or has not."""

import asyncio

from aiohttp import web

from .conftest import Staging, service
from .virtual import eventually


class Script:
    """A predictor's answer, written when the test says so."""

    def __init__(self, length: int | None = None) -> None:
        self.start = asyncio.Event()
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        self._length = length

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await self.start.wait()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        response.content_length = self._length
        await response.prepare(request)
        while part := await self.parts.get():
            await response.write(part)
        return response


async def test_a3_no_byte_within_the_response_start_timeout_is_504(stage: Staging) -> None:
    config = service(timeout_s=600, response_start_timeout_s=30)
    async with stage(config, handler=Script()) as s:
        request = s.ask()
        await s.ready()
        await s.clock.advance(30)
        await request.end()
        assert (request.status, request.body) == (504, b"activator request timeout")


async def test_a3_the_response_start_timeout_ends_with_the_first_byte(stage: Staging) -> None:
    script = Script()
    config = service(timeout_s=600, response_start_timeout_s=30)
    async with stage(config, handler=script) as s:
        request = s.ask()
        await s.ready()
        script.start.set()
        await eventually(lambda: request.status == 200)
        await s.clock.advance(500)
        assert not request.done
        script.parts.put_nowait(b"")
        await request.end()
        assert request.complete


async def test_a4_the_idle_timeout_counts_the_wait_for_the_first_byte(stage: Staging) -> None:
    async with stage(service(idle_timeout_s=20), handler=Script()) as s:
        request = s.ask()
        await s.launched()
        await s.clock.advance(20)
        await request.end()
        assert request.status == 504


async def test_a4_the_idle_timeout_is_armed_again_by_every_write(stage: Staging) -> None:
    script = Script()
    async with stage(service(idle_timeout_s=20), handler=script) as s:
        request = s.ask()
        await s.ready()
        script.start.set()
        for count in range(1, 6):
            script.parts.put_nowait(b"data: x\n\n")
            await eventually(lambda n=count: len(request.chunks) == n)
            await s.clock.advance(15)
            assert not request.done
        await s.clock.advance(5)
        await request.end()
        assert request.status == 200
        assert request.body.endswith(b"activator request timeout")


async def test_a5_a_timeout_in_the_middle_of_a_stream_appends_the_text_and_ends_cleanly(
    stage: Staging,
) -> None:
    script = Script()
    async with stage(service(timeout_s=60), handler=script) as s:
        request = s.ask()
        await s.ready()
        script.start.set()
        script.parts.put_nowait(b"data: x\n\n")
        await eventually(lambda: bool(request.chunks))
        await s.clock.advance(60)
        await request.end()
        assert (request.status, request.complete) == (200, True)
        assert request.body == b"data: x\n\nactivator request timeout"


async def test_a5_an_answer_of_announced_length_is_cut_short_instead(stage: Staging) -> None:
    script = Script(length=100)
    async with stage(service(timeout_s=60), handler=script) as s:
        request = s.ask()
        await s.ready()
        script.start.set()
        script.parts.put_nowait(b"x" * 10)
        await eventually(lambda: bool(request.chunks))
        await s.clock.advance(60)
        await request.end()
        assert (request.body, request.complete) == (b"x" * 10, False)
