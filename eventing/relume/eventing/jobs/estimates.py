"""How fast a service settles jobs, and what follows for those who wait. Pure: time is told.

Only times in which some jobs waited count: a service that has nothing to do is not slow. Several
gateways that share a queue each see their own part of what is settled, and the whole of what
waits; the higher of both figures is the rate. So a prediction is late rather than early.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.state import Record

# An observation counts half after about 40 more: a service that becomes slower is soon noticed.
_KEPT = 1 - 1 / 64
# How long a queue is watched for one figure of its decline.
_WATCH_S = 10.0
# Retry-After: where no rate is known, and its bounds.
_UNKNOWN_S = 10
_LONGEST_S = 3600


@dataclass(slots=True)
class _Mean:
    """A mean in which older figures count less and less; `over` is what it is divided by."""

    total: float = 0.0
    over: float = 0.0

    def add(self, value: float, over: float = 1.0) -> None:
        self.total = self.total * _KEPT + value
        self.over = self.over * _KEPT + over

    @property
    def value(self) -> float | None:
        return self.total / self.over if self.over > 0 else None


@dataclass(slots=True)
class _Observed:
    """What was seen of one service. Times at which something was told are monotonic seconds."""

    settled: _Mean = field(default_factory=_Mean)
    declined: _Mean = field(default_factory=_Mean)
    run_ms: _Mean = field(default_factory=_Mean)
    cold_start_ms: _Mean = field(default_factory=_Mean)
    settled_at: float | None = None  # None: nothing waited behind the last one
    watched: tuple[float, int] | None = None  # since when a queue is watched, and how long it was


@dataclass(frozen=True, slots=True)
class Rate:
    """What is known of a service; None is not (yet) known."""

    per_s: float | None = None
    run_ms: float | None = None
    cold_start_ms: float | None = None


class Estimates:
    """The rates of all services.

    `cold_start_ms` is what a ledger of cold starts says of a service, where there is one.
    """

    def __init__(
        self, cold_start_ms: Callable[[ServiceName], float | None] = lambda _: None
    ) -> None:
        self._ledger = cold_start_ms
        self._services: dict[ServiceName, _Observed] = {}

    def settled(self, record: Record, now: float, waiting: int) -> None:
        """A job was settled at `now`, and so many jobs of its service wait behind it."""
        if not record.started:
            return  # nobody worked for it
        seen = self._services.setdefault(record.service, _Observed())
        if seen.settled_at is not None:
            seen.settled.add(1, now - seen.settled_at)
        seen.settled_at = now if waiting else None
        if record.state == "completed" or record.usage.run_ms:
            seen.run_ms.add(record.usage.run_ms)
        if record.usage.cold_start_ms:
            seen.cold_start_ms.add(record.usage.cold_start_ms)

    def counted(self, service: ServiceName, now: float, waiting: int) -> None:
        """So many jobs of a service wait at `now`; those of all gateways."""
        seen = self._services.setdefault(service, _Observed())
        if not waiting:
            seen.watched = seen.settled_at = None
        elif seen.watched is None:
            seen.watched = (now, waiting)
        elif (took_s := now - seen.watched[0]) >= _WATCH_S:
            seen.declined.add(max(0, seen.watched[1] - waiting), took_s)
            seen.watched = (now, waiting)

    def rate(self, service: ServiceName) -> Rate:
        """What is known of a service."""
        seen = self._services.get(service, _Observed())
        per_s = max(seen.settled.value or 0.0, seen.declined.value or 0.0)
        ledger = self._ledger(service)
        return Rate(
            per_s=per_s or None,
            run_ms=seen.run_ms.value,
            cold_start_ms=seen.cold_start_ms.value if ledger is None else ledger,
        )

    def starts_in_s(
        self, service: ServiceName, before: int, *, free: int, slots: int, awake: bool
    ) -> float | None:
        """When a job starts that has `before` jobs before it; None where nothing tells.

        `free` of the service's `slots` are not taken. A service that is not `awake` makes a cold
        start first.
        """
        rate = self.rate(service)
        start_s = 0.0
        if not awake:
            if rate.cold_start_ms is None:
                return None
            start_s = rate.cold_start_ms / 1000
        if (turns := before + 1 - max(0, free)) <= 0:
            return start_s
        if rate.per_s is not None:
            return start_s + turns / rate.per_s
        if rate.run_ms is not None and slots > 0:
            return start_s + turns * rate.run_ms / 1000 / slots
        return None

    def retry_after_s(self, service: ServiceName, jobs: int) -> int:
        """When to try again where there is room after so many jobs, in whole seconds from 1 on."""
        per_s = self.rate(service).per_s
        if per_s is None:
            return _UNKNOWN_S
        return min(_LONGEST_S, max(1, math.ceil(jobs / per_s)))
