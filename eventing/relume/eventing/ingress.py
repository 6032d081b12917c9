"""The Broker's door: `POST /<namespace>/<broker>` (checklist B1 and B2).

The answer is 202 only after the event is on disk. A batch is accepted as a whole: the answer is 202
when all of it is stored. A refusal is a JSON object of `error` and `reason`.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.errors import RelumeError
from relume.cloudevents.asgi import BodyTooLarge, ClientGone, headers_of, read_body
from relume.cloudevents.event import CloudEvent, InvalidEvent, rfc3339
from relume.cloudevents.http import (
    BATCH_TYPE,
    STRUCTURED_TYPE,
    Headers,
    Mode,
    decode,
    mode_of,
)
from relume.eventing.envelope import Envelope, TtlExhausted, coming_in
from relume.eventing.event_log import (
    BrokerFull,
    BrokerKey,
    DiskFull,
    EventLog,
    EventTooLarge,
    StoreUnavailable,
)
from relume.eventing.observer import Observer, Record
from relume.eventing.settings import EventingSettings

_ALLOW = {"Allow": "POST, OPTIONS"}
_OPTIONS = {
    **_ALLOW,
    # http-webhook.md §4: anybody may send, as often as they like.
    "WebHook-Allowed-Origin": "*",
    "WebHook-Allowed-Rate": "*",
    # HTTP binding §1.3: a batch is sent only to a receiver that asks for batches.
    "Accept-Post": f"{STRUCTURED_TYPE}, {BATCH_TYPE}, */*",
}
_ACCEPTED = Response(status_code=202)
# The headers of a producer's request that a Knative Broker passes on to the subscriber.
_FORWARDED = re.compile(r"x-request-id|retry-after|x-b3-.*|knative-.*")
_PRINTABLE = re.compile(r"[ -~]*")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class TooSlow(RelumeError):
    """A producer took too long to send its request."""

    reason = "request-too-slow"
    retryable = True


# Each refusal's status, and its headers.
_REFUSALS: Mapping[type[InvalidEvent] | type[RelumeError], tuple[int, dict[str, str]]] = {
    InvalidEvent: (400, {}),
    TtlExhausted: (400, {}),
    EventTooLarge: (413, {}),
    # The rest of the request is still on its way, so this connection has no other use.
    TooSlow: (408, {"Connection": "close"}),
    StoreUnavailable: (503, {"Retry-After": "1"}),  # nats-server restarts within a second
    BrokerFull: (503, {"Retry-After": "5"}),  # there is room when Triggers have settled more
    DiskFull: (507, {}),
}


class Ingress:
    """The ASGI application. It turns producers away until `open` and after `close`."""

    def __init__(
        self,
        brokers: Iterable[BrokerKey],
        observer: Observer,
        clock: Clock,
        settings: EventingSettings,
    ) -> None:
        self._log: EventLog | None = None
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self.accepted = dict.fromkeys(brokers, 0)
        self.duplicates = dict.fromkeys(self.accepted, 0)

    def open(self, log: EventLog) -> None:
        """From now on events are stored in `log`."""
        self._log = log

    def close(self) -> None:
        self._log = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the ingress speaks HTTP, not {scope['type']}")
        try:
            response = await self._answer(scope, receive)
        except ClientGone:
            return
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] == "OPTIONS":
            return Response(headers=_OPTIONS)
        if scope["method"] != "POST":
            return _refused(405, "post an event", "method-not-allowed", _ALLOW)
        path = scope["path"]
        if path == "/":
            return _refused(404, "post to /<namespace>/<broker>", "not-found")
        parts = path.removesuffix("/").split("/")
        if len(parts) != 3:
            return _refused(400, f"{path}: post to /<namespace>/<broker>", "bad-path")
        broker = BrokerKey(parts[1], parts[2])
        if broker not in self.accepted:
            return _refused(404, f"there is no Broker {broker}", "unknown-broker")
        try:
            await self._accept(broker, scope, receive)
        except tuple(_REFUSALS) as error:
            status, more = _REFUSALS[type(error)]
            return _refused(status, str(error), error.reason, more)
        return _ACCEPTED

    async def _accept(self, broker: BrokerKey, scope: Scope, receive: Receive) -> None:
        """Store what the request brings, all of it before this returns."""
        headers = headers_of(scope)
        batch = mode_of(headers) is Mode.BATCH
        limit = self._settings.max_batch_bytes if batch else self._settings.max_event_bytes
        events = decode(headers, await self._body(receive, headers, limit)).events
        if batch:
            self._check_batch(events)
        trace, forwarded = _trace_of(headers), _forwarded(headers)
        envelopes = [
            Envelope(self._coming_in(event, trace, f"[{number}]: " if batch else ""), forwarded)
            for number, event in enumerate(events)
        ]
        if (log := self._log) is None:
            raise StoreUnavailable("the Broker takes no events now", reason="stopping")
        await log.admit(broker)
        patience_s = self._settings.store_patience_s
        if batch:
            news = await log.append_all(broker, envelopes, patience_s)
        else:
            news = [await log.append(broker, envelopes[0], patience_s)]
        self._count(broker, events, news)

    async def _body(self, receive: Receive, headers: Headers, limit: int) -> bytes:
        """The whole body. Raises EventTooLarge as soon as that is known, TooSlow, ClientGone."""
        within_s = self._settings.upload_s
        declared = next((value for name, value in headers if name == "content-length"), "0")
        try:
            # int() refuses very long digit strings.
            if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
                raise BodyTooLarge
            async with asyncio.timeout(within_s):
                return await read_body(receive, limit)
        except BodyTooLarge:
            raise EventTooLarge(f"a request may have {limit} bytes") from None
        except TimeoutError:
            raise TooSlow(f"a request may take {within_s:g} s to come in") from None

    def _check_batch(self, events: Sequence[CloudEvent]) -> None:
        most, most_bytes = self._settings.max_batch_events, self._settings.max_event_bytes
        if len(events) > most:
            message = f"{len(events)} events: a batch may have {most}"
            raise EventTooLarge(message, reason="batch-too-large")
        for number, event in enumerate(events):
            if len(event.data or b"") > most_bytes:
                raise EventTooLarge(f"[{number}]: an event may have {most_bytes} bytes")

    def _coming_in(self, event: CloudEvent, trace: Mapping[str, str], where: str) -> CloudEvent:
        if trace and "traceparent" not in event.attributes:
            event = event.with_attributes(**trace)
        try:
            return coming_in(event, self._clock.now())
        except TtlExhausted as error:
            raise TtlExhausted(f"{where}{error}") from None

    def _count(self, broker: BrokerKey, events: Sequence[CloudEvent], news: Sequence[bool]) -> None:
        self.accepted[broker] += sum(news)
        self.duplicates[broker] += len(news) - sum(news)
        at, name = rfc3339(self._clock.now()), str(broker)
        for event, new in zip(events, news, strict=True):
            self._observer.publish(Record(at, "accepted" if new else "duplicate", name, event))


def _trace_of(headers: Headers) -> Mapping[str, str]:
    """The trace in the HTTP headers, as attributes of the extension distributed-tracing.

    The event carries it on, as in Knative's ingress, unless the event has a trace of its own.
    """
    found = {name: value for name, value in headers if name in ("traceparent", "tracestate")}
    if not _TRACEPARENT.fullmatch(found.get("traceparent", "")):
        return {}
    if not _PRINTABLE.fullmatch(found.get("tracestate", "")):
        del found["tracestate"]
    return {name: value for name, value in found.items() if value}


def _forwarded(headers: Headers) -> dict[str, str]:
    """The headers that every delivery repeats."""
    return {
        name: value
        for name, value in headers
        if _FORWARDED.fullmatch(name) and _PRINTABLE.fullmatch(value)
    }


def _refused(
    status: int, message: str, reason: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": message, "reason": reason}, status, headers)
