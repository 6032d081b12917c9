"""The body of a producer's request, within its limits of size and time (checklist B1)."""

from starlette.types import Receive

from relume.base.time_limits import TimeLimit
from relume.cloudevents.asgi import BodyTooLarge, read_body
from relume.cloudevents.headers import rest_of
from relume.cloudevents.http import Headers, Mode, decode, mode_of
from relume.eventing.event_log import EventTooLarge
from relume.eventing.refusals import TooSlow
from relume.eventing.settings import EventingSettings


async def uploaded(receive: Receive, headers: Headers, settings: EventingSettings) -> bytes:
    """The whole body. Raises EventTooLarge as soon as that is known, TooSlow, ClientGone.

    A producer that waits for a word before it sends the body (`Expect`) gets InvalidEvent for what
    the headers alone make one.
    """
    mode, rest = mode_of(headers), dict(rest_of(headers))
    batch = mode is Mode.BATCH
    if mode in (Mode.BINARY, None) and "expect" in rest:
        decode(headers, b"", lenient=not settings.strict_events)
    limit = settings.max_batch_bytes if batch else settings.max_event_bytes
    within_s = settings.upload_s
    declared = rest.get("content-length", "0")
    try:
        # int() refuses very long digit strings.
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            raise BodyTooLarge
        with TimeLimit(within_s):
            return await read_body(receive, limit)
    except BodyTooLarge:
        raise EventTooLarge(f"a request may have at most {limit} bytes") from None
    except TimeoutError:
        raise TooSlow(f"a request must have come in whole after {within_s:g} s") from None
