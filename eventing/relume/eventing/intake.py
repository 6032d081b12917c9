"""What one request brings to the Broker: its headers, its body within a limit, its trace."""

import asyncio
import re
from collections.abc import Mapping

from starlette.types import Receive, Scope

from relume.base.errors import RelumeError
from relume.cloudevents.http import Headers
from relume.eventing.event_log import EventTooLarge

# What a Knative Broker passes on from producer to subscriber.
_FORWARDED = re.compile(r"x-request-id|retry-after|x-b3-.*|knative-.*")
_PRINTABLE = re.compile(r"[ -~]*")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class TooSlow(RelumeError):
    """A producer took too long to send its request."""

    reason = "request-too-slow"
    retryable = True


class ClientGone(Exception):
    """The producer went away before its request was whole; there is nobody to answer."""


def headers_of(scope: Scope) -> Headers:
    """Names in lower case, values as latin-1 text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


async def body_of(receive: Receive, headers: Headers, limit: int, within_s: float) -> bytes:
    """The whole body. Raises EventTooLarge as soon as that is known, TooSlow, and ClientGone."""
    declared = next((value for name, value in headers if name == "content-length"), "0")
    # Of many digits Python makes no number.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise EventTooLarge(f"a request may have {limit} bytes")
    try:
        async with asyncio.timeout(within_s):
            return await _read(receive, limit)
    except TimeoutError:
        raise TooSlow(f"a request may take {within_s:g} s to come in") from None


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise EventTooLarge(f"a request may have {limit} bytes")
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def trace_of(headers: Headers) -> Mapping[str, str]:
    """The trace in the HTTP headers, as attributes of the extension distributed-tracing.

    It goes on in the event, as in the Knative ingress, unless the event has one of its own.
    """
    found = {name: value for name, value in headers if name in ("traceparent", "tracestate")}
    if not _TRACEPARENT.fullmatch(found.get("traceparent", "")):
        return {}
    if not _PRINTABLE.fullmatch(found.get("tracestate", "")):
        del found["tracestate"]
    return {name: value for name, value in found.items() if value}


def forwarded(headers: Headers) -> dict[str, str]:
    """The headers that every delivery repeats."""
    return {
        name: value
        for name, value in headers
        if _FORWARDED.fullmatch(name) and _PRINTABLE.fullmatch(value)
    }
