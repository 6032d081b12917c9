"""A server that stops as vLLM's does: its own handler for SIGTERM, on the loop that drains.

It prints its port; `release` on standard input lets the answers go that wait; it prints `stopping`
when its handler runs.
"""

import asyncio
import signal
import socket
import sys

import uvicorn
from stub_vllm import Stub

from relume.runtimes.drain import DrainingLoop
from relume.runtimes.phases import PROCESS


async def main() -> None:
    loop = asyncio.get_running_loop()
    stub, stop = Stub(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, print, "signalled")
    loop.add_reader(sys.stdin.fileno(), stub.release.set)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(stub.app, log_level="error", lifespan="off"))
    PROCESS.state = "ready"
    serving = asyncio.create_task(server._serve([listening]))
    print(listening.getsockname()[1], flush=True)
    await stop.wait()
    print("stopping", flush=True)
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=DrainingLoop) as runner:
        runner.run(main())
