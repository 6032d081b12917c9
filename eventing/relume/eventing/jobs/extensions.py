"""What the extensions of an event ask for its job, as the headers of a plain request do. Pure.

| extension | value | as a header |
|---|---|---|
| priority | high, normal or low | Relume-Priority |
| maxattempts | 1 to 20; 1: nothing is retried | Relume-Max-Attempts |
| queuetimeout, starttimeout, runtimeout | 90, 90s, 5m, 2h or 1d | Relume-Queue-Timeout, … |
| keep | the same | Relume-Keep |
| expirytime | a time; the job waits in its queue no longer | – |

An extension that cannot be honoured is refused by its name, and never passed over.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from relume.base.errors import InvalidInput
from relume.base.vocabulary import (
    KEEP,
    MAX_ATTEMPTS,
    PRIORITY,
    QUEUE_TIMEOUT,
    RUN_TIMEOUT,
    START_TIMEOUT,
)
from relume.eventing.expiry import InvalidExpiry, expires_at
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.job import PRIORITIES, Limits, Priority
from relume.eventing.jobs.wishes import InvalidHeader, duration_s, shown

_SHORTEST_S = 1.0


class InvalidExtension(InvalidInput):
    """An extension of the event cannot be honoured; the message names it and the fix."""

    reason = "invalid-data"


class Expired(InvalidInput):
    """Nobody waits for the answer any more."""

    reason = "expired"


def wanted_of(
    attributes: Mapping[str, object], settings: DoorSettings, now: datetime
) -> tuple[Priority, Limits]:
    """Priority and limits of the job of an event. Raises InvalidExtension and Expired."""

    def seconds(name: str, default: float) -> float:
        if (value := attributes.get(name)) is None:
            return default
        try:
            return duration_s(name, str(value), settings.longest_s)
        except InvalidHeader as error:
            raise InvalidExtension(str(error)) from None

    defaults = settings.defaults
    limits = Limits(
        queue_s=seconds(QUEUE_TIMEOUT, defaults.queue_s),
        start_s=seconds(START_TIMEOUT, defaults.start_s),
        run_s=seconds(RUN_TIMEOUT, defaults.run_s),
        keep_s=seconds(KEEP, defaults.keep_s),
        max_attempts=_attempts(attributes, settings),
    )
    left_s = _left_s(attributes, now)
    if left_s is not None:
        limits = replace(limits, queue_s=min(limits.queue_s, max(left_s, _SHORTEST_S)))
    return _priority(attributes), limits


def _left_s(attributes: Mapping[str, object], now: datetime) -> float | None:
    try:
        expires = expires_at(attributes)
    except InvalidExpiry as error:
        raise InvalidExtension(str(error)) from None
    if expires is None:
        return None
    if now >= expires:
        raise Expired(f"the event expired at {attributes['expirytime']}")
    return (expires - now).total_seconds()


def _priority(attributes: Mapping[str, object]) -> Priority:
    value = attributes.get(PRIORITY, "normal")
    word = str(value).strip().lower()
    if word not in PRIORITIES:
        raise InvalidExtension(
            f"{PRIORITY}: {shown(str(value))} is not a priority: write high, normal or low"
        )
    return word


def _attempts(attributes: Mapping[str, object], settings: DoorSettings) -> int:
    value = attributes.get(MAX_ATTEMPTS)
    if value is None:
        return settings.defaults.max_attempts
    text, most = str(value), settings.max_attempts
    # A boolean is an attribute value too, and int() would read other digits than ours.
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= most):
        raise InvalidExtension(
            f"{MAX_ATTEMPTS}: {shown(str(value))} is out of range: write 1 to {most} "
            "(1: nothing is retried)"
        )
    return int(text)
