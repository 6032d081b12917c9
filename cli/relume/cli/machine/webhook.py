"""The webhook of the sample `tickets`, as a process that comes and goes."""

import asyncio
import functools
import json
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass
from pathlib import Path

from relume.base.parent import die_with_parent
from relume.base.vocabulary import Json
from relume.cli.errors import DemoFailed
from relume.plane.addresses import HOST

_LISTENS_WITHIN_S, _EVERY_S = 20.0, 0.1


@dataclass(frozen=True, slots=True)
class TicketOutcome:
    """What became of one ticket: the event that the webhook got, its subject and its data."""

    id: str
    type: str
    subject: str
    data: Json

    @property
    def words(self) -> str:
        """The reason of an error, or how the ticket was sorted."""
        if reason := self.data.get("reason"):
            return f"error: {reason}"
        return f"{self.data.get('category')}, {self.data.get('urgency')}"


class Webhook:
    """`tickets.py receive`, which checks signatures and writes down what it gets.

    As an async context manager it listens for as long as the block runs, except between `closes`
    and `opens`.
    """

    def __init__(self, script: Path, received: Path, port: int) -> None:
        self.url = f"http://{HOST}:{port}/tickets"
        self._port = port
        self._received = received
        self._argv = [str(script), "receive", str(received), "--port", str(port)]
        self._process: Process | None = None

    async def __aenter__(self) -> "Webhook":
        await self.opens()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.closes()

    async def opens(self) -> None:
        """Start it, and wait until it listens. Raises DemoFailed."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._argv,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )
        try:
            async with asyncio.timeout(_LISTENS_WITHIN_S):
                while not await self._listens():  # noqa: ASYNC110
                    await asyncio.sleep(_EVERY_S)
        except TimeoutError:
            await self.closes()
            raise DemoFailed(f"the webhook does not listen on port {self._port}") from None

    async def closes(self) -> None:
        """End it. What it wrote down stays."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            await process.wait()

    def outcomes(self) -> list[TicketOutcome]:
        """What came until now, each event once."""
        if not self._received.exists():
            return []
        # The last line may be only half written.
        *lines, _ = self._received.read_text(encoding="utf-8").split("\n")
        found: dict[str, TicketOutcome] = {}
        for line in lines:
            body = json.loads(line)
            event = body["event"]
            found[event["id"]] = TicketOutcome(
                event["id"], body["type"], event.get("subject", ""), body["data"]
            )
        return list(found.values())

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self._port)
        except OSError:
            return False
        writer.close()
        return True
