"""The API of jobs: `/v1/jobs…` and `/v1/queues…`.

GET    /v1/jobs?status=&service=NS/NAME&limit=&after=   a page, newest first (see below)
GET    /v1/jobs/ID[?wait=N]        the job; with `wait` once it is settled, or after N seconds
GET    /v1/jobs/ID/result          its model's answer, as it was; 409 while there is none
GET    /v1/jobs/ID/events          its answer as server-sent events (see `stream`)
POST   /v1/jobs/ID/cancel          end it
POST   /v1/jobs/ID/retry           queue it once more; 503 while its end is not published
DELETE /v1/jobs/ID                 keep nothing but its key; 503 while its reply is not published
GET    /v1/queues                  every service: who waits, and whether it is paused
POST   /v1/queues/NS/NAME/pause|resume|purge   at once here, within a second at other gateways

Callers see their own jobs only; those of others do not exist for them. Queues belong to operators:
only they may stop or purge one, and others see only the lanes of their own tenant. What a page of a
foreign origin may change is said in `pages`.

A page of the list is followed by another one while `has_more` is true: ask for it with `last_id` as
`after`. A page ends when about 10,000 jobs were read for it. It may then have few jobs or none, and
its `last_id` is a mark (`read-N`) and no id: the job there may be somebody else's.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.errors import InvalidInput, one_line
from relume.base.vocabulary import Json
from relume.cloudevents.asgi import ClientGone
from relume.eventing.jobs.answers import (
    REFUSED,
    NotAllowed,
    NotSettled,
    Unroutable,
    answer_of,
    json_response,
    refusal_of,
    refused,
    refused_by,
)
from relume.eventing.jobs.caller import Caller, caller_of
from relume.eventing.jobs.changes import Changes
from relume.eventing.jobs.door import Admit
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.outlook import Outlook, place_in_queue
from relume.eventing.jobs.pages import check_page
from relume.eventing.jobs.shapes import (
    JOBS_PATH,
    is_job_id,
    job_object,
    no_longer_shown,
    told,
)
from relume.eventing.jobs.state import SETTLED, Record, Settled, State
from relume.eventing.jobs.store import Filter, JobStore, ReadEnough, Seen
from relume.eventing.jobs.stream import Streams, StreamSettings, position_of
from relume.eventing.jobs.watching import Watches, closing, while_there

QUEUES_PATH = "/v1/queues"
MAX_WAIT_S = 300
PAGE, MAX_PAGE = 20, 100
_SHOWN = 40  # characters of a wrong name that a message repeats
# JetStream reads so many jobs in about 4 s.
MOST_READ = 10_000

_NUMBER = re.compile(r"[0-9]{1,9}")
_MARK = re.compile(r"read-([1-9][0-9]{0,17})")
_OF_LIST = ("status", "service", "limit", "after")
_STATES: tuple[State, ...] = ("queued", "leased", "streaming", *get_args(Settled))
Handler = Callable[[Request], Awaitable[Response]]


class BadQuery(InvalidInput):
    """A parameter of the address cannot be read; the message names it and the fix."""

    reason = "bad-query"


def everybody_if_open(caller: Caller) -> bool:
    """Whether a caller operates the queues: everybody, where nobody has to say who they are."""
    return caller.owner == ""


class JobsApi:
    """The routes, over a store.

    `services` are those that this program has queues for, `admit` is asked before a retry,
    `running` counts the jobs of a service that run (without it, `running` of a queue is null),
    `publishes` says whether anything is published of a settled record, `operates` says who may
    stop and purge queues, and `stopped` is told of a queue that is paused or goes on.
    """

    def __init__(
        self,
        store: JobStore,
        watches: Watches,
        clock: Clock,
        services: Callable[[], Iterable[ServiceName]],
        *,
        outlook: Outlook | None = None,
        admit: Admit | None = None,
        running: Callable[[ServiceName], Awaitable[int]] | None = None,
        publishes: Callable[[Record], bool] = lambda _: True,
        operates: Callable[[Caller], bool] = everybody_if_open,
        stopped: Callable[[ServiceName, bool], Awaitable[None]] | None = None,
        streams: StreamSettings | None = None,
    ) -> None:
        self._store = store
        self._watches = watches
        self._clock = clock
        self._services = services
        self._outlook = outlook or Outlook()
        self._admit = admit
        self._running = running
        self._operates = operates
        self._stopped = stopped
        self._changes = Changes(store, clock, publishes)
        self.streams = Streams(store, watches, clock, self._outlook, streams)
        one, queue = f"{JOBS_PATH}/{{id}}", f"{QUEUES_PATH}/{{namespace}}/{{name}}"
        self.app = Starlette(
            routes=[
                Route(JOBS_PATH, _answering(self._list), methods=["GET"]),
                Route(one, _answering(self._get), methods=["GET"]),
                Route(one, _answering(self._delete), methods=["DELETE"]),
                Route(f"{one}/result", _answering(self._result), methods=["GET"]),
                Route(f"{one}/events", _answering(self._events), methods=["GET"]),
                Route(f"{one}/cancel", _answering(self._cancel), methods=["POST"]),
                Route(f"{one}/retry", _answering(self._retry), methods=["POST"]),
                Route(QUEUES_PATH, _answering(self._queues), methods=["GET"]),
                Route(f"{queue}/pause", _answering(self._pause), methods=["POST"]),
                Route(f"{queue}/resume", _answering(self._resume), methods=["POST"]),
                Route(f"{queue}/purge", _answering(self._purge), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _no_route},
        )
        self.app.router.redirect_slashes = False

    def in_front_of(self, app: ASGIApp) -> ASGIApp:
        """One ASGI app: this API on its own paths, and `app` for every other."""

        def route(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            ours = scope["type"] == "http" and _is_ours(scope["path"])
            return (self.app if ours else app)(scope, receive, send)

        return route

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        for name in query.keys() - set(_OF_LIST):
            # A filter with a wrong name would show jobs that nobody asked for.
            raise BadQuery(f"{one_line(name)[:_SHOWN]}: write one of {', '.join(_OF_LIST)} instead")
        limit = _number("limit", query.get("limit") or str(PAGE), 1, MAX_PAGE)
        after = query.get("after") or None
        start = _place_of(after) if after is not None else None
        if after is not None and start is None and not is_job_id(after):
            raise BadQuery("after: write the id of the last job, or last_id, of the page before")
        wanted = Filter(
            owner=caller_of(request.scope).owner,
            service=_service_named(query.get("service") or ""),
            states=_states_named(query.getlist("status")),
        )
        if after is not None and start is None:
            await self._changes.seen(after, caller_of(request.scope).owner)
        reading = self._page(wanted, after if start is None else start, limit)
        return json_response(await while_there(request.receive, reading))

    async def _page(self, wanted: Filter, after: str | int | None, limit: int) -> Json:
        """Up to `limit` jobs, whether there may be more, and where they go on."""
        page: list[Json] = []
        last: str | None = None
        has_more = False
        try:
            # A filter may pass few of a million jobs.
            async with closing(self._store.listed(wanted, after, most=MOST_READ)) as found:
                async for seen in found:
                    if len(page) == limit:
                        has_more = True
                        break
                    if not no_longer_shown(seen, self._clock.now()):
                        page.append(job_object(seen))
                        last = told(seen).id
        except ReadEnough as enough:
            has_more, last = True, f"read-{enough.place}"
        return {"object": "list", "data": page, "has_more": has_more, "last_id": last}

    async def _get(self, request: Request) -> Response:
        wait_s = _number("wait", request.query_params.get("wait") or "0", 0, MAX_WAIT_S)
        seen = await self._seen(request)
        if wait_s and seen.state not in SETTLED:
            stored = told(seen)
            id_, round_ = stored.id, stored.round
            del seen, stored  # the body of a request is not held while somebody waits
            await self._watches.settled(id_, round_, wait_s, request.receive)
            seen = await self._seen(request)
        return await self._job(seen)

    async def _result(self, request: Request) -> Response:
        seen = await self._seen(request)
        record = seen.current
        if record is None or not record.settled:
            raise NotSettled(f"job {told(seen).id} is {seen.state}: ask again later")
        return await answer_of(self._store, record, {"Relume-Job": record.id})

    async def _events(self, request: Request) -> Response:
        after = position_of(
            request.headers.get("last-event-id"), request.query_params.get("starting_after")
        )
        owner = caller_of(request.scope).owner
        stream = self.streams.of(await self._seen(request), after, owner)
        return Response(headers=stream.headers) if request.method == "HEAD" else stream

    async def _cancel(self, request: Request) -> Response:
        owner = caller_of(request.scope).owner
        return await self._job(await self._changes.cancel(request.path_params["id"], owner))

    async def _retry(self, request: Request) -> Response:
        seen = await self._seen(request)
        if self._admit is not None and seen.job is not None and seen.state in SETTLED:
            refusal = await self._admit(seen.job, None)
            if refusal is not None:
                return refused_by(refusal)
        owner = caller_of(request.scope).owner
        return await self._job(await self._changes.retry(request.path_params["id"], owner), 202)

    async def _delete(self, request: Request) -> Response:
        await self._changes.delete(request.path_params["id"], caller_of(request.scope).owner)
        return Response(status_code=204)

    async def _queues(self, request: Request) -> Response:
        caller, paused = caller_of(request.scope), await self._store.paused()
        queues = [await self._queue(each, caller, paused) for each in self._services()]
        return json_response({"object": "list", "data": queues})

    async def _pause(self, request: Request) -> Response:
        return await self._set_paused(request, True)

    async def _resume(self, request: Request) -> Response:
        return await self._set_paused(request, False)

    async def _purge(self, request: Request) -> Response:
        service = self._operated(request)
        cancelled = await self._changes.purge(service)
        return json_response(
            {"object": "queue.purge", "service": str(service), "cancelled": cancelled}
        )

    async def _set_paused(self, request: Request, paused: bool) -> Response:
        service = self._operated(request)
        await self._store.pause(service, paused)
        if self._stopped is not None:
            await self._stopped(service, paused)
        caller = caller_of(request.scope)
        return json_response(await self._queue(service, caller, await self._store.paused()))

    async def _queue(
        self, service: ServiceName, caller: Caller, paused: frozenset[ServiceName]
    ) -> Json:
        lanes = await self._store.lanes(service)
        sees_all = self._operates(caller)
        return {
            "service": str(service),
            "waiting": sum(lanes.values()),
            "running": None if self._running is None else await self._running(service),
            "paused": service in paused,
            "lanes": [
                {"priority": lane.priority, "tenant": lane.tenant, "waiting": waiting}
                for lane, waiting in sorted(lanes.items())
                if sees_all or lane.tenant == caller.tenant
            ],
        }

    async def _seen(self, request: Request) -> Seen:
        return await self._changes.seen(request.path_params["id"], caller_of(request.scope).owner)

    async def _job(self, seen: Seen, status: int = 200) -> Response:
        position, starts_in_s = await place_in_queue(self._store, self._outlook, seen)
        shown = job_object(seen, position=position, predicted_start_s=starts_in_s)
        return json_response(shown, status)

    def _operated(self, request: Request) -> ServiceName:
        """The service whose queue the caller may change. Raises NotAllowed and Unroutable."""
        if not self._operates(caller_of(request.scope)):
            raise NotAllowed("only an operator may pause, resume or purge a queue")
        service = ServiceName(request.path_params["namespace"], request.path_params["name"])
        if service not in set(self._services()):
            raise Unroutable(f"there is no service {one_line(str(service))}")
        return service


def _place_of(after: str) -> int | None:
    """The place that a `last_id` of the form `read-N` names; None where it is no such mark."""
    found = _MARK.fullmatch(after)
    return None if found is None else int(found[1])


_OURS = (JOBS_PATH, QUEUES_PATH)


def _is_ours(path: str) -> bool:
    if not path.startswith(_OURS):
        return False
    return any(path == each or path.startswith(f"{each}/") for each in _OURS)


def _answering(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            check_page(request.scope)
            return await handler(request)
        except ClientGone:
            return Response(status_code=499)  # nobody reads it
        except REFUSED as error:
            return refusal_of(error)

    return answer


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = "method-not-allowed" if error.status_code == 405 else "not-found"
    words = "this path has other methods" if error.status_code == 405 else "there is no such path"
    return refused(error.status_code, words, reason, error.headers)


def _number(name: str, text: str, least: int, most: int) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise BadQuery(f"{name}: write a number from {least} to {most}")
    return int(text)


def _service_named(text: str) -> ServiceName | None:
    if not text:
        return None
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise BadQuery("service: write NAMESPACE/NAME")
    return ServiceName(namespace, name)


def _states_named(values: Iterable[str]) -> tuple[State, ...]:
    """The states of `?status=failed,dead`, or of the parameter given several times."""
    named = {word for value in values for word in value.split(",") if word}
    if named - set(_STATES):
        raise BadQuery(f"status: write one or more of {', '.join(_STATES)}")
    return tuple(state for state in _STATES if state in named)
