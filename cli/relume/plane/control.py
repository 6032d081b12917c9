"""The control API: what the other commands ask a running plane, under `/relume/` on its HTTP port.

GET /relume/status              one JSON object: addresses, services, Brokers, the template
GET /relume/coldstarts          the cold-start ledger, oldest first
GET /relume/events?replay=N     server-sent events, see `relume.plane.watch`. With &filter=CESQL
                                only those whose event passes the expression are sent
/relume/dlq/…                   dead letters, see `relume.plane.dead_letter_routes`
"""

import re
from collections.abc import Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.cesql.parser import ParseError
from relume.cesql.program import compile
from relume.eventing.dead_letters import DeadLetters
from relume.eventing.observer import Observer
from relume.plane.dead_letter_routes import DeadLetterRoutes
from relume.plane.watch import Watch, Watchers

PREFIX = "/relume/"
_NUMBER = re.compile(r"[0-9]{1,18}")  # of more digits than it likes Python makes no number

Json = Mapping[str, object]


class Control:
    """The routes, over functions that read the plane's state; only dead letters are changed."""

    def __init__(
        self,
        *,
        status: Callable[[], Json],
        cold_starts: Callable[[], Sequence[Json]],
        observer: Observer,
        dead_letters: Callable[[], DeadLetters | None] = lambda: None,
    ) -> None:
        self._status = status
        self._cold_starts = cold_starts
        self._watchers = Watchers(observer)
        self.app = Starlette(
            routes=[
                Route("/relume/status", self._get_status),
                Route("/relume/coldstarts", self._get_cold_starts),
                Route("/relume/events", self._get_events),
                *DeadLetterRoutes(dead_letters).routes,
            ]
        )

    def in_front_of(self, app: ASGIApp) -> ASGIApp:
        """One ASGI app: ours under `/relume/`, everything else untouched."""

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            ours = scope["type"] == "http" and scope["path"].startswith(PREFIX)
            await (self.app if ours else app)(scope, receive, send)

        return route

    def close(self) -> None:
        """End the streams of events, so that the server can shut down."""
        self._watchers.close()

    async def _get_status(self, _: Request) -> Response:
        return JSONResponse(dict(self._status()))

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
        return Watch(self._watchers, replay=int(replay), wanted=wanted)
