"""Sliding windows over one-second buckets: what the autoscaler averages and what it delays by.

Semantics: knative/serving pkg/autoscaler/aggregation (bucketing.go, max/window.go); checklist A14.
"""

import math
from collections import deque

BUCKET_S = 1.0
TICK_S = 2.0


class AverageWindow:
    """The mean of what was recorded per bucket over the last `window_s` seconds.

    A window that is not yet full is averaged over its part since the first write; buckets inside
    it without a record count as 0. After a whole window without a record the first write starts
    anew, so that old idleness does not dilute a new burst.
    """

    def __init__(self, window_s: float) -> None:
        self._size = math.ceil(window_s / BUCKET_S)
        self._buckets: dict[int, float] = {}
        self._first: int | None = None
        self._last = -1

    def record(self, now: float, value: float) -> None:
        """Add `value` to the bucket of `now` (seconds); values in one bucket add up."""
        at = _bucket(now)
        if self._first is None or at - self._last >= self._size:
            self._buckets.clear()
            self._first = at
        elif at <= self._last - self._size:
            return
        self._first = min(self._first, at)
        self._last = max(self._last, at)
        self._buckets[at] = self._buckets.get(at, 0.0) + value
        for old in [b for b in self._buckets if b <= self._last - self._size]:
            del self._buckets[old]

    def is_empty(self, now: float) -> bool:
        """Return whether nothing was recorded for more than a window."""
        return self._first is None or _bucket(now) - self._last > self._size

    def average(self, now: float) -> float:
        """Return the mean per bucket, 0 after a window without a record."""
        at = _bucket(now)
        gap = max(at - self._last, 0)
        if self._first is None or gap >= self._size:
            return 0.0
        oldest = max(at, self._last) - self._size
        total = sum(value for bucket, value in self._buckets.items() if bucket > oldest)
        count = min(self._last - self._first + 1, self._size - gap)
        return round(total / count, 6)


class MaxWindow:
    """The largest value recorded over the last `window_s` seconds, in buckets of one tick (2 s)."""

    def __init__(self, window_s: float) -> None:
        self._size = math.ceil(window_s / TICK_S)
        self._values: deque[tuple[int, int]] = deque()

    def record(self, now: float, value: int) -> int:
        """Record `value` at `now` (seconds) and return the maximum over the window."""
        at = math.floor(now / TICK_S)
        while self._values and self._values[-1][1] <= value:
            self._values.pop()
        self._values.append((at, value))
        while at - self._values[0][0] >= self._size:
            self._values.popleft()
        return self._values[0][1]


def _bucket(now: float) -> int:
    return math.floor(now / BUCKET_S)
