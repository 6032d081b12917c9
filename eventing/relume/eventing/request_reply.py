"""RequestReply: a request over HTTP waits for the event that answers it.

POST /request-reply/<namespace>/<name>          the answer, as an event in binary mode with 200
POST /request-reply/<namespace>/<name>/reply    brings an answer, from the Trigger of the Broker

A request goes into the Broker as from any other producer, with its correlation. What is refused
there is refused here in the same words. When the process ends, the caller that waits is forgotten,
but the event is not: the same request, sent again, waits for the answer of the event that is stored
already. Answers are remembered for a while, because one may have come while nobody waited.

Source: knative/eventing `pkg/requestreply/ingress_handler.go`. It answers a request whose time is
up with an empty 200; here that is 504, so that no caller takes it for an answer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.errors import RelumeError
from relume.base.limits import MIB
from relume.cloudevents.asgi import ClientGone, headers_of
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import Mode, decode, encode, mode_of
from relume.config import RequestReply
from relume.config.channels import REQUEST_REPLY_PATH
from relume.eventing.correlation import Correlation
from relume.eventing.event_log import BrokerKey
from relume.eventing.ingress import Ingress
from relume.eventing.refusals import REFUSED, broker_of, refusal_of, refused
from relume.eventing.settings import EventingSettings
from relume.eventing.upload import uploaded

_REPLY = "/reply"
_TAKEN = Response(status_code=202)
_REMEMBERED, _REMEMBERED_BYTES = 1000, 32 * MIB
_REMOVED = (404, "the RequestReply was removed; the event is stored", "unknown-request-reply")
_STOPPING = (503, "the plane is shutting down; send it again", "stopping", {"Retry-After": "1"})


class _NoReply(RelumeError):
    """Nobody answered in time."""

    reason = "no-reply"
    retryable = True


class WaitingCallers:
    """Who waits for which answer, and the answers that came in the last `window_s`.

    That is how long the Broker knows a request that is sent again: after it the request is a new
    one, and so is its answer.
    """

    def __init__(self, clock: Clock, window_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._futures: dict[str, list[asyncio.Future[CloudEvent | None]]] = {}
        self._answers: OrderedDict[str, tuple[float, CloudEvent]] = OrderedDict()
        self._bytes = 0

    @property
    def count(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._futures.values()))

    def join(self, correlation: str) -> "asyncio.Future[CloudEvent | None]":
        """The answer; None when everybody is sent away. `leave` must follow."""
        future = asyncio.get_running_loop().create_future()
        self._futures.setdefault(correlation, []).append(future)
        self._forget()
        if (known := self._answers.get(correlation)) is not None:
            future.set_result(known[1])
        return future

    def leave(self, correlation: str, future: "asyncio.Future[CloudEvent | None]") -> None:
        futures = self._futures[correlation]
        futures.remove(future)
        if not futures:
            del self._futures[correlation]

    def answer(self, correlation: str, event: CloudEvent) -> None:
        """Give the answer to all who wait for it, and remember it; the first one counts."""
        if correlation not in self._answers:
            self._answers[correlation] = (self._clock.monotonic(), event)
            self._bytes += len(event.data or b"")
        self._forget()
        for future in self._futures.get(correlation, ()):
            if not future.done():
                future.set_result(event)

    def _forget(self) -> None:
        """Drop answers that are old, and the oldest where there are too many."""
        before = self._clock.monotonic() - self._window_s
        while self._answers:
            correlation, (at, oldest) = next(iter(self._answers.items()))
            many = len(self._answers) > _REMEMBERED or self._bytes > _REMEMBERED_BYTES
            if at > before and not many:
                return
            del self._answers[correlation]
            self._bytes -= len(oldest.data or b"")

    def send_away(self) -> None:
        for future in (each for futures in self._futures.values() for each in futures):
            if not future.done():
                future.set_result(None)


_Door = tuple[Correlation, WaitingCallers]


class RequestReplies:
    """An ASGI app in front of the ingress, which gets every path that is not of a RequestReply."""

    def __init__(
        self,
        ingress: Ingress,
        correlations: Iterable[Correlation],
        clock: Clock,
        settings: EventingSettings,
    ) -> None:
        self._ingress = ingress
        self._clock = clock
        self._settings = settings
        self._closed = False
        self._doors: dict[BrokerKey, _Door] = {}
        self.serve(correlations)

    def serve(self, correlations: Iterable[Correlation]) -> None:
        """Serve these RequestReplies from now on; who waits at another one is sent away."""
        before, self._doors = self._doors, {}
        for each in correlations:
            key = BrokerKey(each.flow.namespace, each.flow.name)
            known = before.pop(key, None)
            waiting = WaitingCallers(self._clock, self._settings.duplicate_window_s)
            self._doors[key] = (each, waiting if known is None else known[1])
        for _, waiting in before.values():
            waiting.send_away()

    def close(self) -> None:
        """Send away who waits; their events stay stored."""
        self._closed = True
        for _, waiting in self._doors.values():
            waiting.send_away()

    def waiting(self, flow: RequestReply) -> int:
        """How many requests wait for their answer."""
        return self._doors[BrokerKey(flow.namespace, flow.name)][1].count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{REQUEST_REPLY_PATH}/"):
            return await self._ingress(scope, receive, send)
        try:
            response = await self._respond(scope, receive)
        except ClientGone:
            return
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        path = scope["path"].removeprefix(REQUEST_REPLY_PATH).removesuffix("/")
        is_reply = path.count("/") == 3 and path.endswith(_REPLY)
        named = broker_of({**scope, "path": path.removesuffix(_REPLY) if is_reply else path})
        if isinstance(named, Response):
            if scope["method"] == "OPTIONS":
                del named.headers["Accept-Post"]  # which invites batches
            return named
        if (door := self._doors.get(named)) is None:
            return refused(404, f"there is no RequestReply {named}", "unknown-request-reply")
        try:
            event = await self._event(scope, receive)
            if is_reply:
                return _brought(*door, event)
            return await self._ask(*door, event, scope, receive)
        except REFUSED as error:
            return refusal_of(error)

    async def _event(self, scope: Scope, receive: Receive) -> CloudEvent:
        headers = headers_of(scope)
        if mode_of(headers) is Mode.BATCH:
            raise InvalidEvent("a batch was not asked for: a request is one event")
        with self._ingress.intake.reading(receive) as counted:
            body = await uploaded(counted, headers, self._settings)
        return decode(headers, body, lenient=not self._settings.strict_events).event

    async def _ask(
        self,
        correlation: Correlation,
        waiting: WaitingCallers,
        event: CloudEvent,
        scope: Scope,
        receive: Receive,
    ) -> Response:
        flow, key = correlation.flow, correlation.of(event)
        asking = event.with_attributes(**{flow.correlation_attribute: key})
        broker = BrokerKey(flow.namespace, flow.broker)
        future = waiting.join(key)
        try:
            await self._ingress.store(broker, headers_of(scope), [asking])
            answer = await self._answered(future, flow.timeout_s, receive)
        except _NoReply as error:
            return refused(504, str(error), error.reason)
        finally:
            waiting.leave(key, future)
        if answer is None:
            return refused(*(_STOPPING if self._closed else _REMOVED))
        headers, body = encode(answer, Mode.BINARY)
        return Response(body, 200, dict(headers))

    async def _answered(
        self, answer: "asyncio.Future[CloudEvent | None]", timeout_s: float, receive: Receive
    ) -> CloudEvent | None:
        """The answer, or None when the plane stops. Raises _NoReply, ClientGone."""
        if self._closed and not answer.done():
            return None
        gone = asyncio.ensure_future(_gone(receive))
        late = asyncio.ensure_future(self._clock.sleep(timeout_s))
        try:
            waits: set[asyncio.Future[Any]] = {answer, gone, late}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            late.cancel()
        if answer.done():
            return answer.result()
        if gone.done():
            raise ClientGone
        raise _NoReply(
            f"no answer came within {timeout_s:g} s; the event is stored, and the same request "
            "waits for its answer again"
        )


def _brought(correlation: Correlation, waiting: WaitingCallers, event: CloudEvent) -> Response:
    asked = correlation.asked(event)
    if asked is None:
        name = correlation.flow.reply_attribute
        raise InvalidEvent(f"{name}: it is no correlation of RequestReply {correlation.flow.name}")
    waiting.answer(asked, event)
    return _TAKEN


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
