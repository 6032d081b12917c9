"""What a request about a job is answered with: its model's stored answer, or a refusal.

A refusal is a JSON object of `error` and `reason`.
"""

import math
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from relume.base.errors import InvalidInput, RelumeError
from relume.base.vocabulary import BODY_FOLLOWS, Json
from relume.eventing.event_log import DiskFull, StoreUnavailable
from relume.eventing.intake import DoorFull
from relume.eventing.jobs.state import JobConflict, Record
from relume.eventing.jobs.store import (
    JobStore,
    JobTooLarge,
    KeyInUse,
    NoSuchJob,
    NoSuchPayload,
    Outrun,
)
from relume.eventing.jobs.watching import closing

_CLOSE = {"Connection": "close"}  # the rest of the request is not read


class BodyTooLarge(RelumeError):
    """The body of a request is larger than a job's may be."""

    reason = "body-too-large"


class NotAllowed(RelumeError):
    """Only somebody else may do this."""

    reason = "not-allowed"


class Gone(RelumeError):
    """There was an answer, or a request, and it is not kept any more."""

    reason = "gone"


class NotSettled(RelumeError):
    """There is no answer yet."""

    reason = "not-settled"
    retryable = True


class NoAnswer(RelumeError):
    """The job has ended, and its model never answered."""

    reason = "no-answer"


class NotPublished(RelumeError):
    """The events of a settled job are not published yet, and the change would lose them."""

    reason = "not-published"
    retryable = True


class TooManyOfOne(RelumeError):
    """One caller reads as many streams as one caller may."""

    reason = "too-many-streams"


class TooManyStreams(RelumeError):
    """As many clients read streams as may."""

    reason = "too-many-streams"
    retryable = True


class Unroutable(InvalidInput):
    """No service can be found for a request: `status` is 404 or 400."""

    reason = "service-unknown"

    def __init__(self, message: str, *, reason: str | None = None, status: int = 404) -> None:
        super().__init__(message, reason=reason)
        self.status = status


class Refusal(Protocol):
    """Why a job is not admitted: `retry_after_s` is when it may be."""

    @property
    def reason(self) -> str: ...

    @property
    def retry_after_s(self) -> float: ...

    def __str__(self) -> str: ...


# Each refusal's status and headers. A subclass comes before its base.
_STATUSES: Mapping[type[RelumeError], tuple[int, Mapping[str, str]]] = {
    KeyInUse: (409, {}),
    NoSuchJob: (404, {}),
    InvalidInput: (400, {}),
    NotAllowed: (403, {}),
    JobConflict: (409, {}),
    NoAnswer: (409, {}),
    NotSettled: (409, {"Retry-After": "1"}),
    Gone: (410, {}),
    NoSuchPayload: (410, {}),
    BodyTooLarge: (413, _CLOSE),
    JobTooLarge: (413, {}),
    DoorFull: (503, {"Retry-After": "1", **_CLOSE}),
    StoreUnavailable: (503, {"Retry-After": "1"}),  # nats-server restarts within a second
    DiskFull: (503, {"Retry-After": "30"}),  # somebody must make room
    Outrun: (503, {"Retry-After": "1"}),
    NotPublished: (503, {"Retry-After": "5"}),
    TooManyStreams: (503, {"Retry-After": "5"}),
    TooManyOfOne: (429, {"Retry-After": "5"}),
    RelumeError: (500, {}),  # what lies in the store is damaged
}
REFUSED = tuple(_STATUSES)


def refusal_of(error: RelumeError) -> Response:
    """The answer to a request that raised one of REFUSED."""
    if isinstance(error, Unroutable):
        return refused(error.status, str(error), error.reason)
    kind = next(kind for kind in type(error).__mro__ if kind in _STATUSES)
    status, headers = _STATUSES[kind]
    return refused(status, str(error), error.reason, headers)


def refused(
    status: int, message: str, reason: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A refusal in words, and with one stable word as its reason."""
    # The words may repeat half of a surrogate pair, which JSON can say and UTF-8 cannot.
    words = message.encode(errors="backslashreplace").decode()
    return json_response({"error": words, "reason": reason}, status, headers)


def json_response(
    content: Json, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of ours."""
    return _JsonResponse(orjson.dumps(content), status, headers or {})


class _JsonResponse(Response):
    """A Response that takes no detours: each accepted job has one."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]
        for name, value in headers.items():
            self.raw_headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, BODY_FOLLOWS: True}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def refused_by(refusal: Refusal) -> Response:
    """The answer to a request whose job is not admitted now."""
    headers = {"Retry-After": str(max(1, math.ceil(refusal.retry_after_s)))}
    return refused(429, str(refusal), refusal.reason, headers)


async def answer_of(store: JobStore, record: Record, headers: Mapping[str, str]) -> Response:
    """The stored answer of a settled job, with its own status and content type.

    Raises Gone, NoSuchPayload, NoAnswer and StoreUnavailable.
    """
    if record.deleted:
        raise Gone(f"the answer of job {record.id} was deleted", reason="deleted")
    if (result := record.result) is None:
        why = f" ({record.detail or record.reason})" if record.detail or record.reason else ""
        raise NoAnswer(f"job {record.id} is {record.state} and has no answer{why}")
    shown = {**headers, "content-type": result.content_type}
    if result.payload is None:
        return Response(result.body, result.status, shown)
    parts = store.payload(result.payload)
    # The first part shows that it is there, before a status is sent.
    first = await anext(parts, b"")
    return StreamingResponse(_joined(first, parts), result.status, shown)


async def _joined(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with closing(parts):
        yield first
        async for part in parts:
            yield part
