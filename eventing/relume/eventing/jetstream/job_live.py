"""What is stored under one subject, as it is stored: JetStream publishes it again.

Such messages may get lost. So each tells what lay under its subject before it, a lost connection
says so, and a reader that is too slow is told that it has lost some: whoever reads goes on in the
store then.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.job_api import JobApi, Message, message_in
from relume.eventing.jetstream.store import NATS_ERRORS
from relume.eventing.settings import MAX_MESSAGE_BYTES

# A reader looks into the store after so long without a message (at most twice as long), in case
# that one got lost.
_SILENT_S = 5.0
_MOST = 1000


class LiveSubject:
    """The messages under one subject from now on, at most `bound` bytes that nobody has taken."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._held: deque[Message] = deque()
        self._bytes = 0
        self._changed = False
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
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

    def close(self) -> None:
        """Look no more whether it is silent."""
        self._clock.cancel()

    def _tick(self) -> None:
        # One timer for all waits: a wait is done for each part of an answer.
        if not self._heard and self._waiter is not None:
            _wake(self._waiter)
        self._heard = False
        self._clock = self._loop.call_later(_SILENT_S, self._tick)

    def take(self) -> tuple[list[Message], bool]:
        """The messages since the last time, and whether they are all."""
        whole = self._changed and not self._lost
        taken = list(self._held)
        self._held.clear()
        self._bytes, self._lost = 0, False
        self._changed = False
        return taken, whole

    def _change(self) -> None:
        self._changed = self._heard = True
        if self._waiter is not None:
            _wake(self._waiter)

    def lost(self) -> None:
        """Some messages may not have come."""
        self._lost = True
        self._change()

    async def on_message(self, message: Msg) -> None:
        self._change()
        if self._lost:
            return
        self._held.append(message_in(message))
        self._bytes += len(message.data)
        if self._bytes > self._bound or len(self._held) > _MOST:
            self._held.clear()
            self._lost = True


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


@contextlib.asynccontextmanager
async def live(api: JobApi, subject: str, bound: int) -> AsyncIterator[LiveSubject]:
    """A LiveSubject, for a subject of a stream that publishes again what it has stored."""
    with contextlib.closing(LiveSubject(bound)) as messages:
        subscription = await _subscribed(api, subject, messages)
        api.listeners.append(messages.lost)
        try:
            yield messages
        finally:
            api.listeners.remove(messages.lost)
            with contextlib.suppress(*NATS_ERRORS):
                if not api.client.is_closed:
                    await subscription.unsubscribe()


async def _subscribed(api: JobApi, subject: str, messages: LiveSubject) -> Subscription:
    """nats-py subscribes again by itself when it has found a server again."""
    try:
        return await api.client.subscribe(
            subject.replace("relume.", "relume.live.", 1),
            cb=messages.on_message,
            pending_bytes_limit=2 * MAX_MESSAGE_BYTES,
        )
    except NATS_ERRORS as error:
        raise StoreUnavailable(f"{subject} cannot be followed: {error}") from None
