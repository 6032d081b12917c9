"""What the headers of a request ask for its job: key, priority and limits. Pure.

Every refusal names the header and says what to write.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from relume.base.errors import InvalidInput, one_line
from relume.cloudevents.http import Headers
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.job import PRIORITIES, Limits, Priority
from relume.eventing.jobs.preferences import AsyncPreference

KEY = "Idempotency-Key"
PRIORITY = "Relume-Priority"
QUEUE, START, RUN = "Relume-Queue-Timeout", "Relume-Start-Timeout", "Relume-Run-Timeout"
KEEP, ATTEMPTS = "Relume-Keep", "Relume-Max-Attempts"
_OWN = (PRIORITY, QUEUE, START, RUN, KEEP, ATTEMPTS)
_KNOWN = frozenset(name.lower() for name in (*_OWN, KEY))

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)")
_COUNT = re.compile(r"[0-9]{1,3}")
_SHOWN = 40  # characters of a wrong value that a message repeats

# Headers that do not go on to the predictor: those of this connection, those that are about the
# body (it is stored decoded), credentials (they are never stored), and those that a browser sends
# to the door and not to the predictor.
_NOT_KEPT = frozenset(
    {"accept-encoding", "api-key", "authorization", "connection", "content-encoding"}
    | {"content-length", "content-type", "cookie", "expect", "forwarded", "host", "http2-settings"}
    | {"idempotency-key", "keep-alive", "origin", "prefer", "proxy-authenticate"}
    | {"proxy-authorization", "proxy-connection", "referer", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "x-api-key"}
)
_NOT_KEPT_PREFIXES = (
    "relume-",
    "sec-",
    "access-control-",
    "x-auth-",
    "x-forwarded-",
    "knative-serving-",
)


class InvalidHeader(InvalidInput):
    """A header of the request cannot be honoured; the message names it and the fix."""

    reason = "bad-header"


class Wishes(NamedTuple):
    """`priority` is None where no header names one."""

    key: str | None
    priority: Priority | None
    limits: Limits


def wishes_of(headers: Headers, settings: DoorSettings) -> Wishes:
    """Read the headers of the contract. Raises InvalidHeader."""
    defaults = settings.defaults
    given: dict[str, list[str]] = {}
    for name, value in headers:
        if name[:7] == "relume-" or name == "idempotency-key":
            given.setdefault(name, []).append(value)

    if not given:
        return Wishes(None, None, defaults)
    for name in given.keys() - _KNOWN:
        # A limit with a wrong name would not hold, and nobody would notice.
        raise InvalidHeader(
            f"{name[:_SHOWN]}: a job has no such header: write one of {', '.join(_OWN)}"
        )

    def seconds(name: str, default: float) -> float:
        text = _only(name, given)
        return default if text is None else duration_s(name, text, settings.longest_s)

    limits = Limits(
        queue_s=seconds(QUEUE, defaults.queue_s),
        start_s=seconds(START, defaults.start_s),
        run_s=seconds(RUN, defaults.run_s),
        keep_s=seconds(KEEP, defaults.keep_s),
    )
    attempts = _attempts(_only(ATTEMPTS, given), defaults, settings)
    return Wishes(
        _key(_only(KEY, given), settings.max_key_bytes),
        _priority(_only(PRIORITY, given)),
        replace(limits, max_attempts=attempts),
    )


def duration_s(name: str, text: str, longest_s: float) -> float:
    """The seconds of `90`, `90s`, `5m`, `2h` or `1d`. Raises InvalidHeader, which says `name`."""
    match = _DURATION.fullmatch(text.strip(" \t"))
    if match is None:
        raise InvalidHeader(
            f"{name}: {shown(text)} is not a length of time: write a number and a unit, "
            "as in 90s, 5m, 2h or 1d"
        )
    seconds = float(match[1]) * _UNITS_S[match[2]]
    if not 1 <= seconds <= longest_s:
        raise InvalidHeader(
            f"{name}: {shown(text)} is out of range: write 1s to {longest_s / 86_400:g}d"
        )
    return seconds


def priority_of_tier(tier: object) -> Priority:
    """The priority that `service_tier` in the body of a request means."""
    if tier == "priority":
        return "high"
    return "low" if tier == "flex" else "normal"


def kept_headers(headers: Headers, prefer: AsyncPreference, most: int) -> dict[str, str]:
    """The headers that are stored for the predictor, of `most` bytes. Raises InvalidHeader.

    Several headers with one name become one, as RFC 9110 §5.3 says.
    """
    kept: dict[str, str] = {}
    for name, value in headers:
        if name not in _NOT_KEPT and not name.startswith(_NOT_KEPT_PREFIXES):
            kept[name] = f"{kept[name]}, {value}" if name in kept else value
    if prefer.others:
        kept["prefer"] = prefer.others
    size = sum(map(len, kept)) + sum(map(len, kept.values()))
    if size > most:
        longest = max(kept, key=lambda name: len(kept[name]))
        raise InvalidHeader(
            f"the headers for the predictor have {size} bytes, and {most} are kept with a job: "
            f"leave some out (the longest is {shown(longest)})"
        )
    return kept


def _only(name: str, given: dict[str, list[str]]) -> str | None:
    values: Sequence[str] = given.get(name.lower(), ())
    if len(values) > 1:
        raise InvalidHeader(f"{name}: it is given {len(values)} times: send it once")
    return values[0] if values else None


def _key(text: str | None, most: int) -> str | None:
    if text is None:
        return None
    if not text.strip(" \t"):
        raise InvalidHeader(f"{KEY}: it is empty: give every request a key of its own, or none")
    if len(text) > most:
        raise InvalidHeader(f"{KEY}: it has {len(text)} bytes: write at most {most}")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise InvalidHeader(f"{KEY}: it has control characters: leave them out")
    return text


def _priority(text: str | None) -> Priority | None:
    if text is None:
        return None
    word = text.strip(" \t").lower()
    if word not in PRIORITIES:
        choices = "high, normal or low"
        raise InvalidHeader(f"{PRIORITY}: {shown(text)} is not a priority: write {choices}")
    return word


def _attempts(text: str | None, defaults: Limits, settings: DoorSettings) -> int:
    if text is None:
        return defaults.max_attempts
    word, most = text.strip(" \t"), settings.max_attempts
    if not _COUNT.fullmatch(word) or not 1 <= int(word) <= most:
        raise InvalidHeader(
            f"{ATTEMPTS}: {shown(text)} is out of range: write 1 to {most} (1: nothing is retried)"
        )
    return int(word)


def shown(text: str) -> str:
    """A value that is wrong, as a message repeats it: short, and on one line."""
    return one_line(repr(text[:_SHOWN] + "…" if len(text) > _SHOWN else text))
