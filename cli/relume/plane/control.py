"""The control API: what the other commands ask a running plane, under `/relume/` on its HTTP port.

GET    /relume/status              one JSON object: addresses, services, Brokers, the template
GET    /relume/coldstarts          the cold-start ledger, oldest first
GET    /relume/events?replay=N     records as server-sent events; with &filter=CESQL only those
                                   whose event passes the expression
GET    /relume/events/NS/BROKER/KEY  the whole event of a record that has a `key`: one line of JSON,
                                   [attributes, {}], then the data untouched; 404: it is not kept
GET    /relume/dlq/NS/BROKER?after=N&limit=N   a page: `letters`, oldest first, and `next`, or null
GET    /relume/dlq/NS/BROKER/N                 one, with `event` (structured) and `headers`
POST   /relume/dlq/NS/BROKER/N/redrive         send it through its Trigger again, once
DELETE /relume/dlq/NS/BROKER/N                 forget it
POST   /relume/reload                          read the manifests again, and run what they say now:
                                               what was `added`, `changed` and `removed`
POST   /relume/services/NS/NAME/warm           start it where it is at zero; 202 with its status, in
                                               which `ready_in_s` is predicted (null: not known)

A record whose event has long data holds only its attributes: `bytes` is the size of the data,
`begins` its first characters, and `key` names it in the log.

A request that is refused gets a JSON object of `error` and `reason`: 403 for a change that a web
page of another origin asks for and under a name that is not this machine's (`known_names.py`), 404
where what it names does not exist, 409 when the letter's Trigger is gone, 422 where a manifest is
wrong, 503 when the store does not answer, the plane is stopping, or too many clients read the
stream of records. That stream looks like this:

: subscribed            from here on no record is missed
data: {…}               the replayed records, oldest first
: live                  the replayed records end here
data: {…}               records as they happen
:                       nothing, now and then, to notice a client that went away
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.errors import InvalidInput, RelumeError
from relume.base.vocabulary import STREAM_LIVE, STREAM_SUBSCRIBED, Json
from relume.cesql.parser import ParseError
from relume.cesql.program import compile
from relume.cloudevents import json_format
from relume.cloudevents.event import InvalidEvent, rfc3339
from relume.eventing.dead_letters import (
    DeadLetters,
    Letter,
    NoSuchDeadLetter,
    UnknownBroker,
    UnknownTrigger,
)
from relume.eventing.envelope import Envelope, going_out
from relume.eventing.event_log import BrokerKey, StoreUnavailable
from relume.eventing.filters import Predicate
from relume.eventing.jobs.answers import NotAllowed
from relume.eventing.jobs.pages import check_page
from relume.eventing.observer import Observer, Record, Subscription
from relume.serving.errors import ServiceUnknown

PREFIX = "/relume/"
_NUMBER = re.compile(r"[0-9]{1,18}")  # fits the 64 bits that nats-server counts with
PAGE = 200
_STATUS: dict[type[RelumeError], int] = {
    UnknownBroker: 404,
    NoSuchDeadLetter: 404,
    UnknownTrigger: 409,
    ServiceUnknown: 404,
    NotAllowed: 403,
    InvalidInput: 422,
    RelumeError: 503,
}
KEEPALIVE_S = 15.0
# Each stream of records may hold what an observer lets a listener hold.
MOST_STREAMS = 64

Handler = Callable[[Request], Awaitable[Response]]
# An event of a Broker by its identity; None: it is not kept.
Recall = Callable[[BrokerKey, str], Awaitable[Envelope | None]]
# Starts the service of a namespace and a name where it is at zero, and returns its status.
Warm = Callable[[str, str], Json]


class Control:
    """The routes, on functions of the plane. Dead letters can be changed, and services started."""

    def __init__(
        self,
        *,
        status: Callable[[], Json],
        cold_starts: Callable[[], Sequence[Json]],
        observer: Observer,
        dead_letters: Callable[[], DeadLetters | None] = lambda: None,
        recall: Recall | None = None,
        warm: Warm | None = None,
        reload: Callable[[], Awaitable[Json]] | None = None,
    ) -> None:
        self._status = status
        self._warm = warm
        self._reload = reload
        self._cold_starts = cold_starts
        self._recall = recall
        self._watchers = Watchers(observer)
        self.app = Starlette(
            routes=[
                Route("/relume/status", self._get_status),
                Route("/relume/coldstarts", self._get_cold_starts),
                Route("/relume/events", self._get_events),
                Route("/relume/events/{namespace}/{name}/{key}", _answering(self._get_event)),
                Route("/relume/reload", _answering(self._post_reload), methods=["POST"]),
                Route(
                    "/relume/services/{namespace}/{name}/warm",
                    _answering(self._post_warm),
                    methods=["POST"],
                ),
                *DeadLetterRoutes(dead_letters).routes,
            ]
        )

    def in_front_of(self, app: ASGIApp) -> ASGIApp:
        """One ASGI app: the control API under `/relume/`, and `app` for every other path."""

        def route(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            ours = scope["type"] == "http" and scope["path"].startswith(PREFIX)
            return (self.app if ours else app)(scope, receive, send)

        return route

    def close(self) -> None:
        """End the streams of events, so that the server can shut down."""
        self._watchers.close()

    async def _get_status(self, _: Request) -> Response:
        return JSONResponse(dict(self._status()))

    async def _post_reload(self, _: Request) -> Response:
        if self._reload is None:
            raise InvalidInput(
                "this plane was not started with files: there is nothing to read again",
                reason="no-manifest",
            )
        return JSONResponse(dict(await self._reload()))

    async def _post_warm(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        if self._warm is None:
            raise ServiceUnknown(f"no service {namespace}/{name} on this plane")
        return JSONResponse(dict(self._warm(namespace, name)), 202)

    async def _get_cold_starts(self, _: Request) -> Response:
        return JSONResponse([dict(entry) for entry in self._cold_starts()])

    async def _get_events(self, request: Request) -> Response:
        replay = request.query_params.get("replay", "0")
        if not _NUMBER.fullmatch(replay):
            return Response("replay: write a number\n", status_code=400)
        expression = request.query_params.get("filter")
        try:
            program = None if expression is None else compile(expression)
        except ParseError as error:
            return Response(f"filter: {error}\n", status_code=400)
        wanted = None if program is None else lambda event: program.matches(event.attributes)
        if self._watchers.full:
            message = f"{MOST_STREAMS} clients read the stream of records: try again later"
            return _refused(503, message, "too-many-streams")
        return RecordStream(self._watchers, replay=int(replay), wanted=wanted)

    async def _get_event(self, request: Request) -> Response:
        broker, key = _broker(request), request.path_params["key"]
        found = await self._recall(broker, key) if self._recall is not None else None
        if found is None:
            return _refused(404, f"{broker} does not keep this event", "not-kept")
        # As it is stored: to print it as JSON would keep the event loop busy.
        stored = Envelope(going_out(found.event)).pack()
        return Response(stored, media_type="application/octet-stream")


class DeadLetterRoutes:
    """Routes on the dead letters that `desk` returns; it returns None while eventing is not up."""

    def __init__(self, desk: Callable[[], DeadLetters | None]) -> None:
        self._desk = desk
        one = "/relume/dlq/{namespace}/{name}/{number}"
        self.routes = [
            Route("/relume/dlq/{namespace}/{name}", _answering(self._list)),
            Route(one, _answering(self._show), methods=["GET"]),
            Route(one, _answering(self._remove), methods=["DELETE"]),
            Route(f"{one}/redrive", _answering(self._redrive), methods=["POST"]),
        ]

    @property
    def _letters(self) -> DeadLetters:
        if (desk := self._desk()) is None:
            raise StoreUnavailable("the plane does not take events now")
        return desk

    async def _list(self, request: Request) -> Response:
        after, limit = (request.query_params.get(name, "0") for name in ("after", "limit"))
        if not (_NUMBER.fullmatch(after) and _NUMBER.fullmatch(limit)):
            return _refused(400, "after and limit are numbers", "bad-request")
        size = min(int(limit) or PAGE, PAGE)
        page = self._letters.page(_broker(request), int(after), size)
        letters = [_summary(letter) async for letter in page]
        last = letters[-1]["sequence"] if len(letters) == size else None
        return JSONResponse({"letters": letters, "next": last})

    async def _show(self, request: Request) -> Response:
        letter = await self._letters.get(_broker(request), _number(request))
        event = orjson.Fragment(json_format.dump_event(going_out(letter.event)))
        whole = {**_summary(letter), "event": event, "headers": dict(letter.envelope.headers)}
        return Response(orjson.dumps(whole), media_type="application/json")

    async def _redrive(self, request: Request) -> Response:
        letter = await self._letters.redrive(_broker(request), _number(request))
        return JSONResponse(_summary(letter))

    async def _remove(self, request: Request) -> Response:
        await self._letters.remove(_broker(request), _number(request))
        return Response(status_code=204)


def _summary(letter: Letter) -> dict[str, object]:
    event = letter.event
    return {
        "sequence": letter.sequence,
        "at": rfc3339(letter.at),
        "broker": str(letter.broker),
        "trigger": letter.trigger,
        "type": event.type,
        "source": event.source,
        "id": event.id,
        "code": letter.code,
        "reason": letter.reason,
        "said": letter.said.decode(errors="replace"),
        "destination": letter.destination,
        "bytes": len(event.data or b""),
    }


def _answering(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            check_page(request.scope, "what runs here")
            return await handler(request)
        except InvalidEvent as error:  # what lies in the store is damaged, not what was asked
            return _refused(503, str(error), error.reason)
        except RelumeError as error:
            status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
            return _refused(status, str(error), error.reason)

    return answer


def _refused(status: int, message: str, reason: str) -> Response:
    return JSONResponse({"error": message, "reason": reason}, status)


def _broker(request: Request) -> BrokerKey:
    return BrokerKey(request.path_params["namespace"], request.path_params["name"])


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not _NUMBER.fullmatch(text) or not int(text):
        raise NoSuchDeadLetter(_broker(request), text[:40])
    return int(text)


class Watchers:
    """The open streams of records from one observer; closing ends them all."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.closed = False
        self._open: set[Subscription] = set()

    @property
    def full(self) -> bool:
        """Whether as many streams are open as may be."""
        return len(self._open) >= MOST_STREAMS

    def add(self, subscription: Subscription) -> None:
        self._open.add(subscription)
        if self.closed:
            subscription.close()

    def discard(self, subscription: Subscription) -> None:
        self._open.discard(subscription)

    def close(self) -> None:
        self.closed = True
        for subscription in self._open:
            subscription.close()


class RecordStream(Response):
    """One client's stream of the `wanted` records, until the client leaves or the plane stops."""

    def __init__(self, watchers: Watchers, *, replay: int, wanted: Predicate | None = None) -> None:
        super().__init__(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
        del self.headers["content-length"]
        self._watchers = watchers
        self._replay = replay
        self._wanted = wanted or (lambda _: True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        observer = self._watchers.observer
        with observer.subscribe() as records:
            # There is no await since `subscribe`, so no recent record comes again as a live one.
            recent = observer.recent(self._replay)
            self._watchers.add(records)
            try:
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
                await _write(send, f"{STREAM_SUBSCRIBED}\n\n".encode())
                for record in recent:
                    await _write_record(send, record, self._wanted)
                await _write(send, f"{STREAM_LIVE}\n\n".encode())
                await _follow(records, self._wanted, receive, send)
            finally:
                self._watchers.discard(records)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _follow(records: Subscription, wanted: Predicate, receive: Receive, send: Send) -> None:
    """Write records as they come, until the subscription is closed."""
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(_close_when_gone(records, receive))
        alive = group.create_task(_keep_alive(send))
        async for record in records:
            await _write_record(send, record, wanted)
        gone.cancel()
        alive.cancel()


async def _close_when_gone(records: Subscription, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    records.close()


async def _keep_alive(send: Send) -> None:
    while True:
        await asyncio.sleep(KEEPALIVE_S)
        await _write(send, b":\n\n")


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _write_record(send: Send, record: Record, wanted: Predicate) -> None:
    if wanted(record.event):
        await _write(send, b"data: " + record.to_json().encode() + b"\n\n")
    # Other requests have their turn between any two records, whether this one was written or not.
    await asyncio.sleep(0)
