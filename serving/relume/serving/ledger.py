"""What every cold start cost, phase by phase.

Kept in memory for `relume status` and appended as one JSON line each, once it is known how the
start ended. A line torn by a power cut is the reader's to skip.
"""

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

log = logging.getLogger(__name__)

PHASES = ("fork", "import", "config", "weights", "engine", "warmup", "first_token")
KEPT = 100

Outcome = Literal["loading", "ready", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One start of one predictor process. Times in ms; None is not (yet) known."""

    namespace: str
    service: str
    revision: str
    at: datetime
    """When the process was asked for."""
    queue: float
    """From the arrival of the request that caused it to `at`; 0 when no request waited."""
    started: str | None = None
    """template or fresh."""
    triggered_by: str | None = None
    """The id of the CloudEvent in the first held request, if it was one."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """What the process reported, by the names in PHASES."""
    ready: float | None = None
    """From `at` until the process could answer."""
    total: float | None = None
    """From the arrival of the first held request to its first byte back; without one, to ready."""
    outcome: Outcome = "loading"
    reason: str | None = None

    def with_phases(self, phases: Mapping[str, float]) -> "ColdStart":
        """Return the entry with these phases added."""
        return replace(self, phases={**self.phases, **phases})

    def to_json(self) -> dict[str, Any]:
        """Return the entry flat, phases by name, ms rounded to 0.1."""
        return {
            "at": self.at.isoformat(timespec="milliseconds"),
            "namespace": self.namespace,
            "service": self.service,
            "revision": self.revision,
            "started": self.started,
            "triggered_by": self.triggered_by,
            "queue": round(self.queue, 1),
            **{name: _rounded(self.phases.get(name)) for name in PHASES},
            "ready": _rounded(self.ready),
            "total": _rounded(self.total),
            "outcome": self.outcome,
            "reason": self.reason,
        }


class Ledger:
    """The last cold starts, and the file that keeps them all."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: deque[ColdStart] = deque(maxlen=KEPT)

    @property
    def entries(self) -> tuple[ColdStart, ...]:
        """The last 100 that ended, oldest first."""
        return tuple(self._entries)

    def append(self, entry: ColdStart) -> None:
        """Keep an entry whose outcome is known; a full disk costs the line, not the plane."""
        self._entries.append(entry)
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(orjson.dumps(entry.to_json()) + b"\n")
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error)


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)
