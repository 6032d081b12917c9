"""What the HTTP headers of an event say besides its attributes, and which of them go on with it."""

import re
from collections.abc import Mapping

from relume.cloudevents.headers import rest_of
from relume.cloudevents.http import Headers
from relume.eventing.header_room import check_room

# The headers of a producer's request that a Knative Broker passes on to the subscriber.
_FORWARDED = re.compile(r"x-request-id|retry-after|x-b3-.*|knative-.*")
_TRACE = ("traceparent", "tracestate")
_PRINTABLE = re.compile(r"[ -~]*")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(headers: Headers) -> Mapping[str, str]:
    """The trace in the HTTP headers, as attributes of the extension distributed-tracing.

    The event carries it on, as in Knative's ingress, unless the event has a trace of its own.
    """
    found = {
        name: value for name, value in rest_of(headers) if name in ("traceparent", "tracestate")
    }
    if "traceparent" not in found or not _TRACEPARENT.fullmatch(found["traceparent"]):
        return {}
    if not _PRINTABLE.fullmatch(found.get("tracestate", "")):
        del found["tracestate"]
    return {name: value for name, value in found.items() if value}


def forwarded_of(headers: Headers) -> dict[str, str]:
    """The headers that every delivery repeats. Raises AttributesTooLong."""
    found = {
        name: value
        for name, value in rest_of(headers)
        if _FORWARDED.fullmatch(name) and _PRINTABLE.fullmatch(value)
    }
    if found:
        check_room(found)
    return found


def prefers_reply(headers: Headers) -> bool:
    """Whether the sender is a Broker, which takes an event in the answer for the reply.

    It sends `Prefer: reply` (knative/specs, specs/eventing/data-plane.md).
    """
    values = (value for name, value in headers if name == "prefer")
    tokens = (token.partition(";")[0] for value in values for token in value.split(","))
    return any(token.strip().lower() == "reply" for token in tokens)
