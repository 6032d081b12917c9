"""The plane's two ports, bound before anything else starts."""

import errno
import socket

from relume.plane.errors import PortTaken

HOST = "127.0.0.1"
DEFAULT_HTTP_PORT = 8080
DEFAULT_BROKER_PORT = 8081
BACKLOG = 2048


def listen(port: int, flag: str) -> socket.socket:
    """A listening loopback socket; port 0 takes a free one.

    Raises PortTaken with the flag that chooses another port.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Lets a restarted plane take over at once from connections that still wind down; a port
        # that another process listens on stays refused.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        why = {
            errno.EADDRINUSE: "is in use",
            errno.EACCES: "is not allowed to this user",
        }.get(error.errno or 0, f"cannot be used: {error.strerror}")
        raise PortTaken(f"port {port} {why}; choose another with {flag} PORT") from None
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket) -> str:
    """Base URL of a listening socket, without a slash at the end."""
    return f"http://{HOST}:{listening.getsockname()[1]}"
