"""ASGI middleware in front of every vLLM route: CloudEvents in, CloudEvents out, and the drain.

An event in binary or structured mode that is posted to a route is unwrapped, answered by that
route, and the answer wrapped as an event in the same mode. Everything else passes untouched.

| what happened | with `Prefer: reply` | otherwise |
|---|---|---|
| answered | 200, response event | the same |
| can never succeed | 200, error event | 400, 413 or 422 with the error event |
| overloaded, loading, draining | 429 or 503 + Retry-After | the same |
| the same (source, id) is running | 409 | the same |
| our own reply type comes back in | 200, empty | the same |
| a malformed event | 400 with a reason | the same |

Never 404, which brokers retry, and never 2xx with a body that is no event, which they fail.
"""

import json
import logging
import os
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relume.base.error_body import RETRY_AFTER_S, error_body
from relume.cloudevents.event import CloudEvent, InvalidEvent, rfc3339
from relume.cloudevents.http import Mode, decode, encode, mode_of
from relume.runtimes.calls import Call, Unanswerable, call_for
from relume.runtimes.drain import IN_FLIGHT, is_draining
from relume.runtimes.outcomes import ENGINE_FAILED, body_of
from relume.runtimes.phases import PROCESS, monotonic_ms
from relume.runtimes.replies import (
    OWN_TYPES,
    Failure,
    error_event,
    response_event,
    source_of_service,
)
from relume.runtimes.subrequest import (
    INNER,
    Answer,
    BodyTooLarge,
    Disconnected,
    post_json,
    read_body,
)

logger = logging.getLogger("relume.runtimes")

MAX_EVENT_BYTES = int(os.environ.get("RELUME_MAX_EVENT_BYTES", 8 << 20))
#: Extensions of a reply, from headers that the activator sets.
_FROM_ACTIVATOR = {"relume-queue-ms": "queuems", "relume-cold-start-ms": "coldstartms"}
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
        elif is_draining() and scope["path"] not in _ALWAYS_SERVED:
            message = "this replica is shutting down; try again"
            await _send_failure(scope, send, Failure(503, "draining", message, retryable=True))
        else:
            with IN_FLIGHT:
                await self._serve(scope, receive, _first_answer_recorder(send, scope))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        if mode_of(headers) is None and scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        try:
            message = decode(headers, await read_body(receive, MAX_EVENT_BYTES))
            if message.mode is Mode.BATCH:
                raise InvalidEvent("batched mode is not accepted here: send one event a request")
            await self._answer(message.event, message.mode, scope, receive, send)
        except InvalidEvent as error:
            await _send_failure(scope, send, Failure(400, error.reason, str(error)))
        except BodyTooLarge:
            text = f"the event is larger than {MAX_EVENT_BYTES} bytes"
            await _send_failure(scope, send, Failure(413, "too-large", text))
        except Disconnected:
            return

    async def _answer(
        self, event: CloudEvent, mode: Mode, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one event, at most once at a time for the same (source, id)."""
        key = (event.source, event.id)
        if event.type in OWN_TYPES:
            self.ignored += 1
            await _send(send, 200, [], b"")
        elif key in self._running:
            text = f"the event {event.id!r} from {event.source!r} is being answered now"
            await _send_failure(scope, send, Failure(409, "in-progress", text, retryable=True))
        else:
            self._running.add(key)
            try:
                await self._run(event, mode, scope, receive, send)
            finally:
                self._running.discard(key)

    async def _run(
        self, event: CloudEvent, mode: Mode, scope: Scope, receive: Receive, send: Send
    ) -> None:
        extra = _timings(scope)
        now = datetime.now(UTC)
        try:
            model = scope["app"].state.relume_model
            call = call_for(event, scope["path"], model=model, now=now)
            body = body_of(await self._ask(call, scope, receive), call.path)
        except Unanswerable as error:
            if error.failure.retryable:
                await _send_failure(scope, send, error.failure)
                return
            reply = error_event(
                event,
                error.failure,
                source=self._source,
                time=rfc3339(datetime.now(UTC)),
                extra=extra,
            )
            status = 200 if _prefers_reply(scope) else error.failure.status
        else:
            reply = response_event(
                event, body, source=self._source, time=rfc3339(datetime.now(UTC)), extra=extra
            )
            status = 200
        await _send(send, status, *encode(reply, mode))

    async def _ask(self, call: Call, scope: Scope, receive: Receive) -> Answer:
        """The route's answer. A route that raises is an engine that failed, not a bad event."""
        try:
            return await post_json(self.app, scope, receive, call.path, call.body)
        except Exception as error:
            logger.exception("POST %s raised while it answered an event", call.path)
            text = f"the route failed: {type(error).__name__}"
            raise Unanswerable(Failure(503, ENGINE_FAILED, text, retryable=True)) from error


def _timings(scope: Scope) -> dict[str, int]:
    """`queuems` and `coldstartms`, where an activator measured them."""
    found = {}
    for name, value in scope["headers"]:
        if (extension := _FROM_ACTIVATOR.get(name.decode("latin-1"))) and value.isdigit():
            found[extension] = int(value) if len(value) < 10 else 2**31 - 1
    return found


def _prefers_reply(scope: Scope) -> bool:
    """Whether the caller is a broker: it sends `Prefer: reply` (Knative data plane)."""
    values = (v.decode("latin-1") for k, v in scope["headers"] if k == b"prefer")
    tokens = (token.partition(";")[0] for value in values for token in value.split(","))
    return any(token.strip().lower() == "reply" for token in tokens)


def _first_answer_recorder(send: Send, scope: Scope) -> Send:
    """Until the first token is known, watch answers: models that embed have no first token.

    The first bytes of a body count, not the status: a stream sends that before it has a token.
    """
    if PROCESS.get("first_token") is not None or scope["method"] != "POST":
        return send
    started = monotonic_ms()
    good = False

    async def watching(message: Message) -> None:
        nonlocal good
        if message["type"] == "http.response.start":
            good = message["status"] < 300
        elif good and message.get("body") and PROCESS.get("first_token") is None:
            PROCESS.record("first_token", monotonic_ms() - started)
        await send(message)

    return watching


async def _send_failure(scope: Scope, send: Send, failure: Failure) -> None:
    body = error_body(
        scope["path"],
        status=failure.status,
        message=failure.message,
        reason=failure.reason,
        retryable=failure.retryable,
    )
    headers = [("content-type", "application/json")]
    if failure.status in (429, 503):
        headers.append(("retry-after", RETRY_AFTER_S))
    if failure.reason == "draining":
        headers.append(("connection", "close"))  # the next try belongs to another replica
    await _send(send, failure.status, headers, json.dumps(body).encode())


async def _send(send: Send, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
