"""An ASGI app that plays vLLM's server under our middleware: its routes, errors and slowness.

What a chat answers is chosen by its last message: `answer 429` gives that status, `raise` lets the
route raise, `wait` answers when the test says so or the caller hangs up, as vLLM's routes do.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from relume.runtimes.middleware import CloudEvents
from relume.runtimes.openai_prefix import OpenAIPrefix
from relume.runtimes.own_answers import AllowedOrigins
from relume.runtimes.plugin import startup
from relume.runtimes.protocols import routes
from relume.web.bodies import DecodedBodies

MODEL = "smollm2"
CHUNKS = 3
TOO_LONG = (
    "This model's maximum context length is 1024 tokens. However, you requested 4000 output tokens."
)


@dataclass(frozen=True)
class Asked:
    """A request that reached a route."""

    path: str
    headers: dict[str, str]
    body: Any


class Stub:
    """The app, what its routes were asked, and the strings that a test pulls."""

    def __init__(self, tasks: tuple[str, ...] = ("generate",), *, middleware: bool = True) -> None:
        self.asked: list[Asked] = []
        self.running = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.chunk_taken = asyncio.Semaphore(0)
        generating = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]
        self.app = Starlette(
            routes=[
                *(generating if "generate" in tasks else ()),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/classify", self.classify, methods=["POST"]),
                Route("/score", self.score, methods=["POST"]),
                Route("/v1/models", lambda _: JSONResponse({"data": [{"id": MODEL}]})),
                Route("/bytes", self.bytes_back, methods=["POST", "GET"]),
                Route("/health", lambda _: Response()),
                Route("/running", lambda _: Response(status_code=200 if self.asked else 425)),
                WebSocketRoute("/v1/realtime", self.realtime),
                Route("/startup", startup),
                *routes(),
            ],
            exception_handlers={HTTPException: _as_fastapi_does},
        )
        if middleware:
            self.app.add_middleware(CloudEvents)
            self.app.add_middleware(DecodedBodies)
            self.app.add_middleware(AllowedOrigins)
            self.app.add_middleware(OpenAIPrefix)
        self.app.state.relume_model = MODEL
        self.app.state.relume_further_names = ()
        self.app.state.relume_tasks = frozenset(tasks)

    @property
    def middleware(self) -> CloudEvents:
        """Our middleware, once the app has answered something."""
        layer: Any = self.app.middleware_stack
        while not isinstance(layer, CloudEvents):
            layer = layer.app
        return layer

    async def _take(self, request: Request) -> Any:
        try:
            body = json.loads(await request.body())
        except ValueError:
            body = None
        self.asked.append(Asked(request.url.path, dict(request.headers), body))
        return body

    async def chat(self, request: Request) -> Response:
        body = await self._take(request)
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not messages:
            return refused(400, "messages: a list of one or more is required")
        if body.get("model") not in (None, MODEL):
            return refused(404, f"The model `{body['model']}` does not exist.")
        last = messages[-1]
        text = str(last.get("content") if isinstance(last, dict) else last)
        if text.startswith("answer "):
            return _scripted(text.removeprefix("answer "))
        if text == "raise":
            raise RuntimeError("the engine broke")
        if text == "wait" and not await self._released(request):
            return JSONResponse(None)
        if body.get("stream"):
            return StreamingResponse(self._chunks(), media_type="text/event-stream")
        return JSONResponse(completion({"message": {"role": "assistant", "content": text.upper()}}))

    async def _released(self, request: Request) -> bool:
        """Whether the test said go before the caller hung up (vLLM's `with_cancellation`)."""
        self.running.set()
        released = asyncio.create_task(self.release.wait())
        hung_up = asyncio.create_task(_disconnect(request))
        await asyncio.wait([released, hung_up], return_when=asyncio.FIRST_COMPLETED)
        hung_up.cancel()
        released.cancel()
        if self.release.is_set():
            return True
        self.cancelled.set()
        return False

    async def _chunks(self) -> AsyncIterator[bytes]:
        for number in range(CHUNKS):
            yield b"data: %d\n\n" % number
            await self.chunk_taken.acquire()
        yield b"data: [DONE]\n\n"

    async def completions(self, request: Request) -> Response:
        body = await self._take(request)
        if not isinstance(body, dict) or not isinstance(body.get("prompt"), str):
            return refused(400, "prompt: a text is required")
        return JSONResponse(completion({"text": body["prompt"][::-1]}))

    async def embeddings(self, request: Request) -> Response:
        body = await self._take(request)
        texts = body.get("input") if isinstance(body, dict) else None
        if not texts or not isinstance(texts, str | list):
            return refused(400, "input: a text or a list of texts is required")
        rows = [texts] if isinstance(texts, str) else texts
        data = [{"index": i, "embedding": [float(len(str(t))), 0.5]} for i, t in enumerate(rows)]
        return JSONResponse({"data": data, "model": MODEL, "usage": {"prompt_tokens": 7}})

    async def classify(self, request: Request) -> Response:
        body = await self._take(request)
        rows = [{"label": "good", "probs": [0.25, 0.75]} for _ in body["input"]]
        return JSONResponse({"data": rows})

    async def score(self, request: Request) -> Response:
        await self._take(request)
        return JSONResponse({"data": [{"index": 0, "score": 0.5}]})

    async def bytes_back(self, request: Request) -> Response:
        body = await request.body()
        self.asked.append(Asked(request.url.path, dict(request.headers), body))
        return Response(body, 203, {"x-route": "kept"}, media_type="application/x-anything")

    async def realtime(self, socket: WebSocket) -> None:
        await socket.accept()
        self.running.set()
        await self.release.wait()
        await socket.close()


def completion(choice: dict[str, Any]) -> dict[str, Any]:
    """A completion as OpenAI's routes answer it."""
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    return {"model": MODEL, "choices": [{"index": 0, **choice}], "usage": usage}


def refused(status: int, message: str) -> Response:
    """An error as vLLM's routes answer it."""
    error = {"message": message, "type": "AnError", "param": None, "code": status}
    return JSONResponse({"error": error}, status)


def _scripted(what: str) -> Response:
    if what == "too-long":
        return refused(400, TOO_LONG)
    if what == "text":
        return Response("not JSON")
    if what == "fastapi":
        return JSONResponse({"detail": [{"loc": ["body"], "msg": "wrong"}]}, 422)
    if what == "huge-usage":
        return JSONResponse({"usage": {"prompt_tokens": 2**40, "completion_tokens": True}})
    return refused(int(what), f"scripted {what}")


async def _as_fastapi_does(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
