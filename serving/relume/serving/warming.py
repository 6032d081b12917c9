"""A service that is started at the times of a schedule, before anybody asks for it. Pure.

The schedule is that of the annotation relume.dev/warm-at. Of the times that pass while the machine
sleeps one comes late, and those that pass while no plane runs do not come: this is what Knative's
PingSource does.
"""

from datetime import datetime

from relume.config.schedules import Schedule


class Alarm:
    """One service's schedule; `now` is the wall clock, in UTC."""

    def __init__(self, schedule: Schedule, now: datetime) -> None:
        self._schedule = schedule
        self.due = schedule.after(now)
        """The next time; None where no time is left."""

    def rings(self, now: datetime) -> bool:
        """Return whether a time has come since the last call."""
        if self.due is None or now < self.due:
            return False
        self.due = self._schedule.after(now)
        return True
