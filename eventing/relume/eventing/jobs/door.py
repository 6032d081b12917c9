"""The door: a request with `Prefer: respond-async` becomes a job, every other passes untouched.

It stands in front of the application that answers at once. The answer is 202 only after the store
has the job. With `wait=N` the model's own answer is given if it is there in N seconds.

Two requests with one key are one job, whenever they come:

- The key was used before: `look` finds the job, and nothing is stored. Its digest tells whether the
  request is the same. That holds for a deleted job too, whose record is kept as a tombstone.
- Two come at once, and `look` finds nothing for both: the store takes one of them and tells the
  other what it has. A large body that the other has stored lies there until its time is over.
- The first one was withdrawn while the second came: the key is free, and a new job begins.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.clock import Clock
from relume.cloudevents.asgi import ClientGone, headers_of
from relume.cloudevents.http import Headers, mode_of
from relume.eventing.intake import Intake
from relume.eventing.jobs.answers import (
    REFUSED,
    Gone,
    Refusal,
    Unroutable,
    answer_of,
    json_response,
    refusal_of,
    refused_by,
)
from relume.eventing.jobs.caller import caller_of
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.job import Job, ServiceName, digest_of, digesting, id_for
from relume.eventing.jobs.payloads import in_parts
from relume.eventing.jobs.preferences import AsyncPreference, async_preference
from relume.eventing.jobs.request_body import JSON_TYPE, RequestBody, is_json, parsed
from relume.eventing.jobs.settings import JobSettings, lifetime_s
from relume.eventing.jobs.shapes import (
    job_object,
    self_link,
    told,
    without_body,
)
from relume.eventing.jobs.state import SETTLED, is_shown
from relume.eventing.jobs.store import JobStore, KeyInUse, NoSuchJob, Seen
from relume.eventing.jobs.watching import Watches
from relume.eventing.jobs.wishes import (
    KEY,
    Wishes,
    kept_headers,
    priority_of_tier,
    wishes_of,
)

_PREFER = b"prefer"
_APPLIED = "Preference-Applied"
_REQUEST = "request"  # the name of a large body in the object store

#: Says why a job is not admitted now, or None. It is asked only for jobs that are not stored yet,
#: with their body as JSON where that was read already (or else None).
Admit = Callable[[Job, object], Awaitable[Refusal | None]]


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for.

    `route` is the path at the predictor, still percent-encoded, with its query. `body` is the body
    that the predictor gets where it is another one than came (the model has another name there).
    """

    service: ServiceName
    route: str
    body: bytes | None = None


class NeedsBody(Exception):
    """Only the body of the request names its service."""


class Resolve(Protocol):
    """Finds the service of a request; the program that has the door knows its services."""

    def __call__(self, scope: Scope, body: bytes | None) -> Target | None:
        """None: the request is not for a route of a model, and passes.

        `body` is None at first, while it is not read. Raises NeedsBody then, where the address
        alone does not say enough, and Unroutable where there is no such service or model.
        """
        ...


class Door:
    """The ASGI application in front of `app`."""

    def __init__(
        self,
        app: ASGIApp,
        store: JobStore,
        resolve: Resolve,
        watches: Watches,
        clock: Clock,
        *,
        settings: JobSettings,
        limits: DoorSettings | None = None,
        admit: Admit | None = None,
    ) -> None:
        self._app = app
        self._store = store
        self._resolve = resolve
        self._watches = watches
        self._clock = clock
        self._settings = settings
        self._limits = limits or DoorSettings()
        self._admit = admit
        self.intake = Intake(self._limits.intake_bytes, self._limits.small_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefer = _prefer(scope)
        if prefer is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._answer(prefer, scope, receive)
        except ClientGone:
            return
        except REFUSED as error:
            response = refusal_of(error)
        await (response or self._app)(scope, receive, send)

    async def _answer(
        self, prefer: AsyncPreference, scope: Scope, receive: Receive
    ) -> Response | None:
        """None: the request is not for a model. Raises REFUSED and ClientGone."""
        try:
            target = self._resolve(scope, None)
            if target is None:
                return None
        except NeedsBody:
            target = None
        headers = headers_of(scope)
        if mode_of(headers) is not None:
            words = "post events to /events/NAMESPACE/NAME/ROUTE, where their answer is an event"
            raise Unroutable(words, reason="event", status=400)
        wishes = wishes_of(headers, self._limits)
        asked = _Asked(scope, receive, headers, prefer, wishes, _content_type(headers))
        with self.intake.reading(receive) as counted:
            entered = await self._enter(asked, target, RequestBody(counted, headers))
        if isinstance(entered, Response):
            return entered
        if prefer.wait_s is not None:
            entered = without_body(entered)  # it is not held while its caller waits
        return await self._told(entered, prefer.wait_s, receive)

    async def _enter(
        self, asked: "_Asked", target: Target | None, body: RequestBody
    ) -> Seen | Response:
        """What is stored of the job, new or not; or why the job is not admitted."""
        # Before anything of it has come.
        whole = target is None or is_json(asked.content_type)
        body.check(self._most_json if whole else self._settings.max_body_bytes)
        await body.read(self._settings.inline_bytes)
        if target is None or body.complete or whole:
            return await self._enter_whole(asked, target, body)
        return await self._enter_stream(asked, target, body)

    @property
    def _most_json(self) -> int:
        """How large a body may be that is read as a whole before it is stored."""
        return min(self._limits.max_json_bytes, self._settings.max_body_bytes)

    async def _enter_whole(
        self, asked: "_Asked", target: Target | None, body: RequestBody
    ) -> Seen | Response:
        """Read all of the body and check it before anything is stored."""
        most = self._most_json
        if not body.complete or body.size > most:
            await body.read_all(most)
        raw = body.whole()
        value = parsed(raw) if is_json(asked.content_type) else None
        if target is None and (target := self._resolve(asked.scope, raw)) is None:
            raise Unroutable("nothing in this request names a service")
        tier = value.get("service_tier") if isinstance(value, dict) else None
        digest = digest_of(target.service, target.route, asked.content_type, raw)
        sent = raw if target.body is None else target.body
        job = self._job(asked, target, tier, digest, sent)
        if asked.wishes.key is not None and (known := await self._known(job)) is not None:
            return _same(known, job.digest)
        if self._admit is not None and (refusal := await self._admit(job, value)) is not None:
            return refused_by(refusal)
        if len(sent) > self._settings.inline_bytes:
            job = await self._put(job, in_parts(sent))
        _, seen = await self._store.submit(job, self._settings.store_patience_s)
        return _same(seen, job.digest)

    async def _enter_stream(
        self, asked: "_Asked", target: Target, body: RequestBody
    ) -> Seen | Response:
        """Store the body as it comes in: it is large, and only the predictor can read it."""
        most = self._settings.max_body_bytes
        body.check(most)
        # The size counts against the bound of the tenant.
        job = replace(self._job(asked, target), size=body.expected)
        digest = digesting(job.service, job.route, job.content_type)

        async def parts() -> AsyncIterator[bytes]:
            async for part in body.stream(most, asked.receive):
                digest.update(part)
                yield part

        if asked.wishes.key is not None and (known := await self._known(job)) is not None:
            async for _ in parts():
                pass
            return _same(known, digest.hexdigest())
        if self._admit is not None and (refusal := await self._admit(job, None)) is not None:
            return refused_by(refusal)
        job = await self._put(job, parts())
        job = replace(job, digest=digest.hexdigest(), size=body.size)
        _, seen = await self._store.submit(job, self._settings.store_patience_s)
        return _same(seen, job.digest)

    def _job(
        self,
        asked: "_Asked",
        target: Target,
        tier: object = None,
        digest: str = "",
        body: bytes = b"",
    ) -> Job:
        caller = caller_of(asked.scope)
        return Job(
            id=id_for(caller.owner, asked.wishes.key),
            service=target.service,
            route=target.route,
            tenant=caller.tenant,
            owner=caller.owner,
            priority=asked.wishes.priority or priority_of_tier(tier),
            limits=asked.wishes.limits,
            accepted_at=self._clock.now(),
            digest=digest,
            content_type=asked.content_type,
            body=body,
            headers=kept_headers(asked.headers, asked.prefer, self._limits.max_header_bytes),
        )

    async def _known(self, job: Job) -> Seen | None:
        """What is stored under the key of the request already."""
        try:
            return await self._store.look(job.id)
        except NoSuchJob:
            return None

    async def _put(self, job: Job, body: AsyncIterator[bytes]) -> Job:
        """The job with its body in the object store, for as long as the request may be needed."""
        lasts_s = lifetime_s(job.limits)
        payload = await self._store.put_payload(job.id, _REQUEST, body, lasts_s=lasts_s)
        return replace(job, body=b"", payload=payload, size=max(job.size, len(job.body)))

    async def _told(self, seen: Seen, wait_s: int | None, receive: Receive) -> Response:
        """The answer about a stored job; with `wait_s` the model's own, if it comes in time."""
        stored = told(seen)
        job_id, record = stored.id, seen.current
        if record is not None and not is_shown(record, self._clock.now()):
            raise Gone(
                f"{KEY}: job {job_id} had this key, and its answer is not kept any more: "
                "give this request a key of its own"
            )
        if wait_s is not None:
            wait_s = min(wait_s, self._limits.max_wait_s)
            if record is None or not record.settled:
                record = await self._watches.settled(job_id, stored.round, wait_s, receive)
            if record is not None:
                applied = f"respond-async, wait={wait_s}"
                headers = {"Relume-Job": job_id, _APPLIED: applied}
                return await answer_of(self._store, record, headers)
            seen = await self._store.look(job_id)
        status = 200 if seen.state in SETTLED else 202
        headers = {"Location": self_link(job_id), _APPLIED: "respond-async"}
        return json_response(job_object(seen), status, headers)


class _Asked(NamedTuple):
    """A request before its body is read."""

    scope: Scope
    receive: Receive
    headers: Headers
    prefer: AsyncPreference
    wishes: Wishes
    content_type: str


def _content_type(headers: Headers) -> str:
    """JSON, where the client names no type."""
    for name, value in headers:
        if name == "content-type":
            return value or JSON_TYPE
    return JSON_TYPE


def _prefer(scope: Scope) -> AsyncPreference | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == _PREFER]
    return async_preference(values) if values else None


def _same(seen: Seen, digest: str) -> Seen:
    """What is stored of the same request. Raises KeyInUse when it is another."""
    stored = seen.record or seen.job
    if stored is not None and stored.digest != digest:
        raise KeyInUse(
            f"{KEY}: job {stored.id} has this key already, with another request: "
            "give this one a key of its own"
        )
    return seen
