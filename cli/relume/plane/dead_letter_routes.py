"""The dead letters of a running plane over HTTP, part of the control API.

GET    /relume/dlq/NS/BROKER?after=N&limit=N   a page: `letters`, oldest first, and `next`, or null
GET    /relume/dlq/NS/BROKER/N                 one, with `event` (structured) and `headers`
POST   /relume/dlq/NS/BROKER/N/redrive         send it through its Trigger again, once
DELETE /relume/dlq/NS/BROKER/N                 forget it

What is refused is a JSON object of `error` and `reason`: 404 for what is not there, 409 when its
Trigger is gone, 503 when the store does not answer.
"""

import re
from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relume.base.errors import RelumeError
from relume.cloudevents import json_format
from relume.cloudevents.event import rfc3339
from relume.eventing.dead_letters import (
    DeadLetters,
    Letter,
    NoSuchDeadLetter,
    UnknownBroker,
    UnknownTrigger,
)
from relume.eventing.envelope import going_out
from relume.eventing.event_log import BrokerKey, StoreUnavailable

PAGE = 200
_NUMBER = re.compile(r"[0-9]{1,18}")  # fits the 64 bits that nats-server counts with
_STATUS: dict[type[RelumeError], int] = {
    UnknownBroker: 404,
    NoSuchDeadLetter: 404,
    UnknownTrigger: 409,
    RelumeError: 503,
}

Handler = Callable[[Request], Awaitable[Response]]


class DeadLetterRoutes:
    """`desk` answers the dead letters of the plane, or None while it does not run."""

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
            return await handler(request)
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
        raise NoSuchDeadLetter(f"{_broker(request)} has no dead letter {text[:40]}")
    return int(text)
