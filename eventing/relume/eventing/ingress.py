"""The Broker's door: `POST /<namespace>/<broker>` (checklist B1 and B2).

202 is only said after the event is on disk. What is refused is refused with a JSON object of
`error` and `reason`.
"""

import re
from collections.abc import Iterable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from relume.eventing.broker import BrokerKey, EventLog, EventTooLarge, StoreUnavailable
from relume.eventing.clock import Clock
from relume.eventing.codec import Headers, Mode, decode, mode_of
from relume.eventing.envelope import Envelope
from relume.eventing.event import CloudEvent, InvalidEvent
from relume.eventing.observer import Observer, Record
from relume.eventing.passage import TtlExhausted, coming_in, rfc3339
from relume.eventing.settings import EventingSettings

_ALLOW = {"Allow": "POST, OPTIONS"}
# http-webhook.md §4: anybody may send, as often as they like.
_WEBHOOK = {**_ALLOW, "WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}
# What a Knative Broker passes on from producer to subscriber.
_FORWARDED = re.compile(r"x-request-id|retry-after|x-b3-.*|knative-.*")
_PRINTABLE = re.compile(r"[ -~]*")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


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
            response = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(headers=_WEBHOOK)
        if request.method != "POST":
            return _refused(405, "post an event", "method-not-allowed", _ALLOW)
        path = request.scope["path"]
        if path == "/":
            return _refused(404, "post to /<namespace>/<broker>", "not-found")
        parts = path.removesuffix("/").split("/")
        if len(parts) != 3:
            return _refused(400, f"{path}: post to /<namespace>/<broker>", "bad-path")
        broker = BrokerKey(parts[1], parts[2])
        if broker not in self.accepted:
            return _refused(404, f"there is no Broker {broker}", "unknown-broker")
        try:
            await self._accept(broker, request)
        except (InvalidEvent, TtlExhausted) as error:
            return _refused(400, str(error), error.reason)
        except EventTooLarge as error:
            return _refused(413, str(error), error.reason)
        except StoreUnavailable as error:
            return _refused(503, str(error), error.reason, {"Retry-After": "1"})
        return Response(status_code=202)

    async def _accept(self, broker: BrokerKey, request: Request) -> None:
        body = await self._body(request)
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw]
        event = _one_event(headers, body)
        envelope = Envelope(coming_in(event, self._clock.now()), _forwarded(headers))
        if (log := self._log) is None:
            raise StoreUnavailable("the Broker takes no events now", reason="stopping")
        new = await log.append(broker, envelope, self._settings.store_patience_s)
        (self.accepted if new else self.duplicates)[broker] += 1
        self._observer.publish(
            Record(
                at=rfc3339(self._clock.now()),
                stage="accepted" if new else "duplicate",
                broker=str(broker),
                event=event,
            )
        )

    async def _body(self, request: Request) -> bytes:
        limit = self._settings.max_event_bytes
        too_large = EventTooLarge(f"an event may have {limit} bytes")
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise too_large
        return b"".join(chunks)


def _one_event(headers: Headers, body: bytes) -> CloudEvent:
    if mode_of(headers) is Mode.BATCH:
        raise InvalidEvent("a Broker takes no batches: send one event per request")
    event = decode(headers, body).event
    if "traceparent" in event.attributes:
        return event
    # A trace that the producer carries in HTTP headers goes on in the event (extension
    # distributed-tracing), as the Knative ingress does it.
    found = dict(headers)
    if _TRACEPARENT.fullmatch(found.get("traceparent", "")):
        state = found.get("tracestate", "")
        event = event.with_attributes(traceparent=found["traceparent"])
        if state and _PRINTABLE.fullmatch(state):
            event = event.with_attributes(tracestate=state)
    return event


def _forwarded(headers: Headers) -> dict[str, str]:
    return {
        name: value
        for name, value in headers
        if _FORWARDED.fullmatch(name) and _PRINTABLE.fullmatch(value)
    }


def _refused(
    status: int, message: str, reason: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": message, "reason": reason}, status, headers)
