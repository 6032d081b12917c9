"""Answers on the port from the first millisecond until the engine takes over.

A child of the launcher, forked before vLLM is imported or its engine built, because both keep the
interpreter busy for seconds. It accepts on the same listening socket that vLLM's server will use;
when the engine answers, `Gatekeeper.dismiss` ends it and the connections that wait in the socket's
backlog go to vLLM. Readiness is 503 all that time, liveness is 200, and `GET /startup` tells how
far the load is. Every answer closes its connection, so that no client stays with the gatekeeper.
"""

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

from relume.base.error_body import RETRY_AFTER_S, error_body
from relume.base.parent import die_with_parent
from relume.runtimes.phases import PROCESS, Phases

if TYPE_CHECKING:  # the gatekeeper is to answer before anything like it is imported
    from starlette.types import Message, Send

LIVENESS = frozenset({"/livez", "/v2/health/live"})
_MAX_DRAINED_BODY = 8 << 20
_IDLE_S = 10.0
#: How long `dismiss` waits for clients that are slow to ask, to send or to hang up.
DISMISS_S = 1.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    phases: ClassVar[Phases]

    def handle_expect_100(self) -> bool:
        """Refuse before the body is sent: the answer is known without it."""
        return True

    def answer(self) -> None:
        path = self.path.split("?", 1)[0]
        if path == "/startup":
            self._send(200, self.phases.to_json())
        elif path in LIVENESS:
            self._send(200, b'{"live": true}')
        else:
            phase = self.phases.snapshot()["phase"]
            body = error_body(
                path,
                status=503,
                message=f"the model is loading (phase {phase}); try again",
                reason="loading",
                retryable=True,
            )
            self._send(503, json.dumps(body).encode())

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = do_PATCH = answer  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that cannot be read.

        One whose headers are more or longer than Python's server reads is no bad request: vLLM's
        server will read it, so it is told that the model loads.
        """
        if code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self.answer()
        else:
            super().send_error(code, message, explain)

    def finish(self) -> None:
        """Say that no more comes and read on until the client has hung up.

        A body that is still on its way when the connection is closed resets it, and the client
        loses the answer (RFC 9112 §9.6).
        """
        super().finish()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            left = _MAX_DRAINED_BODY
            while left > 0 and (chunk := self.connection.recv(65536)):
                left -= len(chunk)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        if status == 503:
            self.send_header("Retry-After", RETRY_AFTER_S)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: a probe every 50 ms would bury the engine's log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for the answers under way
    block_on_close = True

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing for a client that goes away."""


class Gatekeeper:
    """The child process that says "loading" on a listening socket."""

    #: What the launcher started for the server of this process. None where plain `vllm serve`
    #: loaded our plugin, and after `dismiss_on_duty`.
    on_duty: ClassVar["Gatekeeper | None"] = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @classmethod
    def ask_to_go(cls) -> None:
        """Have it end after the answers under way; `dismiss_on_duty` waits for that."""
        if cls.on_duty is not None:
            with suppress(ProcessLookupError):
                os.kill(cls.on_duty.pid, signal.SIGTERM)

    @classmethod
    def dismiss_on_duty(cls) -> None:
        """Hand the port to vLLM's server, which is about to accept."""
        if cls.on_duty is not None:
            cls.on_duty.dismiss()
            cls.on_duty = None

    @classmethod
    def start(cls, listening: socket.socket, phases: Phases) -> "Gatekeeper":
        """Fork the gatekeeper; call while this process has one thread."""
        sys.stdout.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                die_with_parent(parent)
                _run(listening, phases)
                status = 0
            finally:
                os._exit(status)
        return cls(pid)

    def dismiss(self) -> None:
        """End it after the answers under way, at most `DISMISS_S`; returns when it is gone."""
        try:
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return


def opening(send: "Send") -> "Send":
    """Hand the port to vLLM's server when all that it starts is done: it accepts next."""

    async def watching(message: "Message") -> None:
        if message["type"] == "lifespan.startup.complete" and PROCESS.state == "ready":
            Gatekeeper.dismiss_on_duty()
            PROCESS.server_answers()
            PROCESS.when_ready()
        await send(message)

    return watching


def _run(listening: socket.socket, phases: Phases) -> None:
    _Handler.phases = phases
    server = _Server(listening)

    def stop(_signal: int, _frame: object) -> None:
        # Nobody waits for a client that keeps its connection open and asks for nothing.
        last = threading.Timer(DISMISS_S, os._exit, (0,))
        last.daemon = True
        last.start()
        # From another thread, because shutdown() waits for the loop that this signal interrupts.
        # The loop looks before it accepts, so no connection is taken and then dropped.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.serve_forever(poll_interval=0.01)
    server.server_close()
