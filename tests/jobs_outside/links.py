"""The ways between the processes of a trial, which the test can cut, stall and heal.

A link is a TCP proxy in front of one server. As in a real partition, what is sent into a stalled
link is not lost: it arrives late, when the link is whole again, unless somebody has closed the
connection meanwhile.
"""

import asyncio
import contextlib
from typing import Literal

#: `there` is from whoever connects to the server, `back` the other way.
Direction = Literal["there", "back"]
BOTH: tuple[Direction, ...] = ("there", "back")
_PIECE = 64 * 1024


class Link:
    """Takes connections on `port` and passes them on to the port `to`, both on loopback."""

    def __init__(self, port: int, to: int) -> None:
        self.port = port
        self._to = to
        self._passes: dict[Direction, asyncio.Event] = {each: asyncio.Event() for each in BOTH}
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections run through it now."""
        return len(self._open)

    async def heal(self) -> None:
        """Take connections, and pass on everything, also what was held back."""
        for passes in self._passes.values():
            passes.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def stall(self, *directions: Direction) -> None:
        """Hold back what is sent in these directions; nobody is told."""
        for each in directions:
            self._passes[each].clear()

    async def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        open_now = list(self._open)
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        writers = [writer]
        try:
            with contextlib.suppress(OSError):
                answers, server = await asyncio.open_connection("127.0.0.1", self._to)
                writers.append(server)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on("there", reader, server))
                    group.create_task(self._pass_on("back", answers, writer))
        except* OSError:
            pass  # one side has closed the connection
        finally:
            self._open.discard(task)
            for each in writers:
                each.transport.abort()

    async def _pass_on(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Raises ConnectionResetError at the end of either side."""
        passes = self._passes[direction]
        while piece := await reader.read(_PIECE):
            await passes.wait()
            writer.write(piece)
            await writer.drain()
        await passes.wait()  # an end is not heard of through a stalled link either
        raise ConnectionResetError
