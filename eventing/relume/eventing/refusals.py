"""What the Broker's door answers where it stores nothing (checklist B1 and B2).

A refusal is a JSON object of `error` and `reason`. OPTIONS is answered with what may be sent.
"""

from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from relume.base.errors import RelumeError
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import BATCH_TYPE, STRUCTURED_TYPE
from relume.eventing.envelope import TtlExhausted
from relume.eventing.event_log import (
    BrokerFull,
    BrokerKey,
    DiskFull,
    EventTooLarge,
    StoreUnavailable,
)
from relume.eventing.header_room import AttributesTooLong
from relume.eventing.intake import DoorFull
from relume.eventing.settings import EventingSettings

_ALLOW = {"Allow": "POST, OPTIONS"}
# http-webhook.md §4: anybody may send, as often as they like.
_WEBHOOK = {**_ALLOW, "WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}


class TooSlow(RelumeError):
    """A producer took too long to send its request."""

    reason = "request-too-slow"
    retryable = True


# Each refusal's status, and its headers.
_STATUSES: Mapping[type[InvalidEvent] | type[RelumeError], tuple[int, dict[str, str]]] = {
    InvalidEvent: (400, {}),
    TtlExhausted: (400, {}),
    EventTooLarge: (413, {}),
    AttributesTooLong: (413, {}),
    # The rest of the request is still on its way, so this connection has no other use.
    TooSlow: (408, {"Connection": "close"}),
    DoorFull: (503, {"Connection": "close", "Retry-After": "1"}),
    StoreUnavailable: (503, {"Retry-After": "1"}),  # nats-server restarts within a second
    BrokerFull: (503, {"Retry-After": "5"}),  # there is room when Triggers have settled more
    DiskFull: (507, {}),
}
REFUSED = tuple(_STATUSES)


def refusal_of(error: InvalidEvent | RelumeError) -> JSONResponse:
    """The answer to a request that raised one of REFUSED."""
    status, headers = _STATUSES[type(error)]
    return refused(status, str(error), error.reason, headers)


def refused(
    status: int, message: str, reason: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A refusal in words, and with one stable word as its reason."""
    return JSONResponse({"error": message, "reason": reason}, status, headers)


def answer_without_event(scope: Scope, *, batches: bool) -> Response | None:
    """The answer to a request that is no POST; None: it is one.

    A batch is sent only to a receiver that asks for `batches` (HTTP binding §1.3).
    """
    if scope["method"] == "OPTIONS":
        taken = (STRUCTURED_TYPE, BATCH_TYPE, "*/*") if batches else (STRUCTURED_TYPE, "*/*")
        return Response(headers={**_WEBHOOK, "Accept-Post": ", ".join(taken)})
    if scope["method"] != "POST":
        return refused(405, "post an event", "method-not-allowed", _ALLOW)
    return None


def broker_of(scope: Scope) -> BrokerKey | Response:
    """The Broker that a POST names, or the answer to a request that is no POST to a Broker."""
    if (answer := answer_without_event(scope, batches=True)) is not None:
        return answer
    path = scope["path"]
    if path == "/":
        return refused(404, "post to /<namespace>/<broker>", "not-found")
    parts = path.removesuffix("/").split("/")
    if len(parts) != 3:
        return refused(400, f"{path}: post to /<namespace>/<broker>", "bad-path")
    return BrokerKey(parts[1], parts[2])


def check_batch(events: Sequence[CloudEvent], settings: EventingSettings) -> None:
    """Raise EventTooLarge for too many events, or for one that may not come alone either."""
    most, most_bytes = settings.max_batch_events, settings.max_event_bytes
    if len(events) > most:
        message = f"{len(events)} events: a batch may have {most}"
        raise EventTooLarge(message, reason="batch-too-large")
    for number, event in enumerate(events):
        if len(event.data or b"") > most_bytes:
            raise EventTooLarge(f"[{number}]: an event may have at most {most_bytes} bytes")
