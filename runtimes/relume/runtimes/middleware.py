"""ASGI middleware in front of every vLLM route: CloudEvents in, CloudEvents out, and the drain.

An event in binary or structured mode that is posted to a route is unwrapped, answered by that
route, and the answer wrapped as an event in the same mode. Everything else passes untouched.

| what happened | with `Prefer: reply` | otherwise |
|---|---|---|
| answered | 200, response event | the same |
| can never succeed | 200, error event | 400, 413 or 422 with the error event |
| overloaded, loading, draining, its engine has ended | 429 or 503 + Retry-After | the same |
| the same (source, id) is running | 409 | the same |
| our own reply type comes back in | 200, empty | the same |
| a malformed event | 400 with a reason | the same |

An event is never answered with 404, which brokers retry, nor with 2xx and a body that is no event,
which they count as a failure.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.environment import number
from relume.base.limits import EVENT_BYTES
from relume.base.vocabulary import COLD_START_HEADER, ENGINE_FAILED, OWN_TYPES, QUEUE_HEADER
from relume.cloudevents.asgi import BodyTooLarge, ClientGone, headers_of, read_body
from relume.cloudevents.event import CloudEvent, InvalidEvent, rfc3339
from relume.cloudevents.http import Mode, decode, encode, mode_of
from relume.eventing.producer_headers import prefers_reply
from relume.runtimes.calls import INNER, RouteAnswer, RouteCall, call_for, post_json
from relume.runtimes.drain import IN_FLIGHT, refusal
from relume.runtimes.engine_end import telling
from relume.runtimes.failures import AnswerFailure, Unanswerable, too_large
from relume.runtimes.phases import first_answer_recorder
from relume.runtimes.replies import body_of, reply_event, source_of_service

logger = logging.getLogger("relume.runtimes")

MAX_EVENT_BYTES = int(number("RELUME_MAX_EVENT_BYTES", 8 << 20))
MAX_REPLY_BYTES = int(number("RELUME_MAX_REPLY_BYTES", EVENT_BYTES))
#: Extensions of a reply, from headers that the activator sets.
_FROM_ACTIVATOR = {QUEUE_HEADER: "queuems", COLD_START_HEADER: "coldstartms"}
# Answered while draining too: probes and metrics say that we drain.
_ALWAYS_SERVED = frozenset({"/startup", "/metrics", "/livez", "/v2/health/live"})


class CloudEvents:
    """`--middleware relume.runtimes.middleware.CloudEvents`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.ignored = 0
        self._source = source_of_service()
        self._running: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or INNER in scope:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            with IN_FLIGHT:
                await self.app(scope, receive, send)
        elif scope["path"] not in _ALWAYS_SERVED and (refused := refusal(scope)) is not None:
            await refused.response(scope["path"])(scope, receive, send)
        else:
            told = first_answer_recorder(telling(scope, receive, send), scope)
            with IN_FLIGHT:
                await self._serve(scope, receive, told)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope) if scope["method"] == "POST" else []
        if scope["method"] != "POST" or (mode_of(headers) is None and scope["path"] != "/"):
            await self.app(scope, receive, send)
            return
        try:
            message = decode(headers, await read_body(receive, MAX_EVENT_BYTES), lenient=True)
            if message.mode is Mode.BATCH:
                raise InvalidEvent("batched mode is not accepted here: send one event a request")
            await self._answer(message.event, message.mode, scope, receive, send)
            return
        except InvalidEvent as error:
            failure = AnswerFailure(400, error.reason, str(error))
        except BodyTooLarge:
            text = f"the event is larger than {MAX_EVENT_BYTES} bytes"
            failure = AnswerFailure(413, "too-large", text)
        except ClientGone:
            return
        await failure.response(scope["path"])(scope, receive, send)

    async def _answer(
        self, event: CloudEvent, mode: Mode, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one event, at most once at a time for the same (source, id)."""
        key = (event.source, event.id)
        if event.type in OWN_TYPES:
            self.ignored += 1
            await Response(b"", 200, {})(scope, receive, send)
        elif key in self._running:
            text = f"the event {event.id!r} from {event.source!r} is being answered now"
            failure = AnswerFailure(409, "in-progress", text, retryable=True)
            await failure.response(scope["path"])(scope, receive, send)
        else:
            self._running.add(key)
            try:
                response = await self._reply(event, mode, scope, receive)
                await response(scope, receive, send)
            finally:
                self._running.discard(key)

    async def _reply(
        self, event: CloudEvent, mode: Mode, scope: Scope, receive: Receive
    ) -> Response:
        status = 200
        answer: Mapping[str, Any] | AnswerFailure
        try:
            model = scope["app"].state.relume_model
            call = call_for(event, scope["path"], model=model, now=datetime.now(UTC))
            answer = body_of(await self._ask(call, scope, receive), call.path)
        except Unanswerable as error:
            answer = error.failure
            if answer.retryable:
                return answer.response(scope["path"])
            status = 200 if prefers_reply(headers_of(scope)) else answer.status
        waited_ms = _waited_ms(scope)
        to_reply = partial(
            reply_event,
            event,
            source=self._source,
            time=rfc3339(datetime.now(UTC)),
            waited_ms=waited_ms,
        )
        headers, content = encode(to_reply(answer), mode)
        if len(content) > MAX_REPLY_BYTES and prefers_reply(headers_of(scope)):
            headers, content = encode(to_reply(too_large(len(content), MAX_REPLY_BYTES)), mode)
        return Response(content, status, dict(headers))

    async def _ask(self, call: RouteCall, scope: Scope, receive: Receive) -> RouteAnswer:
        """The route's answer. A route that raises is an engine that failed, not a bad event."""
        try:
            return await post_json(self.app, scope, receive, call)
        except Exception as error:
            logger.exception("POST %s raised while it answered an event", call.path)
            text = f"the route failed: {type(error).__name__}"
            raise Unanswerable(503, ENGINE_FAILED, text, retryable=True) from error


def _waited_ms(scope: Scope) -> dict[str, int]:
    """`queuems` and `coldstartms`, where an activator measured them."""
    found = {}
    for name, value in scope["headers"]:
        if (extension := _FROM_ACTIVATOR.get(name.decode("latin-1"))) and value.isdigit():
            found[extension] = int(value) if len(value) < 10 else 2**31 - 1
    return found
