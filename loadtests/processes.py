"""One server process that a measurement starts, watches and ends, with all that it started."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from relume.base.errors import RelumeError
from relume.base.parent import die_with_parent

#: Seconds from SIGTERM to SIGKILL.
GRACE_S = 15.0
#: Seconds that killed processes get to leave the process table.
GONE_S = 10.0
LOOK_S = 0.02


class MeasurementFailed(RelumeError):
    """A server died, refused or took too long; there is no figure to print."""

    reason = "measurement-failed"


class Server:
    """A running process and its descendants; times in seconds of the monotonic clock."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, log: Path, started: float
    ) -> None:
        self.name = name
        self.started = started
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def check_alive(self) -> None:
        """Raises MeasurementFailed with the log's last line when the process has ended."""
        if self._process.returncode is not None:
            raise MeasurementFailed(
                f"{self.name} ended with {self._process.returncode}: {self.last_words()}"
            )

    async def until(
        self, what: str, happened: Callable[[], bool], *, within_s: float, every_s: float = 0.01
    ) -> float:
        """Poll until `happened()`; the moment. Raises MeasurementFailed when it is too late."""
        deadline = time.monotonic() + within_s
        while not happened():
            self.check_alive()
            if time.monotonic() > deadline:
                raise MeasurementFailed(f"{self.name}: {what}: not within {within_s:g} s")
            await asyncio.sleep(every_s)
        return time.monotonic()

    async def ended(self) -> int:
        """Wait for the process to end by itself; its exit code."""
        return await self._process.wait()

    def pss_mb(self) -> float:
        """Memory of the process and its descendants in MB, shared pages counted once (PSS)."""
        total = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total / 1e6

    def tree(self) -> list[psutil.Process]:
        """The process and its living descendants."""
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop every process of the tree for as long as the block runs (SIGSTOP, SIGCONT).

        A server without work is not without cost: vLLM's worker spins for a second after its last.
        """
        tree = self.tree()
        _each(tree, psutil.Process.suspend)
        try:
            yield
        finally:
            _each(tree, psutil.Process.resume)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let a tree that is paused run for as long as the block does."""
        tree = self.tree()
        _each(tree, psutil.Process.resume)
        try:
            yield
        finally:
            _each(tree, psutil.Process.suspend)

    async def kill(self) -> None:
        """SIGKILL to the process alone; returns when its children have ended by themselves."""
        tree = self.tree()
        await self._killed(tree[:1], tree)

    async def kill_all(self) -> None:
        """SIGKILL to the whole tree at once."""
        tree = self.tree()
        await self._killed(tree, tree)

    async def _killed(
        self, doomed: Sequence[psutil.Process], tree: Sequence[psutil.Process]
    ) -> None:
        _each(doomed, psutil.Process.kill)
        await self._process.wait()
        await _until_gone(tree)

    async def end(self) -> None:
        """SIGTERM, then SIGKILL to what is left of the tree; returns when all of it is gone."""
        tree = self.tree()
        if self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE_S)
        _each(tree, psutil.Process.kill)
        await self._process.wait()
        await _until_gone(tree)

    def last_words(self) -> str:
        """The last line of its log, and where the log is."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        spoken = [line.strip() for line in lines if line.strip()]
        return f"{spoken[-1][:300] if spoken else 'no word'} (log: {self._log})"


@asynccontextmanager
async def started(
    name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path
) -> AsyncIterator[Server]:
    """Run `argv` in a session of its own, output to `log`; it is gone when the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        moment = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches us, and we end it in our own way
            preexec_fn=die_with_parent,  # a kill -9 of us leaves nothing either
        )
    server = Server(name, process, log, moment)
    try:
        yield server
    finally:
        await server.end()


def _each(tree: Sequence[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    for process in tree:
        with suppress(psutil.NoSuchProcess):  # psutil compares start times: no reused pid
            action(process)


async def _until_gone(tree: Sequence[psutil.Process]) -> None:
    for _ in range(round(GONE_S / LOOK_S)):
        if not any(map(_runs, tree)):
            return
        await asyncio.sleep(LOOK_S)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def kept_on_failure(prefix: str) -> Iterator[Path]:
    """A temporary folder for logs and state; it stays when a measurement fails, for its logs."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    except RelumeError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
