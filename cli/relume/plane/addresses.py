"""Where one plane is on this machine: its ports, its state folder, its folder of sockets.

The state folder belongs to one plane at a time:

lock              held (flock) by the plane for as long as it lives
plane.json        pid and addresses, present while the plane serves
nats/             the streams of the Brokers
logs/             one log for each process of a service
mounts/           the files of Secrets and ConfigMaps that functions mount, while the plane runs
sockets           a link to the folder of sockets, while the plane runs
coldstarts.jsonl  the ledger of cold starts
secret            signs the correlations of RequestReplies, made once
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from relume.base.errors import InvalidInput, RelumeError
from relume.base.home import home

HOST = "127.0.0.1"
DEFAULT_HTTP_PORT = 8080
DEFAULT_BROKER_PORT = 8081
BACKLOG = 2048
# The path of a socket may have 103 bytes on macOS and 107 on Linux. A name in the folder takes up
# to 37 (a slash and a UUID), that of the folder 17.
PARENT_BYTES = 45
VLLM_SOCKETS = "VLLM_RPC_BASE_PATH"
_SOCKETS_PREFIX = "relume-"
_SECRET_BYTES = 32
_LARGEST_PID = 2**31 - 1


class PortTaken(RelumeError):
    """A port to listen on is in use, or not allowed."""

    reason = "port-taken"
    retryable = True


class StateUnusable(InvalidInput):
    """The state folder cannot be made, or not be written."""

    reason = "state-unusable"


class StateInUse(RelumeError):
    """Another plane holds the state folder."""

    reason = "state-in-use"
    retryable = True


def listen(port: int, flag: str, host: str = HOST) -> socket.socket:
    """A listening socket, on loopback unless `host` is another address; port 0 takes a free one.

    Raises PortTaken with the flag that chooses another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Lets a restarted plane take over at once from connections that still wind down; a port
        # that another process listens on stays refused.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        why = {
            errno.EADDRINUSE: "is in use",
            errno.EACCES: "is not allowed to this user",
        }.get(error.errno or 0, f"cannot be used: {error.strerror}")
        where = f"port {port}" if host == HOST else f"{host}, port {port},"
        raise PortTaken(f"{where} {why}; choose another with {flag} PORT") from None
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket) -> str:
    """Base URL of a listening socket, without a slash at the end."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def default_state() -> Path:
    """$RELUME_STATE, else `relume` under $XDG_STATE_HOME, else ~/.local/state/relume."""
    if chosen := os.environ.get("RELUME_STATE"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else home("RELUME_STATE") / ".local" / "state") / "relume"


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
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def mounts(self) -> Path:
        return self.path / "mounts"

    @property
    def plane_json(self) -> Path:
        return self.path / "plane.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Create the folder and hold its lock.

        The kernel drops the lock when the process ends in any way, so a crash leaves nothing to
        clean up. Raises StateInUse when another plane has it, and StateUnusable.
        """
        try:
            # Private, because the logs hold what models were asked.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateUnusable(
                f"{error.filename}: {error.strerror}; choose another folder with --state DIR "
                "or RELUME_STATE"
            ) from None
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

    def secret(self) -> bytes:
        """The plane's own secret, the same for every process that holds this folder."""
        file = self.path / "secret"
        with contextlib.suppress(FileNotFoundError):
            if len(kept := file.read_bytes()) == _SECRET_BYTES:
                return kept
        made, half_made = os.urandom(_SECRET_BYTES), file.with_suffix(".new")
        half_made.touch(mode=0o600)
        half_made.write_bytes(made)
        half_made.replace(file)
        return made

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

    @contextlib.contextmanager
    def private(self, name: str) -> Iterator[Path]:
        """An empty folder that only this user can read, for as long as the block runs.

        What a killed plane left there is removed first.
        """
        folder = self.path / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def sockets(self) -> Iterator[Path]:
        """Give a `socket_folder` to which a link leads, so that the next plane can find it.

        What a killed plane left there is removed first. Of a copy of a state folder the link may
        lead to the sockets of a plane that runs, which holds their lock. A plane needs no link to
        run: a file system may know none, and a copy may have a folder in its place.
        """
        link = self.path / "sockets"
        if link.is_symlink():
            _remove_unused(Path(os.path.realpath(link)))
            with contextlib.suppress(OSError):
                link.unlink()
        with socket_folder() as folder, _lock_of(folder):
            linked = False
            with contextlib.suppress(OSError):
                link.symlink_to(folder)
                linked = True
            try:
                yield folder
            finally:
                if linked:
                    link.unlink(missing_ok=True)

    def read(self) -> PlaneFile | None:
        """The published addresses; None when the file is missing, torn, or not a plane's."""
        try:
            plane = PlaneFile(**json.loads(self.plane_json.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        texts = (plane.http, plane.broker, plane.started_at, plane.version)
        is_pid = type(plane.pid) is int and 0 < plane.pid <= _LARGEST_PID
        return plane if is_pid and all(isinstance(text, str) for text in texts) else None

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
        pass  # it is alive, and belongs to another user
    return True


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """A short-lived folder for Unix sockets, which child processes find in `VLLM_RPC_BASE_PATH`.

    It is in the temporary folder, or in /tmp where that has a long name. vLLM leaves three socket
    files behind for each engine that ends; here they go with the plane. Where the user has chosen
    a folder for vLLM's sockets, vLLM keeps to that one.
    """
    short = len(os.fsencode(tempfile.gettempdir())) <= PARENT_BYTES
    with tempfile.TemporaryDirectory(
        prefix=_SOCKETS_PREFIX, dir=None if short else "/tmp", ignore_cleanup_errors=True
    ) as folder:
        chosen = os.environ.setdefault(VLLM_SOCKETS, folder)
        try:
            yield Path(folder)
        finally:
            if chosen == folder:
                del os.environ[VLLM_SOCKETS]


@contextlib.contextmanager
def _lock_of(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder of sockets while the block runs.

    False: another plane has it, or the file system knows no such locks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        taken = False
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = True
        yield taken
    finally:
        os.close(descriptor)


def _remove_unused(folder: Path) -> None:
    """Remove a folder of sockets whose plane is gone."""
    if folder.name.startswith(_SOCKETS_PREFIX):
        with contextlib.suppress(OSError), _lock_of(folder) as unused:
            if unused:
                shutil.rmtree(folder, ignore_errors=True)
