"""Cron schedules as Knative's PingSource reads them (robfig/cron v3).

Five fields, or six with seconds in front, or a descriptor such as @hourly. A day must match both
its fields where one of them is `*` or `?`, else either. A time that is skipped when daylight saving
begins does not come; one that is repeated when it ends comes twice.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

#: Each word that stands for a schedule, and its five fields.
DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# What cronsim reads and robfig/cron does not: the last day, the last weekday, the nth weekday.
_NOT_KNOWN = re.compile(r"\d?L\b|\bLW\b|#", re.IGNORECASE)
_DAY_OF_MONTH, _DAY_OF_WEEK = 3, 5
_RANGES = {_DAY_OF_MONTH: "1-31", _DAY_OF_WEEK: "0-6"}


@dataclass(frozen=True)
class Schedule:
    """A schedule in a time zone (None: UTC, as in the pods of a cluster); raises ValueError."""

    text: str
    timezone: str | None = None

    def __post_init__(self) -> None:
        try:
            if self.after(datetime(2026, 1, 1, tzinfo=UTC)) is None:
                raise ValueError("no such time comes within 50 years")
        except CronSimError as error:
            raise ValueError(str(error)) from None

    @cached_property
    def zone(self) -> tzinfo:
        """The time zone. Raises ValueError where this machine does not know it."""
        return zone_named(self.timezone)

    @cached_property
    def fields(self) -> str:
        """The six fields as cronsim reads them."""
        return _six_fields(self.text)

    def after(self, moment: datetime) -> datetime | None:
        """The first time after `moment`, in UTC; None when none comes within 50 years."""
        found = next(CronSim(self.fields, moment.astimezone(self.zone)), None)
        return None if found is None else found.astimezone(UTC)


def zone_named(name: str | None) -> tzinfo:
    """The time zone of a name such as Europe/Berlin. Raises ValueError for an unknown one."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"{name!r} is not a time zone: write one as in Europe/Berlin") from None


def _six_fields(text: str) -> str:
    if text.startswith("@"):
        if text not in DESCRIPTORS:
            known = ", ".join(DESCRIPTORS)
            raise ValueError(f"{text.split()[0]} is not a descriptor: known are {known}")
        text = DESCRIPTORS[text]
    if "TZ=" in text:
        raise ValueError("write the time zone in spec.timezone")
    if _NOT_KNOWN.search(text):
        raise ValueError("L, W and # are not known to Knative's PingSource")
    fields = text.split()
    if len(fields) not in (5, 6):
        raise ValueError(f"it has {len(fields)} fields: write five, or six with seconds in front")
    if len(fields) == 5:
        fields.insert(0, "0")
    # robfig/cron takes `*/2` of days for a choice of days, and only a bare `*` for any day.
    for place, whole in _RANGES.items():
        fields[place] = re.sub(r"^[*?]/(?!1$)", f"{whole}/", fields[place])
    return " ".join("*" if field == "?" else field for field in fields)
