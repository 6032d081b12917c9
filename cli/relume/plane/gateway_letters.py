"""The dead letters that a gateway shows and changes, for its operators.

They are those of all jobs, so nobody else sees them. The routes are those of a plane
(`control.py`), and so `relume dlq` asks a gateway as it asks a plane.
"""

from collections.abc import Collection

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.eventing.dead_letters import DeadLetters, DeadLetterStore
from relume.eventing.jobs.answers import NotAllowed
from relume.eventing.jobs.caller import caller_of
from relume.eventing.jobs.outbox import OUTBOX
from relume.eventing.observer import Observer
from relume.plane.control import DeadLetterRoutes

PREFIX = "/relume/dlq/"


class GatewayLetters:
    """An ASGI application for the paths below PREFIX; there is nothing before `open`."""

    def __init__(self, operators: Collection[str], clock: Clock) -> None:
        self._operators = frozenset(operators)
        self._clock = clock
        self._letters: DeadLetters | None = None
        self._app = Starlette(routes=DeadLetterRoutes(lambda: self._letters).routes)

    def open(self, store: DeadLetterStore) -> None:
        """Serve what is stored here."""
        self._letters = DeadLetters(store, {OUTBOX}, Observer(), self._clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = caller_of(scope).owner
        if owner == "" or owner in self._operators:
            await self._app(scope, receive, send)
            return
        words = (
            "only an operator sees the dead letters of a gateway: they are those of all jobs "
            "(relume gateway --operator OWNER names one)"
        )
        refusal = JSONResponse({"error": words, "reason": NotAllowed.reason}, 403)
        await refusal(scope, receive, send)
