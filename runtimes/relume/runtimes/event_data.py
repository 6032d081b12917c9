"""What an event asks for: its data as a JSON object, while somebody still waits for the answer.

Data is JSON or plain text, in the character set that the event names. All that is wrong with it
raises Unanswerable. Pure.
"""

import json
from datetime import datetime
from typing import Any

from relume.cloudevents.event import CloudEvent, charset_of, decoded, is_json
from relume.eventing.expiry import InvalidExpiry, expires_at
from relume.runtimes.failures import invalid


def data_of(event: CloudEvent) -> dict[str, Any] | str:
    """The event's data: a JSON object, or a text where it is `text/plain`."""
    content_type = (event.datacontenttype or "application/json").split(";", 1)[0].strip().lower()
    if content_type == "text/plain":
        return _text(event)
    if not is_json(event.datacontenttype):
        problem = f"datacontenttype {content_type!r}: send application/json or text/plain"
        raise invalid(problem)
    try:
        payload = json.loads(_text(event))
    except (ValueError, RecursionError) as error:
        raise invalid(f"data is not JSON: {error}", "invalid-json") from error
    if not isinstance(payload, dict):
        kind = type(payload).__name__
        raise invalid(f"data must be an object, got {kind}")
    return payload


def _text(event: CloudEvent) -> str:
    """The event's data in the character set that it names, else UTF-8."""
    if event.data is None:
        raise invalid("the event has no data")
    charset = charset_of(event.datacontenttype) or "utf-8"
    try:
        return decoded(event.data, charset)
    except LookupError as error:
        problem = f"datacontenttype: {error}"
    except UnicodeDecodeError as error:
        problem = f"data is not {charset}: {error.reason} at byte {error.start}"
    raise invalid(problem)


def check_expiry(event: CloudEvent, now: datetime) -> None:
    """Raise Unanswerable after the event's `expirytime`: its caller has stopped waiting."""
    try:
        expires = expires_at(event.attributes)
    except InvalidExpiry as error:
        raise invalid(str(error)) from error
    if expires is not None and now >= expires:
        raise invalid(f"the event expired at {event.attributes['expirytime']}", "expired")
