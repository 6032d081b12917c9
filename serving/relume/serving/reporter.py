"""One revision's load as the activator sees it, cut into one-second reports.

A request counts from its arrival to its last byte, held time and an open stream included, so a
waiting request is demand and an open stream keeps its replica (checklist A9, A15). The first
request after silence is reported at once as concurrency 1, and taken off the next regular report
(knative/serving pkg/activator/handler/concurrency_reporter.go).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last report."""

    concurrency: float
    """Time-weighted mean of requests in the system."""
    requests: float
    """How many arrived."""

    def value(self, metric: str) -> float:
        """Return the figure that the metric (concurrency or rps) scales on."""
        return self.requests if metric == "rps" else self.concurrency


FIRST = Report(concurrency=1.0, requests=1.0)


class Reporter:
    """Counts the requests of one revision; times in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._start = now
        self._area = 0.0
        self._arrived = 0
        self.current = 0
        """How many requests are in the system now, held ones included."""
        self._silent = True
        self._told = 0.0

    def arrive(self, now: float) -> Report | None:
        """Count a request in; the first after silence returns the report to record at once."""
        self._advance(now)
        self.current += 1
        self._arrived += 1
        if not self._silent:
            return None
        self._silent = False
        self._told = 1.0
        return FIRST

    def leave(self, now: float) -> None:
        """Count a request out."""
        self._advance(now)
        self.current -= 1

    def cut(self, now: float) -> Report:
        """Return the report since the last cut and begin the next."""
        self._advance(now)
        elapsed = now - self._start
        mean = self._area / elapsed if elapsed > 0 else float(self.current)
        report = Report(max(mean - self._told, 0.0), self._arrived - self._told)
        self._silent = mean == 0.0 and self.current == 0
        self._start, self._area, self._arrived, self._told = now, 0.0, 0, 0.0
        return report

    def forget(self) -> None:
        """Treat the next request as the first after silence."""
        self._silent = True

    def _advance(self, now: float) -> None:
        self._area += self.current * (now - self._now)
        self._now = now
