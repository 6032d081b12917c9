"""What is stored under one subject, as it is stored: JetStream publishes it again.

Such messages may get lost. So each tells what lay under its subject before it, a lost connection
says so, and a reader that is too slow is told that it has lost some: whoever reads goes on in the
store then. What this process itself stores may be handed over here, without the way to nats-server
and back; meanwhile nothing is subscribed to.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.job_api import JobApi
from relume.eventing.jetstream.store import NATS_ERRORS
from relume.eventing.settings import MAX_MESSAGE_BYTES

# A reader looks into the store after so long without a message (at most twice as long), in case
# that one got lost.
_SILENT_S = 5.0
_MOST = 1000
Item = TypeVar("Item")


class LiveSubject(Generic[Item]):
    """What is stored under one subject from now on, at most `bound` bytes that nobody has taken.

    `read` makes an item of a message.
    """

    def __init__(self, api: JobApi, subject: str, bound: int, read: Callable[[Msg], Item]) -> None:
        self._api = api
        self._subject = subject.replace("relume.", "relume.live.", 1)
        self._bound = bound
        self._read = read
        self._held: deque[Item] = deque()
        self._bytes = 0
        self._changed = False
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._handed = False  # what is stored comes by `hand`
        self._subscription: Subscription | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = False
        self._clock = self._loop.call_later(_SILENT_S, self._tick)

    async def wait(self) -> None:
        """Return when there is something to take or some was lost, and after a long silence."""
        if self._changed:
            return
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _tick(self) -> None:
        # One timer for all waits: a wait is done for each part of an answer.
        if not self._heard and self._waiter is not None:
            _wake(self._waiter)
        self._heard = False
        self._clock = self._loop.call_later(_SILENT_S, self._tick)

    async def take(self) -> tuple[list[Item], bool]:
        """The items since the last time, and whether they are all.

        What is read from the store afterwards, where they are not all, and what comes then have
        nothing between them. Raises StoreUnavailable.
        """
        whole = self._changed and not self._lost
        taken = list(self._held)
        self._held.clear()
        self._bytes, self._lost = 0, False
        self._changed = False
        if self._handed == (self._subscription is not None):
            await self.listen()
        return taken, whole

    async def listen(self) -> None:
        """Subscribe, or no more where all is handed over. Raises StoreUnavailable."""
        if self._handed:
            await self._unsubscribe()
        elif self._subscription is None:
            try:
                # nats-py subscribes again by itself when it has found a server again.
                self._subscription = await self._api.client.subscribe(
                    self._subject,
                    cb=self._on_message,
                    pending_bytes_limit=2 * MAX_MESSAGE_BYTES,
                )
            except NATS_ERRORS as error:
                raise StoreUnavailable(f"{self._subject} cannot be followed: {error}") from None

    async def close(self) -> None:
        """Listen no more."""
        self._clock.cancel()
        await self._unsubscribe()

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(*NATS_ERRORS):
                if not self._api.client.is_closed:
                    await subscription.unsubscribe()

    def _change(self) -> None:
        self._changed = self._heard = True
        if self._waiter is not None:
            _wake(self._waiter)

    def lost(self) -> None:
        """Some messages may not have come."""
        self._lost = True
        self._change()

    def hand(self, item: Item, size: int) -> None:
        """What this process has stored; the next ones come this way, too, until `part`."""
        self._handed = True
        self._put(item, size)

    def part(self) -> None:
        """Nothing is handed over any more."""
        if self._handed:
            self._handed = False
            self.lost()

    async def _on_message(self, message: Msg) -> None:
        if self._lost:
            self._change()
        else:
            self._put(self._read(message), len(message.data))

    def _put(self, item: Item, size: int) -> None:
        self._change()
        if self._lost:
            return
        self._held.append(item)
        self._bytes += size
        if self._bytes > self._bound or len(self._held) > _MOST:
            self._held.clear()
            self._lost = True


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


@contextlib.asynccontextmanager
async def live(
    api: JobApi, subject: str, bound: int, read: Callable[[Msg], Item]
) -> AsyncIterator[LiveSubject[Item]]:
    """A LiveSubject, for a subject of a stream that publishes again what it has stored."""
    messages = LiveSubject(api, subject, bound, read)
    try:
        await messages.listen()
        api.listeners.append(messages.lost)
        try:
            yield messages
        finally:
            api.listeners.remove(messages.lost)
    finally:
        await messages.close()
