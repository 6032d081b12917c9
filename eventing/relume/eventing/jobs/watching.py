"""Who waits for what becomes of a job: all readers of one job share one watch of the store.

A long poll, a `wait=N` and a stream of one job cost the store one watch together, however many
they are. It ends with the last of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar, cast

from starlette.types import Receive

from relume.base.clock import Clock
from relume.cloudevents.asgi import ClientGone
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import JobStore

_AGAIN_S = 1.0
Item = TypeVar("Item")


class Watched:
    """One job that somebody watches: its last record, and the events that a change sets."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.error: BaseException | None = None
        self.wakes: set[asyncio.Event] = set()
        self.task: asyncio.Task[None] | None = None

    def settled(self, round_: int) -> Record | None:
        """The record, once this round (or a later one) of the job is settled.

        Raises what the watch ended with, if it failed.
        """
        if self.error is not None:
            raise self.error
        record = self.record
        return record if record and record.settled and record.round >= round_ else None

    def wake_all(self) -> None:
        for wake in self.wakes:
            wake.set()


class Watches:
    """All jobs that somebody watches now."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._jobs: dict[str, Watched] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.closed = False

    @property
    def count(self) -> int:
        """How many watches of the store are open."""
        return len(self._jobs)

    def close(self) -> None:
        """Wake everybody who waits, so that a server can stop."""
        self.closed = True
        for watched in self._jobs.values():
            watched.wake_all()

    @contextlib.contextmanager
    def of(self, job_id: str, wake: asyncio.Event) -> Iterator[Watched]:
        """The job, watched while the block runs; each change sets `wake`."""
        watched = self._jobs.get(job_id)
        if watched is None:
            watched = self._jobs[job_id] = Watched()
            watched.task = asyncio.create_task(self._watch(job_id, watched))
        watched.wakes.add(wake)
        if watched.record is not None or self.closed:
            wake.set()
        try:
            yield watched
        finally:
            watched.wakes.discard(wake)
            if not watched.wakes:
                self._leave(job_id, watched)

    async def settled(
        self, job_id: str, round_: int, within_s: float, receive: Receive
    ) -> Record | None:
        """The record of the settled job; None when it is not settled in time.

        Raises ClientGone as soon as nobody waits for the answer any more.
        """
        wake, late = asyncio.Event(), asyncio.Event()

        def is_late() -> None:
            late.set()
            wake.set()

        timer = self._clock.call_later(within_s, is_late)
        gone = asyncio.create_task(client_gone(receive))
        gone.add_done_callback(lambda _: wake.set())
        try:
            with self.of(job_id, wake) as watched:
                while True:
                    if (record := watched.settled(round_)) is not None:
                        return record
                    if gone.done():
                        raise ClientGone
                    if late.is_set() or self.closed:
                        return None
                    await wake.wait()
                    wake.clear()
        finally:
            timer.cancel()
            gone.cancel()

    async def _watch(self, job_id: str, watched: Watched) -> None:
        while True:
            try:
                async with closing(self._store.watch(job_id)) as records:
                    async for record in records:
                        watched.record = record
                        watched.wake_all()
            except StoreUnavailable:
                pass  # it comes back, or those who wait give up
            except Exception as error:
                watched.error = error
                watched.wake_all()
                raise
            await self._clock.sleep(_AGAIN_S)

    def _leave(self, job_id: str, watched: Watched) -> None:
        del self._jobs[job_id]
        if (task := watched.task) is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # it was raised to those who waited


async def client_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_there(receive: Receive, work: Coroutine[Any, Any, Item]) -> Item:
    """The result of work that may take long. Raises ClientGone, and ends it, when nobody waits."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(client_gone(receive))
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


@contextlib.asynccontextmanager
async def closing(items: AsyncIterator[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """Close an iterator of the store when the block ends."""
    async with contextlib.aclosing(cast(Any, items)):
        yield items
