"""Templates: processes that fork predictors. The warm one has imported vLLM and holds no model.

Protocol, over a Unix stream socket, one connection per predictor, JSON lines:

    → {"argv": ["--model", …], "env": {"K_SERVICE": …}, "log": "/path", "requested_ms": 12.3}
    ← {"pid": 4711}
    ← {"ready": true}              when its server is about to accept
    ← {"exit": 0}                  when it ended; a negative number is the signal that ended it

With `"template": "/path/of/a/socket"` the fork becomes a model template: it builds the engine that
the flags describe, and is `ready` when it takes requests on that socket, by the same protocol. Its
forks have the engine already (`relume.runtimes.ahead`).

The connection is the fork's lease: when the client closes it or ends, the fork is killed.
When a template ends, its forks end too. A template has one thread and no event loop at a fork,
because a fork copies only the calling thread, and a lock that another thread held would stay locked
in the child for ever.
"""

import gc
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from relume.base.parent import die_with_parent
from relume.runtimes import fork_cost, imports, internals
from relume.runtimes.phases import PROCESS, monotonic_ms

Serve = Callable[[Sequence[str]], None]  # `launcher.serve`

_MAX_REQUEST = 1 << 20
# How much a model template gives way to what answers requests while it builds an engine.
_NICE = 10
# How long a thread that was joined may take to be gone.
_THREADS_END_WITHIN_S = 5.0
#: The exit status of a model template whose model cannot be loaded before a fork.
NOT_LOADABLE = 78


def serve_template(serve: Serve, path: Path, ready: int | None = None) -> None:
    """Import the engine, then fork a predictor for each request on the socket `path`.

    A fork calls `serve` with its flags. One byte is written to the descriptor `ready`, if given,
    when the socket takes requests.
    """
    internals.speed_up_imports()
    imports.import_all()
    internals.set_up_once()
    gc.collect()
    gc.freeze()

    def announce() -> None:
        if ready is not None:
            os.write(ready, b"1")
            os.close(ready)

    _take_requests(path, serve, announce)


def _serve_model(serve: Serve, argv: Sequence[str], path: Path, lease: socket.socket) -> None:
    """Build the engine for the flags `argv`, then fork predictors that have it already."""
    from relume.runtimes import ahead

    failures: list[BaseException] = []

    def load() -> None:
        try:
            # Of this thread alone: without a privilege, no process gets back what it gave away.
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
            ahead.load(argv)
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            failures.append(error)

    shared = list(fork_cost.areas())
    loading = threading.Thread(target=load)
    loading.start()
    loading.join()
    if failures and isinstance(failures[0], ahead.NotLoadable):
        print(f"template: {failures[0]}", file=sys.stderr)
        raise SystemExit(NOT_LOADABLE)
    if failures:
        raise failures[0]
    gc.collect()
    gc.freeze()
    zeros = ahead.kv_cache(ahead.AHEAD.core)
    fork_cost.zero(zeros)
    _take_requests(path, serve, lambda: _send(lease, {"ready": True}), [*shared, *zeros])


def _take_requests(
    path: Path, serve: Serve, announce: Callable[[], None], apart: Sequence[tuple[int, int]] = ()
) -> None:
    """Fork for each request on the socket `path`, and say by `announce` that it listens.

    apart: memory that stays in the pages that it has, by address and bytes.
    """
    fork_cost.trim()
    if threads := other_threads(_THREADS_END_WITHIN_S):
        names = ", ".join(threads)
        print(f"template: other threads before the first fork: {names}", file=sys.stderr)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(64)
        print("template: ready", file=sys.stderr, flush=True)
        announce()
        _Template(listening, serve, _tidy(apart)).run()


def other_threads(within_s: float) -> list[str]:
    """Return the names of this process's other threads that have not ended within this time.

    Python calls a thread joined before the kernel has ended it, which takes long on a busy machine
    for one that has given way.
    """
    until = time.monotonic() + within_s
    while (names := _other_threads()) and time.monotonic() < until:
        time.sleep(0.001)
    return names


def _other_threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(os.getpid()):
            with suppress(OSError):  # it ends at this moment
                names.append((task / "comm").read_text().strip())
    return names


def _tidy(apart: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Make the forks of this process and what it holds smaller, step by step."""
    yield from fork_cost.collapse(apart)
    fork_cost.forget_files()


def _send(connection: socket.socket, message: Mapping[str, object]) -> None:
    with suppress(OSError):  # the client is gone, and nobody else reads this
        connection.sendall(json.dumps(message).encode() + b"\n")


class _Template:
    """The loop: requests in, forks and exit statuses out."""

    def __init__(self, listening: socket.socket, serve: Serve, idle: Iterator[None]) -> None:
        """idle: work that is done step by step while nobody asks for anything."""
        self._idle: Iterator[None] | None = idle
        self._listening = listening
        self._serve = serve
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, socket.socket] = {}  # by pid of the predictor
        self._unread: dict[socket.socket, bytes] = {}

    def run(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(wake_read, selectors.EVENT_READ)
        while True:
            events = self._selector.select(None if self._idle is None else 0)
            if self._idle is not None and not events and next(self._idle, self) is self:
                self._idle = None
            for key, _ in events:
                if key.fileobj is self._listening:
                    connection, _address = self._listening.accept()
                    connection.settimeout(5)
                    self._selector.register(connection, selectors.EVENT_READ)
                elif key.fileobj == wake_read:
                    os.read(wake_read, 4096)
                    self._reap()
                elif isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)

    def _read(self, connection: socket.socket) -> None:
        try:
            chunk = connection.recv(65536)
        except OSError:
            chunk = b""
        unread = self._unread.pop(connection, b"") + chunk
        if not chunk or len(unread) > _MAX_REQUEST:
            self._forget(connection)
        elif b"\n" in unread:
            self._fork(connection, json.loads(unread))
        else:
            self._unread[connection] = unread

    def _fork(self, connection: socket.socket, request: dict[str, object]) -> None:
        template = os.getpid()
        if "template" in request:  # it keeps what it shares now, and nobody waits for it
            for _ in self._idle or ():
                pass
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            for other in {self._listening, *self._connections.values(), *self._unread}:
                other.close()
            _become(self._serve, template, request, connection)
        with suppress(OSError):  # the child does the same, and either may be first
            os.setpgid(pid, pid)
        self._connections[pid] = connection
        _send(connection, {"pid": pid})

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if connection := self._connections.pop(pid, None):
                _send(connection, {"exit": os.waitstatus_to_exitcode(status)})
                self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        for pid in [p for p, c in self._connections.items() if c is connection]:
            del self._connections[pid]
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        if connection in self._selector.get_map():
            self._selector.unregister(connection)
        connection.close()


def _become(serve: Serve, template: int, request: dict[str, object], lease: socket.socket) -> None:
    """Turn this fork into the process that `request` describes; does not return."""
    status = 1
    try:
        die_with_parent(template)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        _redirect_output(str(request["log"]))
        environment, argv = request["env"], request["argv"]
        assert isinstance(environment, dict) and isinstance(argv, list)
        os.environ.update(environment)
        PROCESS.renew()  # the template's clock is shared by all that it forks
        PROCESS.record("fork", monotonic_ms() - float(str(request["requested_ms"])))
        if "template" in request:
            _serve_model(serve, argv, Path(str(request["template"])), lease)
        else:
            PROCESS.when_ready = lambda: _send(lease, {"ready": True})
            serve(argv)
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - the last frame of the process: print, then leave
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect_output(log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
