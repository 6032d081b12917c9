"""The door for events: each becomes a job, whose answer is an event at a Broker later.

`POST /events/NAMESPACE/NAME/ROUTE[?broker=NAMESPACE/NAME]` takes one CloudEvent in binary or
structured mode, as a Trigger delivers it. ROUTE is the path at the predictor; without one, the data
says it. The answer goes to the Broker that is named, else to the configured sink (`K_SINK`).

| what came | answer |
|---|---|
| an event | 202, empty, with `Location`: it is stored, now or before |
| the same (source, id) at the same address, with other data | 409 `key-in-use` |
| an event that can never be answered: expired, a bad extension, a `dataref` that is not allowed | \
the error event: 200 for a Broker (`Prefer: reply`), else 400 |
| our own type of answer | 202; it is counted, and no job |
| no event, a batch | 400 |
| too large, or with attributes for whose answer there is no room | 413 |
| too many jobs of its tenant | 429 + Retry-After |
| not stored; the host of a `dataref` does not answer | 503 + Retry-After |

The tenant is that of the caller, and without a key the source of the event. The extensions by which
an event says how its job is to be done are in `extensions`, what `dataref` may name is in
`dataref`. An event that has data besides a `dataref` is taken by its data.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.errors import RelumeError
from relume.base.vocabulary import DATAREF, OWN_TYPES
from relume.cloudevents.asgi import ClientGone, headers_of
from relume.cloudevents.event import CloudEvent, InvalidEvent, rfc3339
from relume.cloudevents.http import Headers, Mode, decode, encode, mode_of
from relume.eventing import refusals
from relume.eventing.answer_event import error_data, error_event, source_of
from relume.eventing.envelope import going_out
from relume.eventing.event_log import BrokerKey
from relume.eventing.header_room import check_room
from relume.eventing.intake import Intake
from relume.eventing.jobs import answers
from relume.eventing.jobs.answers import Unroutable
from relume.eventing.jobs.caller import caller_of
from relume.eventing.jobs.dataref import (
    DatarefRefused,
    Datarefs,
    DatarefTooLarge,
    DatarefUnavailable,
)
from relume.eventing.jobs.door import Admit
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.extensions import Expired, InvalidExtension, wanted_of
from relume.eventing.jobs.job import Job, ServiceName, digest_of, id_for
from relume.eventing.jobs.payloads import in_parts, stow
from relume.eventing.jobs.settings import JobSettings, lifetime_s
from relume.eventing.jobs.shapes import self_link
from relume.eventing.jobs.sinks import BrokerNotAllowed
from relume.eventing.jobs.store import JobStore, KeyInUse, NoSuchJob, Seen
from relume.eventing.producer_headers import forwarded_of, prefers_reply, trace_of
from relume.eventing.settings import EventingSettings
from relume.eventing.upload import uploaded

#: Where events are posted.
EVENTS_PATH = "/events"
_WRITE = f"post to {EVENTS_PATH}/NAMESPACE/NAME/ROUTE"
_DEFAULT_TYPE = "application/json"
# What says that an event can never be answered.
_FINAL = (Expired, InvalidExtension, DatarefRefused, DatarefTooLarge)
_HERE: Mapping[type[RelumeError], tuple[int, Mapping[str, str]]] = {
    DatarefUnavailable: (503, {"Retry-After": "5"}),
    BrokerNotAllowed: (403, {}),
}


@dataclass(frozen=True, slots=True)
class _Address:
    """What the URL of a request says. `route` is still percent-encoded and has its query."""

    service: ServiceName
    route: str
    broker: BrokerKey | None

    def key_of(self, event: CloudEvent) -> str:
        """(source, id) at this address: two Triggers may send one event to two services."""
        where = f"{self.service}\0{self.route}\0{self.broker or ''}"
        return f"event\0{where}\0{event.source}\0{event.id}"


class EventsDoor:
    """The ASGI application for all paths below `EVENTS_PATH`.

    `serves` says whether there is a service of this name. `reply_to` is where the answer goes when
    this Broker, or none, is named (`Sinks.reply_to`); None: nobody gets it, and the result can be
    read at the job. `admit` is asked for each new job. `datarefs` fetches data that is only
    referred to (None: nothing is fetched).
    """

    def __init__(
        self,
        store: JobStore,
        serves: Callable[[ServiceName], bool],
        reply_to: Callable[[BrokerKey | None], str | None],
        clock: Clock,
        *,
        settings: JobSettings,
        limits: DoorSettings | None = None,
        eventing: EventingSettings | None = None,
        admit: Admit | None = None,
        datarefs: Datarefs | None = None,
    ) -> None:
        self._store = store
        self._serves = serves
        self._reply_to = reply_to
        self._clock = clock
        self._settings = settings
        self._limits = limits or DoorSettings()
        self._eventing = eventing or EventingSettings()
        self._admit = admit
        self._datarefs = datarefs
        self.intake = Intake(self._eventing.intake_bytes, self._eventing.small_bytes)
        self.accepted = self.duplicates = self.ignored = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"events come by HTTP, not {scope['type']}")
        response = refusals.answer_without_event(scope, batches=False)
        try:
            if response is None:
                with self.intake.reading(receive) as counted:
                    response = await self._answer(scope, counted)
        except ClientGone:
            return
        except (InvalidEvent, RelumeError) as error:
            response = _refusal_of(error)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        address, headers = _address_of(scope), headers_of(scope)
        if not self._serves(address.service):
            raise Unroutable(f"there is no service {address.service}")
        reply_to = self._reply_to(address.broker)
        if mode_of(headers) is Mode.BATCH:
            raise InvalidEvent("a batch is not taken here: send one event a request")
        body = await uploaded(receive, headers, self._eventing)
        message = decode(headers, body, lenient=not self._eventing.strict_events)
        event = message.event
        if event.type in OWN_TYPES:
            self.ignored += 1
            return Response(status_code=202)
        check_room(event.attributes)
        try:
            return await self._enter(self._draft(scope, address, headers, event, reply_to), event)
        except _FINAL as error:
            return self._final(address.service, event, error, message.mode, headers)

    def _draft(
        self,
        scope: Scope,
        address: _Address,
        headers: Headers,
        event: CloudEvent,
        reply_to: str | None,
    ) -> Job:
        """The job of an event, yet without what its extensions ask for and without its data."""
        if "traceparent" not in event.attributes:
            event = event.with_attributes(**trace_of(headers))
        caller, content_type = caller_of(scope), event.datacontenttype or _DEFAULT_TYPE
        # What is only referred to is known by its reference: it is not fetched to be compared.
        data = event.data
        if data is None and (reference := event.attributes.get(DATAREF)) is not None:
            data = f"{DATAREF}\0{reference}".encode()
        return Job(
            id=id_for(caller.owner, address.key_of(event)),
            service=address.service,
            route=address.route,
            tenant=caller.tenant if caller.is_known else event.source,
            owner=caller.owner,
            priority="normal",
            limits=self._limits.defaults,
            accepted_at=self._clock.now(),
            digest=digest_of(address.service, address.route, content_type, data or b""),
            content_type=content_type,
            headers=forwarded_of(headers),
            event=going_out(event).attributes,
            reply_to=reply_to,
        )

    async def _enter(self, job: Job, event: CloudEvent) -> Response:
        """Store the job, or find it stored. Raises `_FINAL` where there can be no answer."""
        if await self._is_known(job):
            self.duplicates += 1
            return _accepted(job)
        # Only now: an event that was accepted in time is not refused when it comes again too late.
        priority, limits = wanted_of(event.attributes, self._limits, job.accepted_at)
        job = replace(job, priority=priority, limits=limits)
        asked = replace(job, body=event.data or b"")  # its size counts against its tenant's bound
        if self._admit is not None and (refusal := await self._admit(asked, None)) is not None:
            return answers.refused_by(refusal)
        job = await self._with_data(job, event)
        new, seen = await self._store.submit(job, self._settings.store_patience_s)
        _check_same(seen, job)
        self.accepted += new
        self.duplicates += not new
        return _accepted(job)

    async def _is_known(self, job: Job) -> bool:
        try:
            _check_same(await self._store.look(job.id), job)
        except NoSuchJob:
            return False
        return True

    async def _with_data(self, job: Job, event: CloudEvent) -> Job:
        """The job with its data, which lies in the object store where it is long."""
        async with self._data_of(event) as (content_type, data):
            body, payload = await stow(
                self._store,
                job.id,
                "request",
                data,
                self._settings.inline_bytes,
                lifetime_s(job.limits),
            )
        job = replace(job, body=body, payload=payload)
        if event.data is not None or job.event is None or DATAREF not in job.event:
            return job
        # From here on the event carries its data.
        told = {name: value for name, value in job.event.items() if name != DATAREF}
        media_type = event.datacontenttype or content_type or _DEFAULT_TYPE
        told["datacontenttype"] = media_type
        return replace(job, event=told, content_type=media_type)

    @asynccontextmanager
    async def _data_of(
        self, event: CloudEvent
    ) -> AsyncIterator[tuple[str | None, AsyncIterator[bytes]]]:
        """The data of an event as it comes, and its media type where only its host says it."""
        reference = event.attributes.get(DATAREF)
        if event.data is not None or reference is None:
            yield None, in_parts(event.data or b"")
            return
        if self._datarefs is None:
            raise DatarefRefused(f"{DATAREF}: nothing is fetched here; send the data in the event")
        async with self._datarefs.fetched(reference) as referred:
            yield referred.content_type, referred.data

    def _final(
        self,
        service: ServiceName,
        event: CloudEvent,
        error: RelumeError,
        mode: Mode,
        headers: Headers,
    ) -> Response:
        """The error event at once, as the predictor answers what can never succeed."""
        reply = error_event(
            event.attributes,
            error_data(400, error.reason, str(error)),
            source=source_of(service.namespace, service.name),
            time=rfc3339(self._clock.now()),
            counts={},
        )
        sent, content = encode(reply, mode)
        return Response(content, 200 if prefers_reply(headers) else 400, dict(sent))


def _accepted(job: Job) -> Response:
    return Response(status_code=202, headers={"Location": self_link(job.id)})


def _check_same(seen: Seen, job: Job) -> None:
    """Raises KeyInUse when what is stored is the job of another event."""
    stored = seen.record or seen.job
    if stored is not None and stored.digest != job.digest:
        raise KeyInUse(
            f"job {stored.id} came as an event with this source and id, and with other data: "
            "give this one an id of its own"
        )


def _refusal_of(error: InvalidEvent | RelumeError) -> Response:
    if isinstance(error, InvalidEvent) or type(error) in refusals.REFUSED:
        return refusals.refusal_of(error)
    if (here := _HERE.get(type(error))) is not None:
        status, headers = here
        return refusals.refused(status, str(error), error.reason, headers)
    return answers.refusal_of(error)


def _address_of(scope: Scope) -> _Address:
    """Raises Unroutable for a path that names no service, or a query that names no Broker."""
    if any(part in (".", "..") for part in scope["path"].split("/")):
        raise Unroutable(f"{_WRITE}, without . and ..", reason="bad-path", status=400)
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    parts = raw.decode("latin-1").split("/", 4)
    if len(parts) < 4 or not parts[2] or not parts[3]:
        raise Unroutable(_WRITE, reason="bad-path", status=400)
    query = [each for each in scope["query_string"].decode("latin-1").split("&") if each]
    named = [unquote(each.partition("=")[2]) for each in query if _is_broker(each)]
    rest = "&".join(each for each in query if not _is_broker(each))
    route = "/" + "".join(parts[4:]) + (f"?{rest}" if rest else "")
    return _Address(ServiceName(parts[2], parts[3]), route, _broker_of(named))


def _is_broker(parameter: str) -> bool:
    return parameter.partition("=")[0] == "broker"


def _broker_of(named: list[str]) -> BrokerKey | None:
    if not named:
        return None
    namespace, _, name = named[0].partition("/")
    if len(named) > 1 or not namespace or not name or "/" in name:
        words = "broker: write it once, as ?broker=NAMESPACE/NAME"
        raise Unroutable(words, reason="bad-query", status=400)
    return BrokerKey(namespace, name)
