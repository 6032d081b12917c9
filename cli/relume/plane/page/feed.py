"""What all open pages share: the history that is sampled at all times, and the state of now.

While no page is open, a sample is taken every few seconds, and that is all. While one is, the
status is read once a second, and four times a second while a service starts, so that its phases are
seen as they happen.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from relume.base.clock import Clock
from relume.base.vocabulary import Json
from relume.plane.memory import held_bytes
from relume.plane.page.board import Board
from relume.plane.page.history import EVERY_S, History, Sampler
from relume.plane.page.shown import sections

log = logging.getLogger(__name__)

LOOK_S, LOOK_CLOSELY_S = 1.0, 0.25
# To measure memory takes some ms for each GiB, so not every sample does.
_MEASURE_EVERY = 2

Status = Callable[[], Mapping[str, Any]]
#: The bytes that the process groups of these leaders hold.
Measure = Callable[[Iterable[int]], Mapping[int, int]]


class Feed:
    """Run it as long as the plane runs."""

    def __init__(
        self,
        status: Status,
        cold_starts: Callable[[], Sequence[Json]],
        clock: Clock,
        *,
        prompts: bool,
        measure: Measure = held_bytes,
    ) -> None:
        self._status = status
        self._cold_starts = cold_starts
        self._clock = clock
        self._prompts = prompts
        self._measure = measure
        self._sampler = Sampler()
        self._memory: Mapping[str, int] = {}
        self._readers = 0
        self._read = asyncio.Event()
        self.history = History()
        self.board = Board()

    async def run(self) -> None:
        """Sample and look until this is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sample())
            group.create_task(self._look())

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Look while the block runs; the board shows what is now when it begins."""
        self._readers += 1
        try:
            self.look()
            self._read.set()
            yield
        finally:
            self._readers -= 1

    def look(self) -> bool:
        """Read the status now. Returns whether a service starts."""
        status = self._status()
        self.board.put(sections(status, self._cold_starts(), prompts=self._prompts))
        services = status["serving"].get("services", ())
        return any(each["state"] == "starting" for each in services)

    async def _look(self) -> None:
        while True:
            await self._read.wait()
            self._read.clear()
            while self._readers:
                closely = False
                try:
                    closely = self.look()
                except Exception:
                    log.exception("the page shows what was before")
                await self._clock.sleep(LOOK_CLOSELY_S if closely else LOOK_S)

    async def _sample(self) -> None:
        number = 0
        while True:
            try:
                status = self._status()
                if number % _MEASURE_EVERY == 0:
                    self._memory = await self._measured(status)
                at = self._clock.now().timestamp()
                self.history.add(self._sampler.sample(at, status, self._memory))
            except Exception:
                log.exception("the history of the page lacks a sample")
            number += 1
            await self._clock.sleep(EVERY_S)

    async def _measured(self, status: Mapping[str, Any]) -> Mapping[str, int]:
        """What the processes of each service hold; nothing is measured where none runs."""
        owners = {
            pid: f"s:{each['namespace']}/{each['name']}"
            for each in status["serving"].get("services", ())
            for revision in (each.get("traffic") or (each,))
            for pid in revision["pids"]
        }
        if not owners:
            return {}
        held = await asyncio.to_thread(self._measure, tuple(owners))
        sums: dict[str, int] = {}
        for pid, size in held.items():
            sums[owners[pid]] = sums.get(owners[pid], 0) + size
        return sums
