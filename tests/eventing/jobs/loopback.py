"""Jobs on loopback for tests: a predictor that streams, and a plane in front of nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from relume.plane.addresses import listen, url_of
from relume.plane.server import HttpServer

WORDS = ("It ", "sleeps ", "until ", "it ", "is ", "asked.")


@dataclass
class Predictor:
    """Answers chats word by word; `gate` holds it in front of the first word."""

    words: Sequence[str] = WORDS
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[dict[str, object]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    closed: int = 0
    paths: list[str] = field(default_factory=list)

    @property
    def app(self) -> ASGIApp:
        return Starlette(routes=[Route("/{rest:path}", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.paths.append(request.url.path)
        if self.failures:
            return JSONResponse({"error": {"message": "not now"}}, self.failures.pop(0))
        if request.headers.get("ce-id"):
            return self._event(request)
        if body.get("stream"):
            return StreamingResponse(self._stream(), media_type="text/event-stream")
        await self.gate.wait()
        text = "".join(self.words)
        usage = {"prompt_tokens": 3, "completion_tokens": len(self.words)}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "c", "choices": [choice], "usage": usage})

    async def _stream(self) -> AsyncIterator[str]:
        try:
            await self.gate.wait()
            for word in self.words:
                delta = {"index": 0, "delta": {"content": word}, "finish_reason": None}
                yield f"data: {json.dumps({'id': 'c', 'choices': [delta]})}\n\n"
            usage = {"prompt_tokens": 3, "completion_tokens": len(self.words)}
            last = {"index": 0, "delta": {}, "finish_reason": "stop"}
            yield f"data: {json.dumps({'id': 'c', 'choices': [last], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.closed += 1
            raise

    def _event(self, request: Request) -> Response:
        headers = {
            "ce-specversion": "1.0",
            "ce-id": f"answer-to-{request.headers['ce-id']}",
            "ce-source": "/namespaces/ns/inferenceservices/it",
            "ce-type": "relume.inference.response",
            "content-type": "application/json",
        }
        return Response(json.dumps({"choices": []}), headers=headers)


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The base URL of an application on a free port."""
    listening = listen(0, "--port")
    server = HttpServer(app, listening)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        try:
            yield url_of(listening)
        finally:
            server.stop(1)
            server.stop_now()


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=90)
