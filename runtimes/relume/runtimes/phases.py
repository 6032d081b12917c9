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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relume.base.vocabulary import PREDICTOR_PHASES

if TYPE_CHECKING:  # the gatekeeper is to answer before anything like it is imported
    from starlette.types import Message, Scope, Send

STATES = ("loading", "ready", "draining")

_SLOT = struct.Struct("=d")
# The engine core writes the phase and the server the state: two words, so that neither is lost.
_INDEX = struct.Struct("=i")
_PHASE_AT, _STATE_AT = 0, 4
_COUNT = struct.Struct("=q")
_STEPS_AT = 8


def monotonic_ms() -> float:
    """Milliseconds on the clock that all processes of a machine share."""
    return time.monotonic_ns() / 1e6


class Phases:
    """Durations by phase in shared memory; each phase has one writer, so no lock is needed."""

    def __init__(self) -> None:
        self.renew()
        # Of the process that runs vLLM's server; nobody else needs to see them.
        self._engine_started = self._engine_answered = self._warmed_up = 0.0
        #: Called once, when the server is about to accept and nobody else answers on the port.
        self.when_ready: Callable[[], None] = lambda: None

    def renew(self) -> None:
        """Start over on a page of our own: a fork that is another predictor shares nothing."""
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        for name in PREDICTOR_PHASES:
            self._write(name, -1.0)

    def enter(self, phase: str) -> None:
        """Say which phase runs now (for people who watch a long load)."""
        _INDEX.pack_into(self._memory, _PHASE_AT, PREDICTOR_PHASES.index(phase))

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

    def engine_starts(self) -> None:
        """vLLM's server begins to build its engine, or anything before it that no phase counts."""
        self._engine_started = monotonic_ms()

    def engine_answers(self) -> None:
        """The engine core is up, and vLLM builds its routes now.

        The phase `engine` is what of this time was neither import, config, weights nor warm-up.
        """
        self._engine_answered = monotonic_ms()
        self._warmed_up = self.get("warmup") or 0.0
        known = sum(self.get(phase) or 0.0 for phase in ("import", "config", "weights"))
        spent = self._engine_answered - self._engine_started
        self.record("engine", spent - known - self._warmed_up)
        self.enter("warmup")

    def server_answers(self) -> None:
        """vLLM's server is about to accept; the rest of its start counts as warm-up.

        May be called again when it is still nearer to that.
        """
        routes_ms = monotonic_ms() - self._engine_answered
        self.record("warmup", self._warmed_up + routes_ms)
        self.enter("first_token")
        self.state = "ready"

    def stepped(self) -> None:
        """The engine has told of one more step; called in the process of the server alone."""
        _COUNT.pack_into(self._memory, _STEPS_AT, self.steps + 1)

    @property
    def steps(self) -> int:
        """How many steps the engine has told of."""
        return int(_COUNT.unpack_from(self._memory, _STEPS_AT)[0])

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
        known = {
            name: round(ms, 1) for name in PREDICTOR_PHASES if (ms := self.get(name)) is not None
        }
        phase = PREDICTOR_PHASES[self._index(_PHASE_AT)]
        return {"state": self.state, "phase": phase, "phases_ms": known}

    def to_json(self) -> bytes:
        """`snapshot()` as JSON."""
        return json.dumps(self.snapshot()).encode()

    def _index(self, at: int) -> int:
        return int(_INDEX.unpack_from(self._memory, at)[0])

    def _write(self, phase: str, value: float) -> None:
        _SLOT.pack_into(self._memory, self._offset(phase), value)

    def _offset(self, phase: str) -> int:
        return 64 + PREDICTOR_PHASES.index(phase) * _SLOT.size


#: The clock of this process and of everything that it forks.
PROCESS = Phases()


def first_answer_recorder(send: "Send", scope: "Scope") -> "Send":
    """Until the first token is known, watch answers: models that embed have no first token.

    The first bytes of a body count, not the status: a stream sends that before it has a token.
    """
    if PROCESS.get("first_token") is not None or scope["method"] != "POST":
        return send
    started = monotonic_ms()
    good = False

    async def watching(message: "Message") -> None:
        nonlocal good
        if message["type"] == "http.response.start":
            good = message["status"] < 300
        elif good and message.get("body") and PROCESS.get("first_token") is None:
            PROCESS.record("first_token", monotonic_ms() - started)
        await send(message)

    return watching
