"""The Broker's door: `POST /<namespace>/<broker>` (checklist B1 and B2).

202 is only said after the event is on disk. A batch is accepted as a whole: 202 when all of it is
stored. What is refused is refused with a JSON object of `error` and `reason`.
"""

from collections.abc import Iterable, Mapping, Sequence

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import BATCH_TYPE, STRUCTURED_TYPE, Mode, decode, mode_of
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import (
    BrokerFull,
    BrokerKey,
    DiskFull,
    EventLog,
    EventTooLarge,
    StoreUnavailable,
)
from relume.eventing.intake import ClientGone, TooSlow, body_of, forwarded, headers_of, trace_of
from relume.eventing.observer import Observer, Record, Stage
from relume.eventing.settings import EventingSettings
from relume.eventing.time_to_live import TtlExhausted, coming_in, rfc3339

_ALLOW = {"Allow": "POST, OPTIONS"}
_OPTIONS = {
    **_ALLOW,
    # http-webhook.md §4: anybody may send, as often as they like.
    "WebHook-Allowed-Origin": "*",
    "WebHook-Allowed-Rate": "*",
    # HTTP binding §1.3: a batch is sent only to who asks for batches. The Broker does.
    "Accept-Post": f"{STRUCTURED_TYPE}, {BATCH_TYPE}, */*",
}
_ACCEPTED = Response(status_code=202)
# A full log gets room as Triggers settle; a store that restarts is back sooner.
_FULL_RETRY_S, _RESTART_RETRY_S = "5", "1"


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
        except (InvalidEvent, TtlExhausted) as error:
            return _refused(400, str(error), error.reason)
        except EventTooLarge as error:
            return _refused(413, str(error), error.reason)
        except TooSlow as error:
            # The rest of the request is still to come: this connection has no other use.
            return _refused(408, str(error), error.reason, {"Connection": "close"})
        except StoreUnavailable as error:
            return _refused(503, str(error), error.reason, {"Retry-After": _RESTART_RETRY_S})
        except BrokerFull as error:
            return _refused(503, str(error), error.reason, {"Retry-After": _FULL_RETRY_S})
        except DiskFull as error:
            return _refused(507, str(error), error.reason)
        return _ACCEPTED

    async def _accept(self, broker: BrokerKey, scope: Scope, receive: Receive) -> None:
        """Store what the request brings, all of it before this returns."""
        headers = headers_of(scope)
        batch = mode_of(headers) is Mode.BATCH
        limit = self._settings.max_batch_bytes if batch else self._settings.max_event_bytes
        body = await body_of(receive, headers, limit, self._settings.upload_s)
        events = decode(headers, body).events
        if batch:
            self._check_batch(events)
        trace, passed_on = trace_of(headers), forwarded(headers)
        envelopes = [
            Envelope(self._coming_in(event, trace, f"[{number}]: " if batch else ""), passed_on)
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

    def _check_batch(self, events: Sequence[CloudEvent]) -> None:
        if len(events) > self._settings.max_batch_events:
            raise EventTooLarge(
                f"{len(events)} events: a batch may have {self._settings.max_batch_events}",
                reason="batch-too-large",
            )
        for number, event in enumerate(events):
            if len(event.data or b"") > self._settings.max_event_bytes:
                raise EventTooLarge(
                    f"[{number}]: an event may have {self._settings.max_event_bytes} bytes"
                )

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
            stage: Stage = "accepted" if new else "duplicate"
            self._observer.publish(Record(at=at, stage=stage, broker=name, event=event))


def _refused(
    status: int, message: str, reason: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": message, "reason": reason}, status, headers)
