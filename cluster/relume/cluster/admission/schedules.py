"""Schedules of cron, as robfig/cron v3 reads them, which Knative and Kubernetes use.

Source: robfig/cron parser.go and spec.go.
"""

import re
from collections.abc import Mapping

_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Least and largest value, and names for values.
_Bounds = tuple[int, int, Mapping[str, int]]
_FIELDS: tuple[_Bounds, ...] = (
    (0, 59, {}),  # seconds, which may be left out
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    (0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_NUMBER = re.compile(r"[0-9]{1,18}")


def schedule_error(text: str) -> str | None:
    """Why a PingSource's schedule is refused; None if it is a schedule.

    It has five fields or six, the first of six for seconds. `@every`, which the library knows, is
    refused by Knative.
    """
    if "@every" in text:
        return "unsupported descriptor @every"
    if text.startswith("@"):
        return None if text in _WORDS else f"unrecognized descriptor: {text}"
    fields = text.split()
    if len(fields) not in (5, 6):
        return f"expected 5 to 6 fields, found {len(fields)}"
    for field, bounds in zip(fields, _FIELDS[6 - len(fields) :], strict=True):
        for part in filter(None, field.split(",")):
            if (why := _range_error(part, bounds)) is not None:
                return why
    return None


def _range_error(text: str, bounds: _Bounds) -> str | None:
    """Why one range of a field is refused: `*`, `5`, `1-5`, `*/15` or `1-31/2`."""
    low, high, names = bounds
    span, slash, step = text.partition("/")
    first, hyphen, last = span.partition("-")
    if "/" in step or "-" in last:
        return f"too many {'slashes' if '/' in step else 'hyphens'}: {text}"
    begin, end = low, high
    if first not in ("*", "?"):
        found = [_number(one, names) for one in ((first, last) if hyphen else (first,))]
        for word, value in zip((first, last), found, strict=False):
            if value is None:
                return f"failed to parse int from {word}"
        begin, end = found[0] or 0, found[-1] or 0
        end = high if slash and not hyphen else end
    if slash and (not _NUMBER.fullmatch(step) or int(step) == 0):
        return f"step of range should be a positive number: {text}"
    if begin < low:
        return f"beginning of range ({begin}) below minimum ({low}): {text}"
    if end > high:
        return f"end of range ({end}) above maximum ({high}): {text}"
    if begin > end:
        return f"beginning of range ({begin}) beyond end of range ({end}): {text}"
    return None


def _number(text: str, names: Mapping[str, int]) -> int | None:
    if text.lower() in names:
        return names[text.lower()]
    return int(text) if _NUMBER.fullmatch(text) else None
