"""Bring a plane to a phase and hold it there: what runs stands still while it is looked at.

A phase of a start takes from ten milliseconds to three seconds. The predictor is looked at every
millisecond, its processes are stopped (SIGSTOP) when the phase has come, and it is asked once more.
So what the tables say was hit is what the processes themselves have told.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import httpx

from tests.kills.processes import (
    LAUNCHER,
    TEMPLATE,
    children,
    command,
    gatekeeper_and_core,
    listening_ports,
    lives,
    stopped,
    until,
)

START_WITHIN_S = 90.0
_STEP_S = 0.002
#: Phases that are over in milliseconds, with one before: always, or in a start that is a fork.
_ALWAYS_SHORT = {"engine": "weights", "warmup": "weights"}
_SHORT_IN_A_FORK = {"import": "fork", "config": "fork", **_ALWAYS_SHORT}


class NotHit(Exception):
    """The phase was over, or never came; the message says what was seen."""


class Start:
    """The start of a predictor that is about to be asked for."""

    def __init__(self, parent: int, word: str = LAUNCHER, *, in_steps: bool = False) -> None:
        """parent: the process that will be its parent. in_steps: all its phases are short."""
        self._short = _SHORT_IN_A_FORK if in_steps else _ALWAYS_SHORT
        self._in_steps = in_steps
        self._parent = parent
        self._word = word
        self._before = set(children(parent))
        self._client = httpx.Client(timeout=0.5, trust_env=False)
        self.server = 0
        self.url = ""

    def begins(self) -> int:
        """The pid of the predictor, as soon as it runs its own program.

        Where it goes in steps, it stands still until `held_at`.
        """

        def begun() -> bool:
            for pid in children(self._parent):
                words = command(pid)
                own = self._word in words and (self._parent_is_template or TEMPLATE not in words)
                if pid not in self._before and own:
                    if self._in_steps:
                        os.kill(pid, signal.SIGSTOP)
                    self.server = pid
                    return True
            return False

        if not until(begun, START_WITHIN_S, 0.001):
            raise NotHit("no process was started")
        return self.server

    @property
    def _parent_is_template(self) -> bool:
        return TEMPLATE in command(self._parent)

    def phase(self) -> tuple[str, dict[str, float]]:
        """The phase that the predictor tells, and the phases that are over; `fork`: no port yet."""
        if not self.url:
            ports = listening_ports(self.server)
            if not ports:
                return "fork", {}
            self.url = f"http://127.0.0.1:{ports[0]}"
        with suppress(httpx.HTTPError, ValueError):
            told = self._client.get(f"{self.url}/startup").json()
            name, known = told["phase"], told["phases_ms"]
            if name in ("weights", "engine"):  # it may go on saying the one while the other runs
                name = "engine" if "weights" in known else "weights"
            return "draining" if told["state"] == "draining" else name, known
        return "", {}

    @contextmanager
    def held_at(self, phase: str, *, with_core: bool) -> Iterator[None]:
        """Stand still in that phase while the block runs. Raises NotHit.

        with_core: the engine core is to be there already.
        """
        end = time.monotonic() + START_WITHIN_S
        seen: list[str] = []
        while phase not in seen:
            if not lives(self.server) or time.monotonic() > end:
                raise NotHit(f"saw {', '.join(seen)}")
            # What comes next is short: let it come in steps.
            in_steps = (self._in_steps and not seen) or self._short.get(phase) in seen
            with stopped(*self._both) if in_steps else nullcontext():
                now, _ = self.phase()
                if in_steps and now == phase:
                    yield
                    return
            lacks = now == phase and with_core and not self._core_stays()
            seen += [now] if now and now not in seen and not lacks else []
            time.sleep(_STEP_S)
        _, core = self._both
        # In its last phase the server itself tells how far it is; in the others the gatekeeper.
        standing = (core,) if phase == "first_token" else self._both
        with stopped(*standing):
            now, known = self.phase()
            if now != phase or (phase == "first_token" and "first_token" in known):
                raise NotHit(f"it was over when all stood still (saw {now} {sorted(known)})")
            yield

    def _core_stays(self) -> bool:
        """Whether the engine core is there: who reads the weights ahead looks so while it ends."""
        first = self._both[1]
        time.sleep(0.05)
        return first is not None and self._both[1] == first

    @property
    def _both(self) -> tuple[int, int | None]:
        """The server and the engine core."""
        return self.server, gatekeeper_and_core(self.server)[1]


def drain(pid: int, start: Start) -> None:
    """SIGTERM to a predictor, and wait until it says that it drains."""
    os.kill(pid, signal.SIGTERM)
    if not until(lambda: start.phase()[0] == "draining", 10, 0.005):
        raise NotHit("it did not say that it drains")


def ready_start(server: int) -> Start:
    """A predictor that is ready, as something to ask."""
    start = Start(server)
    start.server = server
    start.phase()
    return start
