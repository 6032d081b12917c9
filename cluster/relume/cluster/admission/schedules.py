"""When a CronJob runs: five fields, or one word.

Source: robfig/cron v3 parser.go (ParseStandard), which the API server reads schedules with.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relume.config.durations import go_duration
from relume.config.schedules import DESCRIPTORS

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields: its bounds, and names that stand for numbers."""

    least: int
    most: int
    names: Mapping[str, int]

    def number(self, text: str) -> int:
        """The number that a part names; raises ValueError for anything else."""
        if text.lower() in self.names:
            return self.names[text.lower()]
        if not _DIGITS.fullmatch(text):
            raise ValueError(f"failed to parse int from {text}")
        return int(text[:20])


_FIELDS = (
    _Field(0, 59, {}),
    _Field(0, 23, {}),
    _Field(1, 31, {}),
    _Field(1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field(0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


def check_schedule(text: str) -> None:
    """Raise ValueError, in the words of the parser, for a schedule that it does not read."""
    if not text:
        raise ValueError("empty spec string")
    if text.startswith("@every "):
        go_duration(text.removeprefix("@every "))
        return
    if text.startswith("@"):
        if text not in DESCRIPTORS:
            raise ValueError(f"unrecognized descriptor: {text}")
        return
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"expected exactly {len(_FIELDS)} fields, found {len(parts)}: [{text}]")
    for field, part in zip(_FIELDS, parts, strict=True):
        for one in part.split(","):
            if one:
                _check_range(field, one)


def _check_range(field: _Field, text: str) -> None:
    span, *steps = text.split("/")
    low, *highs = span.split("-")
    if len(highs) > 1:
        raise ValueError(f"too many hyphens: {text}")
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    if low in ("*", "?"):
        start, end = field.least, field.most
    else:
        start = field.number(low)
        end = field.number(highs[0]) if highs else (field.most if steps else start)
    step = field.number(steps[0]) if steps else 1
    if start < field.least:
        raise ValueError(f"beginning of range ({start}) below minimum ({field.least}): {text}")
    if end > field.most:
        raise ValueError(f"end of range ({end}) above maximum ({field.most}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")
