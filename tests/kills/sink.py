"""Where the answers of all planes are collected: a Trigger brings them to this process."""

import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink:
    """An HTTP server that keeps what was delivered, by the event that it answers."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[tuple[str, str, bytes]]] = defaultdict(Counter)
        """By `causationid`: type, id and data of each answer, and how often it was delivered."""
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                told = [str(self.headers.get(f"ce-{name}")) for name in ("type", "id")]
                cause = str(self.headers.get("ce-causationid"))
                answers[cause][(told[0], told[1], body)] += 1
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
