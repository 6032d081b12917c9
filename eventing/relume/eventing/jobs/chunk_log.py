"""Stores the parts of one answer as they come, in order, and never twice.

One append is under way at a time; what comes meanwhile goes into the next one. So a slow store
makes larger messages and not a longer queue. Parts that nobody reads wait a little for the next
ones (`unread_hold_s`), because an append costs five times as much as what else is done for a part.
Meanwhile the predictor's answer is not read either (`pause`), and its next parts are then handled
together. Nobody is shown a part that is not stored. An append whose acknowledgement got lost is
looked up when the repetition is refused.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

from relume.base.clock import Clock, Timer
from relume.base.errors import RelumeError
from relume.base.limits import KIB, MIB
from relume.eventing.event_log import DiskFull, LeaseLost, StoreUnavailable
from relume.eventing.jobs.readers import BELIEVED_S
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.store import Chunk, JobStore

log = logging.getLogger(__name__)

# What one append stores at most, where it is more than one part; it must fit one message.
_TOGETHER_BYTES = 1 * MIB
# More than this of an answer does not wait for a reader.
_HELD_BYTES = 64 * KIB
# A shorter pause is not worth its timer.
_SHORTEST_PAUSE_S = 0.005
# How long after a store has failed it is tried again.
STORE_PAUSE_S = 0.5


class ChunkLog:
    """The chunks of one job, written under one lease."""

    def __init__(
        self,
        store: JobStore,
        job_id: str,
        generation: int,
        lasts_s: float,
        clock: Clock,
        settings: JobSettings,
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._generation = generation
        self._lasts_s = lasts_s
        self._clock = clock
        self._bound = settings.unstored_bytes
        self._together = min(_TOGETHER_BYTES, settings.inline_bytes)
        self._held_bytes = min(_HELD_BYTES, settings.unstored_bytes)
        self._held_parts = settings.unread_hold_parts
        self._held_s = settings.unread_hold_s
        self._held_until = -math.inf
        self._read_until = -math.inf
        self._flushing = False
        self._due: Timer | None = None
        self._place = 0
        self._waiting: list[Chunk] = []
        self._waiting_bytes = 0
        self._stored = 0
        self._read_at = clock.monotonic()
        self._wanted = asyncio.Event()  # there is no reason to pause (any more)
        self._ended = asyncio.Event()  # of the answer that is read now
        self._changed = asyncio.Event()
        self._written = asyncio.Event()
        self._error: Exception | None = None
        #: The position of the last part that was taken.
        self.position = 0
        #: Told when a part cannot be stored any more.
        self.on_error: Callable[[Exception], None] | None = None

    async def read(self, at_least: int) -> Sequence[Chunk]:
        """All that is stored. What is put afterwards follows it, at positions above `at_least`."""
        while True:
            try:
                chunks, self._place = await self._store.chunks(self._job_id)
            except StoreUnavailable:
                await self._clock.sleep(STORE_PAUSE_S)
            else:
                break
        self.position = self._stored = max(at_least, chunks[-1].position if chunks else 0)
        self._waiting, self._waiting_bytes, self._error = [], 0, None
        return chunks

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Store in the background while the block runs; what is left then is not stored."""
        pump = asyncio.create_task(self._pump())
        try:
            with self._store.readers.of(self._job_id, self._is_read):
                yield
        finally:
            pump.cancel()
            await asyncio.wait([pump])
            if self._due is not None:
                self._due.cancel()

    def put(self, parts: Sequence[bytes], kind: Literal["data", "restarted"] = "data") -> None:
        """Store these next. Raises what made storing impossible."""
        self._check()
        for data in parts:
            self.position += 1
            self._waiting.append(Chunk(self.position, kind, data, self._generation))
            self._waiting_bytes += len(data)
        if parts and self._is_due():
            self._changed.set()

    def pause_s(self, parts: int, size: int) -> float:
        """How long the answer need not be read; 0 where somebody reads it, or it has ended.

        Until what was put is stored, so that what comes until then is stored with it. An answer
        that comes fast is read before it is more than one append holds. `parts` and `size` are what
        came since the last time, parts and bytes.
        """
        now = self._clock.monotonic()
        took_s, self._read_at = now - self._read_at, now
        if self._ended.is_set() or now < self._read_until:
            return 0.0
        fills_s = took_s * min(self._held_parts / max(1, parts), self._held_bytes / max(1, size))
        left_s = min(self._held_until - now, fills_s)
        return left_s if left_s >= _SHORTEST_PAUSE_S else 0.0

    async def pause(self, seconds: float) -> None:
        """Return after this time, or when a reader comes or the answer has ended."""
        self._wanted.clear()
        timer = self._clock.call_later(seconds, self._wanted.set)
        try:
            await self._wanted.wait()
        finally:
            timer.cancel()

    def begins(self) -> Callable[[], None]:
        """An answer begins. Call what is returned when it has ended: nothing is waited for then."""
        ended = self._ended = asyncio.Event()

        def end() -> None:
            ended.set()
            self._wanted.set()

        self._read_at = self._clock.monotonic()
        return end

    async def room(self) -> None:
        """Return when not too much waits to be stored. Raises as `put`."""
        await self._until(lambda: self._waiting_bytes < self._bound)

    async def flush(self) -> None:
        """Return when everything is stored. Raises as `put`."""
        if self._stored != self.position:
            self._flushing = True
            self._changed.set()
        try:
            await self._until(lambda: self._stored == self.position)
        finally:
            self._flushing = False

    async def _until(self, done: Callable[[], bool]) -> None:
        self._check()
        while not done():
            self._written.clear()
            await self._written.wait()
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _is_read(self) -> None:
        self._read_until = self._clock.monotonic() + BELIEVED_S
        self._wanted.set()
        if self._waiting:
            self._changed.set()

    def _is_due(self) -> bool:
        """Whether to store what waits now; sets a timer if not."""
        now = self._clock.monotonic()
        if (
            now >= self._held_until
            or now < self._read_until
            or self._flushing
            or len(self._waiting) >= self._held_parts
            or self._waiting_bytes >= self._held_bytes
        ):
            return True
        if self._due is None:
            self._due = self._clock.call_later(self._held_until - now, self._on_due)
        return False

    def _on_due(self) -> None:
        self._due = None
        self._wanted.set()  # before: what is read now is stored together with what waits
        self._changed.set()

    async def _pump(self) -> None:
        while True:
            while self._waiting and self._error is None and self._is_due():
                self._held_until = self._clock.monotonic() + self._held_s
                together = self._next()
                try:
                    await self._append(together)
                except RelumeError as error:
                    self._fail(error)
                except Exception as error:
                    log.exception("storing parts of job %s", self._job_id)
                    self._fail(error)
                else:
                    self._stored = together[-1].position
                    self._waiting_bytes -= sum(len(chunk.data) for chunk in together)
                self._written.set()
            self._changed.clear()
            await self._changed.wait()

    def _fail(self, error: Exception) -> None:
        self._error = error
        if self.on_error is not None:
            self.on_error(error)

    def _next(self) -> Sequence[Chunk]:
        count, size = 0, 0
        for chunk in self._waiting:
            size += len(chunk.data)
            if count and size > self._together:
                break
            count += 1
        together, self._waiting = self._waiting[:count], self._waiting[count:]
        return together

    async def _append(self, chunks: Sequence[Chunk]) -> None:
        unsure = False
        while True:
            try:
                self._place = await self._store.append(
                    self._job_id, chunks, self._place, lasts_s=self._lasts_s
                )
            except (StoreUnavailable, DiskFull):
                unsure = True
                await self._clock.sleep(STORE_PAUSE_S)
            except LeaseLost:
                if not (unsure and await self._is_stored(chunks)):
                    raise
                return
            else:
                return

    async def _is_stored(self, chunks: Sequence[Chunk]) -> bool:
        """Whether an append that was not acknowledged was stored, and nothing after it."""
        while True:
            try:
                found, place = await self._store.chunks(self._job_id, chunks[0].position - 1)
            except StoreUnavailable:
                await self._clock.sleep(STORE_PAUSE_S)
                continue
            if list(found) == list(chunks):
                self._place = place
                return True
            return False
