"""The Broker's door: `POST /<namespace>/<broker>` (checklist B1 and B2).

The answer is 202 only after the event is on disk. A batch is accepted as a whole: the answer is 202
when all of it is stored. What is answered where nothing is stored is in `refusals`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.cloudevents.asgi import ClientGone, headers_of
from relume.cloudevents.event import CloudEvent, rfc3339
from relume.cloudevents.http import Headers, Mode, decode
from relume.eventing.envelope import Envelope, TtlExhausted, coming_in
from relume.eventing.event_log import BrokerKey, EventLog, StoreUnavailable
from relume.eventing.header_room import AttributesTooLong
from relume.eventing.intake import Intake
from relume.eventing.observer import Observer, Record
from relume.eventing.producer_headers import forwarded_of, trace_of
from relume.eventing.refusals import REFUSED, broker_of, check_batch, refusal_of, refused
from relume.eventing.settings import EventingSettings
from relume.eventing.upload import uploaded

_ACCEPTED = Response(status_code=202)


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
        self.intake = Intake(settings.intake_bytes, settings.small_bytes)
        self.accepted: Counter[BrokerKey] = Counter()
        self.duplicates: Counter[BrokerKey] = Counter()
        self.brokers = frozenset(brokers)

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
        broker = broker_of(scope)
        if isinstance(broker, Response):
            return broker
        if broker not in self.brokers:
            return refused(404, f"there is no Broker {broker}", "unknown-broker")
        try:
            with self.intake.reading(receive) as counted:
                await self._accept(broker, scope, counted)
        except REFUSED as error:
            return refusal_of(error)
        return _ACCEPTED

    async def _accept(self, broker: BrokerKey, scope: Scope, receive: Receive) -> None:
        """Store what the request brings, all of it before this returns."""
        headers = headers_of(scope)
        body = await uploaded(receive, headers, self._settings)
        message = decode(headers, body, lenient=not self._settings.strict_events)
        await self.store(broker, headers, message.events, message.mode is Mode.BATCH)

    async def store(
        self, broker: BrokerKey, headers: Headers, events: Sequence[CloudEvent], batch: bool = False
    ) -> None:
        """Store the events of one request, all of them before this returns; raises REFUSED."""
        if batch:
            check_batch(events, self._settings)
        trace, forwarded = trace_of(headers), forwarded_of(headers)
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
        self.count(broker, events, news)

    def _coming_in(self, event: CloudEvent, trace: Mapping[str, str], where: str) -> CloudEvent:
        if trace and "traceparent" not in event.attributes:
            event = event.with_attributes(**trace)
        try:
            return coming_in(event, self._clock.now())
        except (TtlExhausted, AttributesTooLong) as error:
            raise type(error)(f"{where}{error}") from None

    def count(self, broker: BrokerKey, events: Sequence[CloudEvent], news: Sequence[bool]) -> None:
        """Count and tell what was stored; `news` says which of the events are new."""
        accepted = sum(news)
        self.accepted[broker] += accepted
        self.duplicates[broker] += len(news) - accepted
        at, name = rfc3339(self._clock.now()), str(broker)
        for event, new in zip(events, news, strict=True):
            self._observer.publish(Record(at, "accepted" if new else "duplicate", name, event))
