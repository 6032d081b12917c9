"""A process that loads for as long as its test wants, with a gatekeeper on its port.

It prints the port and the gatekeeper's pid, then does what each line of standard input says.
"""

import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from relume.runtimes.gatekeeper import Gatekeeper
from relume.runtimes.phases import PROCESS


class Owner(BaseHTTPRequestHandler):
    """Who answers on the port once the gatekeeper is gone."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"owner")

    def log_message(self, format: str, *args: object) -> None:
        pass


def open_port(where: str) -> socket.socket:
    """A listening socket on loopback, or at the path `where`."""
    if where == "tcp":
        return socket.create_server(("127.0.0.1", 0), backlog=2048)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(where)
    listening.listen(2048)
    return listening


def main() -> None:
    listening = open_port(sys.argv[1])
    if sys.argv[2:]:  # a client is in the backlog before there is anybody to accept it
        Path(sys.argv[2]).write_text(str(listening.getsockname()[1]))
        sys.stdin.readline()
    gatekeeper = Gatekeeper.start(listening, PROCESS)
    port = listening.getsockname()[1] if sys.argv[1] == "tcp" else 0
    print(port, gatekeeper.pid, flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "enter":
            PROCESS.enter(argument)
        elif command == "record":
            PROCESS.record(argument, 12.0)
        elif command == "dismiss":
            started = time.monotonic()
            gatekeeper.dismiss()
            print(time.monotonic() - started, flush=True)
            continue
        elif command == "serve":
            server = ThreadingHTTPServer(("127.0.0.1", 0), Owner, bind_and_activate=False)
            server.socket.close()
            server.socket = listening
            server.serve_forever()
        print("done", flush=True)


if __name__ == "__main__":
    main()
