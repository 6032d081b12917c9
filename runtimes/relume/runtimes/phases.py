"""The cold-start clock of one predictor: which phase it is in, and how long each one took.

The launcher, vLLM's API server and vLLM's engine core are different processes, forked from one
another, and the gatekeeper that answers `GET /startup` is a fourth. They share one page of memory
that was mapped before the first fork, so a phase that the engine core finishes is seen at once by
all. Times are milliseconds of `CLOCK_MONOTONIC`, which is the same clock in every process.
"""

import json
import mmap
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: In the order in which they happen; `queue` comes before them and is the activator's to measure.
PHASES = ("fork", "import", "config", "weights", "engine", "warmup", "first_token")
STATES = ("loading", "ready", "draining")

_SLOT = struct.Struct("=d")
# The engine core writes the phase and the server the state: two words, so that neither is lost.
_INDEX = struct.Struct("=i")
_PHASE_AT, _STATE_AT = 0, 4


def monotonic_ms() -> float:
    """Milliseconds on the clock that all processes of a machine share."""
    return time.monotonic_ns() / 1e6


class Phases:
    """Durations by phase in shared memory; each phase has one writer, so no lock is needed."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start over on a page of our own: a fork that is another predictor shares nothing."""
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        for name in PHASES:
            self._write(name, -1.0)

    def enter(self, phase: str) -> None:
        """Say which phase runs now (for people who watch a long load)."""
        _INDEX.pack_into(self._memory, _PHASE_AT, PHASES.index(phase))

    def record(self, phase: str, milliseconds: float) -> None:
        """Set how long `phase` took, in ms."""
        self._write(phase, max(0.0, milliseconds))

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Time the body as `phase`; an error leaves the phase without a duration."""
        self.enter(phase)
        started = monotonic_ms()
        yield
        self.record(phase, monotonic_ms() - started)

    def get(self, phase: str) -> float | None:
        """How long `phase` took in ms, or None while it has not ended."""
        (value,) = _SLOT.unpack_from(self._memory, self._offset(phase))
        return None if value < 0 else value

    @property
    def state(self) -> str:
        """`loading`, `ready` or `draining`."""
        return STATES[self._index(_STATE_AT)]

    @state.setter
    def state(self, value: str) -> None:
        _INDEX.pack_into(self._memory, _STATE_AT, STATES.index(value))

    def snapshot(self) -> dict[str, object]:
        """The body of `GET /startup`: state, current phase, and ms of every phase that ended."""
        known = {name: round(ms, 1) for name in PHASES if (ms := self.get(name)) is not None}
        phase = PHASES[self._index(_PHASE_AT)]
        return {"state": self.state, "phase": phase, "phases_ms": known}

    def to_json(self) -> bytes:
        """`snapshot()` as JSON."""
        return json.dumps(self.snapshot()).encode()

    def _index(self, at: int) -> int:
        return int(_INDEX.unpack_from(self._memory, at)[0])

    def _write(self, phase: str, value: float) -> None:
        _SLOT.pack_into(self._memory, self._offset(phase), value)

    def _offset(self, phase: str) -> int:
        return 64 + PHASES.index(phase) * _SLOT.size


#: The clock of this process and of everything that it forks.
PROCESS = Phases()
