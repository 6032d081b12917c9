"""The state folder: one plane at a time, and a file that says where it listens.

lock          held (flock) by the plane for as long as it lives
plane.json    pid and addresses, present while the plane serves
nats/         the Brokers' streams
logs/         one log per predictor process
coldstarts.jsonl
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from relume.plane.errors import StateInUse


def default_state() -> Path:
    """$RELUME_STATE, else `relume` under $XDG_STATE_HOME, else ~/.local/state/relume."""
    if chosen := os.environ.get("RELUME_STATE"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "relume"


@dataclass(frozen=True, slots=True)
class PlaneFile:
    """What `plane.json` holds. Addresses are base URLs without a slash at the end."""

    pid: int
    http: str
    broker: str
    started_at: str
    version: str


class StateFolder:
    """The folder that one plane owns while it runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def plane_json(self) -> Path:
        return self.path / "plane.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Create the folder and hold its lock.

        The kernel drops the lock when the process ends in any way, so a crash leaves nothing to
        clean up. Raises StateInUse when another plane has it.
        """
        # For nobody else: the logs hold what models were asked.
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._in_use() from None
            self.plane_json.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def _in_use(self) -> StateInUse:
        plane = self.read()
        who = f"the plane at {plane.http} (pid {plane.pid})" if plane else "another plane"
        return StateInUse(f"{self.path} is in use by {who}; stop it, or choose another --state")

    @contextlib.contextmanager
    def published(self, plane: PlaneFile) -> Iterator[None]:
        """Show the addresses to other commands for as long as the block runs."""
        half_made = self.plane_json.with_suffix(".json.new")
        half_made.write_text(json.dumps(asdict(plane), indent=2) + "\n", encoding="utf-8")
        half_made.replace(self.plane_json)
        try:
            yield
        finally:
            self.plane_json.unlink(missing_ok=True)

    def read(self) -> PlaneFile | None:
        """The published addresses; None when there are none that make sense."""
        try:
            return PlaneFile(**json.loads(self.plane_json.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def running(self) -> PlaneFile | None:
        """The published addresses of a plane that is alive; a killed one leaves its file behind."""
        plane = self.read()
        return plane if plane and _alive(plane.pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and alive
    return True
