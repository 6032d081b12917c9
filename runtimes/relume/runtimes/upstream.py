"""The event layer in front of a server that is not ours: any that speaks OpenAI's routes or V1, V2.

    producer ──event──▶ DecodedBodies ▶ OpenAIPrefix ▶ CloudEvents ▶ Upstream ──JSON──▶ the server

What is no event goes on as it came, and its answer comes back as it is written, so streams stream.
An event is answered as our own predictor answers it: the same middleware stands in front of both.
"""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from starlette.datastructures import State
from starlette.types import Message, Receive, Scope, Send

from relume.base.prefixes import below_prefix, host_of
from relume.base.vocabulary import NOT_BEGUN_HEADER
from relume.cloudevents.asgi import ClientGone, headers_of
from relume.cloudevents.http import mode_of
from relume.runtimes.failures import AnswerFailure
from relume.runtimes.middleware import CloudEvents
from relume.runtimes.openai_prefix import OpenAIPrefix
from relume.web.bodies import DecodedBodies
from relume.web.hops import HOP_BY_HOP, NOT_RETURNED, sent_on, url_behind

_MODELS = "/v1/models"
_ASK_MODELS_S = 5.0
# That the server behind us takes no request is nothing that this process could say of itself.
_NOT_OURS = NOT_RETURNED | {NOT_BEGUN_HEADER.encode()}


class UpstreamRuntime:
    """An ASGI application: the server at `base_url`, and events that it knows nothing of.

    `model` is asked by an event that names none; None is the first that the server lists. The
    session is the caller's, who closes it.
    """

    def __init__(self, base_url: str, session: aiohttp.ClientSession, model: str | None) -> None:
        self.state = State()
        self.state.relume_model = model
        self._base_url = base_url.rstrip("/")
        self._session = session
        self._app = DecodedBodies(OpenAIPrefix(CloudEvents(Upstream(self._base_url, session))))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        if self.state.relume_model is None and _may_be_event(scope):
            failure = await self._learn_model()
            if failure is not None:
                await failure.response(scope["path"])(scope, receive, send)
                return
        scope["app"] = self
        await self._app(scope, receive, send)

    async def _learn_model(self) -> AnswerFailure | None:
        """Ask the server for its models once; returns why that gave none."""
        url = self._base_url + _MODELS
        try:
            timeout = aiohttp.ClientTimeout(total=_ASK_MODELS_S)
            async with self._session.get(url, timeout=timeout) as answer:
                listed = await answer.json(content_type=None)
            self.state.relume_model = str(listed["data"][0]["id"])
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return _unreachable(url, error)
        except (ValueError, LookupError, TypeError):
            text = f"{url} lists no model (status {answer.status}): name one with --model"
            return AnswerFailure(503, "unknown-model", text, retryable=True)
        return None


def _may_be_event(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    return scope["path"] == "/" or mode_of(headers_of(scope)) is not None


class Upstream:
    """Sends every request on to the server at `base_url`, and its answer back as it comes."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session
        self._internal = base_url.partition("//")[2].partition("/")[0]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the server broke off with, once the answer has begun."""
        body = _Body(receive, empty=not _has_body(scope))
        exchange = asyncio.ensure_future(self._exchange(scope, body, send))
        left = asyncio.ensure_future(body.client_left())
        try:
            await asyncio.wait({exchange, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            exchange.cancel()  # the client left: closing the connection ends the generation
            await asyncio.wait({exchange, left})
        if not exchange.cancelled() and (error := exchange.exception()) is not None:
            raise error

    async def _exchange(self, scope: Scope, body: "_Body", send: Send) -> None:
        url = url_behind(self._base_url, scope["raw_path"], scope["query_string"])
        begun = False
        try:
            async with self._session.request(
                scope["method"],
                url,
                headers=sent_on(scope["headers"], HOP_BY_HOP | {b"host", b"expect"}),
                data=body.chunks() if _has_body(scope) else None,
                allow_redirects=False,
            ) as answer:
                begun = True
                await send(self._start(answer, scope))
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, OSError) as error:
            if begun:
                raise
            refused = _unreachable(str(url), error).response(scope["path"])
            await refused(scope, body.receive, send)

    def _start(self, answer: aiohttp.ClientResponse, scope: Scope) -> Message:
        lowered = ((name.lower(), value) for name, value in answer.raw_headers)
        kept = [header for header in lowered if header[0] not in _NOT_OURS]
        hosts = {host_of(scope["headers"])}
        headers = below_prefix(kept, b"", hosts, self._internal)
        return {"type": "http.response.start", "status": answer.status, "headers": headers}


class _Body:
    """A request's body as it arrives, and the news that its client left."""

    def __init__(self, receive: Receive, *, empty: bool) -> None:
        self.receive = receive
        self._gone = False
        self._read = asyncio.Event()
        if empty:
            self._read.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body. Raises ClientGone."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                self._read.set()
                raise ClientGone
            more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk
        self._read.set()

    async def client_left(self) -> None:
        """Return when the client closes its connection, while it sends the body or afterwards."""
        await self._read.wait()
        while not self._gone:
            self._gone = (await self.receive())["type"] == "http.disconnect"


def _has_body(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names or b"transfer-encoding" in names


def _unreachable(url: str, error: BaseException) -> AnswerFailure:
    text = f"{url} does not answer: {str(error) or type(error).__name__}"
    return AnswerFailure(503, "upstream-unreachable", text, retryable=True)
