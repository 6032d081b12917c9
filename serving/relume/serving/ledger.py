"""What predictors leave behind: the ledger of what every cold start cost, and their log files.

The ledger's entries are kept in memory for `relume status`, and each is appended to a file as one
JSON line once it is known how the start ended. Whoever reads the file must skip a line that a power
cut has torn.
"""

import contextlib
import logging
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from relume.base.vocabulary import ANSWER_PHASE, LAUNCH_PHASES, MEMORY_PHASE, PREDICTOR_PHASES

log = logging.getLogger(__name__)

KEPT_ENTRIES = 100
KEPT_LOGS = 5  # for each service
TAIL_BYTES = 16384
_LINE_BYTES = 512  # of an entry of the ledger; a longer one only means that fewer are read

_PROBED = re.compile(r'"GET /(?:startup|health) HTTP/1\.1" ')
_OUTSIDE = (MEMORY_PHASE, *LAUNCH_PHASES, ANSWER_PHASE)

StartOutcome = Literal["loading", "ready", "failed", "cancelled"]


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
    """By the names in PREDICTOR_PHASES what the process told, in LAUNCH_PHASES what its launcher
    measured, MEMORY_PHASE: how long it waited for room in memory before it was launched, and
    ANSWER_PHASE: from the first token to the first byte of its answer."""
    ready: float | None = None
    """From `at` until the process could answer."""
    total: float | None = None
    """From the arrival of the first held request to its first byte back; without one, to ready."""
    outcome: StartOutcome = "loading"
    reason: str | None = None
    ended: float | None = None
    """From `at` until a start was over that failed or was given up."""

    def with_phases(self, phases: Mapping[str, float]) -> "ColdStart":
        """Return the entry with these phases added."""
        return replace(self, phases={**self.phases, **phases})

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "ColdStart":
        """Return the entry that `to_json` wrote. Raises LookupError, TypeError, ValueError."""
        names = (*_OUTSIDE, *PREDICTOR_PHASES)
        kept = ("namespace", "service", "revision", "started", "queue", "ready", "total", "outcome")
        return cls(
            at=datetime.fromisoformat(line["at"]),
            phases={name: float(line[name]) for name in names if line.get(name) is not None},
            ended=line.get("ended"),
            **{name: line[name] for name in kept},
        )

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
            **{name: _rounded(self.phases[name]) for name in _OUTSIDE if name in self.phases},
            **{name: _rounded(self.phases.get(name)) for name in PREDICTOR_PHASES},
            "ready": _rounded(self.ready),
            "total": _rounded(self.total),
            "outcome": self.outcome,
            "reason": self.reason,
            **({} if self.ended is None else {"ended": _rounded(self.ended)}),
        }


class Ledger:
    """The last cold starts, and the file that keeps them all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: deque[ColdStart] = deque(maxlen=KEPT_ENTRIES)
        self._before = read(path)

    @property
    def entries(self) -> tuple[ColdStart, ...]:
        """The last 100 that ended, oldest first."""
        return tuple(self._entries)

    @property
    def history(self) -> tuple[ColdStart, ...]:
        """The last 100 of this plane and of those that had the file before, oldest first."""
        return (*self._before, *self._entries)[-KEPT_ENTRIES:]

    def append(self, entry: ColdStart) -> None:
        """Keep an entry whose outcome is known. If the file cannot be written, its line is lost."""
        self._entries.append(entry)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(orjson.dumps(entry.to_json()) + b"\n")
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error)


def read(path: Path) -> tuple[ColdStart, ...]:
    """Return the last 100 entries of a ledger's file, oldest first; none where it is not there.

    A line that was cut short, or that another version wrote, is left out.
    """
    found: list[ColdStart] = []
    for line in tail(path, KEPT_ENTRIES, KEPT_ENTRIES * _LINE_BYTES):
        try:
            found.append(ColdStart.from_json(orjson.loads(line)))
        except (LookupError, TypeError, ValueError):
            continue
    return tuple(found)


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


class LogFiles:
    """Names the log files of one service's predictors, one per process; keeps the last five."""

    def __init__(self, folder: Path, namespace: str, name: str) -> None:
        self._folder = folder
        self._stem = f"{namespace}.{name}"

    def path(self, number: int) -> Path:
        """Return the file for the n-th process, which does not exist yet.

        On a disk that cannot be written, the start fails when the file is opened, and says why.
        """
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(number).unlink(missing_ok=True)
            self._path(number - KEPT_LOGS).unlink(missing_ok=True)
        return self._path(number)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._stem}.{number}.log"


def tail(path: Path, lines: int, most_bytes: int = TAIL_BYTES) -> tuple[str, ...]:
    """Return the last lines that say something; none if the file cannot be read.

    Empty lines say nothing, nor do those by which a server notes the plane's own probes.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - most_bytes, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    found = [
        line.rstrip() for line in text.splitlines() if line.strip() and not _PROBED.search(line)
    ]
    return tuple(found[-lines:])
