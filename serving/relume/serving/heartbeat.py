"""A client that waits for its stream is told how far the start is.

A request for a stream (`"stream": true`) that has to wait for a replica gets its headers at once,
and then a comment every few seconds, until the predictor's own stream goes on:

    HTTP/1.1 200 OK
    content-type: text/event-stream; charset=utf-8
    preference-applied: heartbeat=5

    : starting phase=weights ready_in=7s     a start is under way
    : waiting phase=memory                   others hold the memory that it needs
    : waiting ready_in=31s                   no start is under way yet
    : queued                                 replicas are ready, and have no room
    : running relume-queue-ms=8120 relume-cold-start-ms=8050
    data: …

The time is left out where nothing tells it, or what was predicted has turned out to be wrong.
Clients ignore comments (HTML standard, "Server-sent events"). It is done for a client that asks for
it with `Prefer: heartbeat` or `heartbeat=SECONDS` (RFC 7240), and for every client of a service
with the annotation relume.dev/heartbeat. The status is sent before the answer is known, so a
failure is an event with the error that would have been the body, and the stream ends with it.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.error_body import openai_error
from relume.base.prefixes import RawHeaders
from relume.base.vocabulary import MEMORY_PHASE
from relume.config.waiting import LEAST_HEARTBEAT_S, MOST_HEARTBEAT_S, Waiting
from relume.serving.addresses import header
from relume.serving.body import RequestBody
from relume.serving.errors import ServingError
from relume.serving.holding import HeldRequest, Lease
from relume.serving.proxy import ResponseWriter
from relume.serving.target import Target

#: Between two comments, where nobody says more; proxies give up after 30 to 60 s without a byte.
HEARTBEAT_S = 5
#: The largest body in which `"stream": true` is looked for, and the largest error of a predictor
#: that is passed on; bytes.
MOST_REQUEST_BYTES = 4 * 2**20
MOST_ERROR_BYTES = 64 * 1024
_ROUTES = re.compile(rb"(/openai)?/v1/(chat/completions|completions|responses|messages)/?")
_MESSAGES = b"/messages"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"?', re.DOTALL)
_PREFERRED = re.compile(r"[ \t]*heartbeat(?:[ \t]*=[ \t]*([0-9]{1,4}))?[ \t]*(?:;.*)?", re.I)
_EVENT_STREAM = b"text/event-stream"


def _nobody() -> None:
    """Tell nobody that a request waits."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Comments are wanted, so many seconds apart. `asked`: the client itself has asked for them."""

    every_s: int
    asked: bool


def wish_of(scope: Scope, raw_path: bytes, service: Waiting) -> Wish | None:
    """Return whether a request is to get heartbeats, if its body asks for a stream.

    raw_path: the path at the predictor. Events are not streamed, so they get none.
    """
    prefer = [value.decode("latin-1") for name, value in scope["headers"] if name == b"prefer"]
    if not prefer and not service.heartbeat:
        return None
    media_type = (header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if scope["method"] != "POST" or _ROUTES.fullmatch(raw_path) is None:
        return None
    if header(scope, b"ce-specversion") is not None or media_type != "application/json":
        return None
    preferred = _preferred(prefer)
    every_s = service.heartbeat_s or HEARTBEAT_S
    if preferred is None:
        return Wish(every_s, asked=False) if service.heartbeat else None
    if preferred == 0:
        return None
    wanted = every_s if preferred < 0 else preferred
    return Wish(min(max(wanted, LEAST_HEARTBEAT_S), MOST_HEARTBEAT_S), asked=True)


def _preferred(values: Iterable[str]) -> int | None:
    """Return the seconds of the preference `heartbeat`, -1 without a value; None: not there."""
    # A comma in a quoted value separates nothing; a number may be quoted.
    text = _QUOTED.sub(lambda found: re.sub(r"[^0-9]", "_", found[1]), ", ".join(values))
    for element in text.split(","):
        if found := _PREFERRED.fullmatch(element):
            return -1 if found[1] is None else int(found[1])
    return None


def asks_for_stream(body: bytes) -> bool:
    """Return whether a JSON body says `"stream": true`."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(parsed, dict) and parsed.get("stream") is True


class HeartbeatWriter(ResponseWriter):
    """The response to a client that is told how far the start is while it waits.

    Until `waits` is called, and for a body that asks for no stream, it is an ordinary response.
    """

    def __init__(
        self,
        send: Send,
        held: HeldRequest,
        service: Target,
        wish: Wish,
        raw_path: bytes,
        body: RequestBody,
        clock: Clock,
    ) -> None:
        super().__init__(send, held)
        self._service = service
        self._wish = wish
        self._raw_path = raw_path
        self._body = body
        self._clock = clock
        self._beating: asyncio.Task[None] | None = None
        self._status = 200
        self._streams = False
        self._refusal: bytearray | None = None
        self._lease: Lease | None = None

    def waits(self) -> None:
        """The request is in the queue, perhaps again because its replica has ended: tell."""
        self._lease = None
        if self._beating is None:
            self._beating = asyncio.create_task(self._begin(), name="heartbeats")

    async def leased(self, lease: Lease) -> None:
        """A replica has room; until its first byte the comments go on."""
        await self._rest()
        if self.begun:
            self._lease = lease
            await self._comment()
            self._beating = asyncio.create_task(self._beat(), name="heartbeats")

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Note status and headers where the client has its own already, else send them."""
        of_body = {name: value for name, value in headers if name.startswith(b"content-")}
        is_stream = of_body.get(b"content-type", b"").startswith(_EVENT_STREAM)
        self._streams = status == 200 and is_stream and b"content-encoding" not in of_body
        if not self.begun:
            await super().start(status, headers)
            return
        self._held.wrote(good_body=False)
        self._good = status < 400
        self._status = status
        if not self._streams:
            self._refusal = bytearray()

    async def write(self, chunk: bytes) -> None:
        """Send a part of the predictor's stream; keep it where it is no stream."""
        if self._refusal is None:
            await self._rest()
            self.started = True
            await super().write(chunk)
        elif len(self._refusal) < MOST_ERROR_BYTES:
            self._refusal += chunk

    async def finish(self, chunk: bytes = b"") -> None:
        """Send the end of the stream, or of what was no stream the error in it."""
        await self._rest()
        if self._refusal is not None:
            chunk = _event(self._raw_path, _refused(self._status, bytes(self._refusal)))
            self._good = False
        await super().finish(chunk)

    async def fail(self, error: ServingError, scope: Scope, receive: Receive) -> None:
        """End the stream with an event of the error.

        In the middle of the predictor's own stream, too: clients ignore text that is no event, and
        take the answer for complete. What was broken off there ends with the empty line.
        """
        await self._rest()
        event = _event(self._raw_path, _told(error))
        if self.begun and not self.started:
            await super().finish(event)
        elif self._streams and not (self.sized or self.finished):
            await super().finish(b"\n\n" + event)
        else:
            await super().fail(error, scope, receive)

    async def close(self) -> None:
        """Stop telling; nothing is left running, and nothing refers to itself."""
        self._held.on_wait = _nobody
        await self._rest()

    async def _rest(self) -> None:
        """Stop the comments. A comment is written as a whole or not at all."""
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _begin(self) -> None:
        body = await self._body.ahead()
        if body is None or len(body) > MOST_REQUEST_BYTES or not asks_for_stream(body):
            return
        applied = f"heartbeat={self._wish.every_s}".encode()
        headers = [
            (b"content-type", _EVENT_STREAM + b"; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            *([(b"preference-applied", applied)] if self._wish.asked else []),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.begun = True
        # The start that this request has caused asks for memory in the next turns of the loop.
        # Before that it is not known whether it has to wait.
        for _ in range(2):
            await asyncio.sleep(0)
        await self._comment()
        await self._beat()

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._wish.every_s)
            await self._comment()

    async def _comment(self) -> None:
        line = f": {self._words()}\n\n".encode()
        await self._send({"type": "http.response.body", "body": line, "more_body": True})

    def _words(self) -> str:
        if self._lease is not None:
            told = (f"{name}={value}" for name, value in self._lease.headers.items())
            return " ".join(("running", *told))
        ready_in_s = self._service.ready_in_s
        ready_in = "" if ready_in_s is None else f" ready_in={max(round(ready_in_s), 1)}s"
        if (progress := self._service.progress) is not None:
            state = "waiting" if progress.phase == MEMORY_PHASE else "starting"
            phase = f" phase={progress.phase}" if progress.phase else ""
            return f"{state}{phase}{ready_in}"
        return "queued" if ready_in_s == 0 else f"waiting{ready_in}"


def _event(raw_path: bytes, error: Mapping[str, object]) -> bytes:
    """Return the event of a failure, as the client of a route expects it.

    OpenAI's clients look for `error` in the data; Anthropic's for an event of that name.
    """
    if _MESSAGES in raw_path:
        return b"event: error\ndata: %b\n\n" % orjson.dumps({"type": "error", **error})
    return b"data: %b\n\n" % orjson.dumps(error)


def _told(error: ServingError) -> dict[str, object]:
    """Return the error in OpenAI's shape, with `reason` and `retry_after` in it and beside it.

    OpenAI's SDK gives its caller only what is in `error`.
    """
    shape = error.to_json()
    more: dict[str, object] = {"reason": error.reason}
    if error.retry_after_s is not None:
        more["retry_after"] = round(error.retry_after_s, 1)
    inner = shape["error"]
    assert isinstance(inner, dict)
    return {**shape, **more, "error": {**inner, **more}}


def _refused(status: int, body: bytes) -> dict[str, object]:
    """Return the error of an answer that is no stream, in OpenAI's shape."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("error"), dict):
        return said
    what = "an answer that is no stream" if status < 400 else f"status {status}"
    text = said["error"] if isinstance(said, dict) and isinstance(said.get("error"), str) else ""
    message = text or f"the predictor gave {what}"
    kind = "BadRequestError" if 400 <= status < 500 else "InternalServerError"
    return openai_error(message, kind, status if status >= 400 else 502)
