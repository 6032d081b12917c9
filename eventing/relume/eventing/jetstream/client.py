"""nats-py's client with less work for each of the four messages that an event costs.

- nats-py makes an object of each message, parses its headers, and hands it through a queue to a
  task that awaits a coroutine. The two messages of an event are handled in less time than that
  takes. So a plain function is called first, while the message is read.
- A settlement need not leave at once. It waits a few milliseconds for other messages, so that both
  this process and nats-server are woken less often.

This overrides `_process_msg` and `_flush_pending` of nats-py, which are not public. With a release
that has no such methods, every message takes nats-py's own way: in, to the callback of its
subscription, and out, at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from relume.eventing.jetstream.header_reader import HeaderReader

log = logging.getLogger(__name__)

_SOON_S = 0.005

# Gets the subject, the reply subject and the data of a message, and whether it has headers. False:
# the message goes nats-py's own way.
Handler = Callable[[str, str, bytes, bool], bool]


class DirectClient(HeaderReader):
    """A client some of whose subscriptions have a handler by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Handler] = {}
        self._is_patient = False
        self._leaving: asyncio.TimerHandle | asyncio.Task[Any] | None = None

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self.handlers.pop(sid, None)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        handler = self.handlers.get(sid)
        try:
            if handler and handler(subject.decode(), reply.decode(), data, bool(headers)):
                return
        except Exception:
            # It would end the task of nats-py that reads, and with it the connection. The message
            # counts as lost, which a redelivery or a timeout makes up for, as nats-py has it.
            log.exception("a message on %r could not be handled", subject)
            return
        await super()._process_msg(sid, subject, reply, data, headers)

    async def publish_soon(self, subject: str, payload: bytes) -> None:
        """Publish together with what is published next, and at the latest in 5 ms."""
        self._is_patient = True
        try:
            await self.publish(subject, payload)
        finally:
            self._is_patient = False

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        if force_flush or not self._is_patient:
            return await super()._flush_pending(force_flush)
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_later(_SOON_S, self._leave)
        return None

    def _leave(self) -> None:
        """Write what waits, unless it was written meanwhile."""
        self._leaving = None
        if self._pending and self.is_connected:
            self._leaving = asyncio.ensure_future(super()._flush_pending())
            self._leaving.add_done_callback(self._has_left)

    def _has_left(self, flushing: "asyncio.Task[Any]") -> None:
        self._leaving = None


async def subscribe(
    client: Client, subject: str, handler: Handler, callback: Callable[[Msg], Awaitable[None]]
) -> Subscription:
    """Subscribe; `callback` gets the messages that `handler` does not take.

    nats-py would drop messages beyond a bound of its own; who asks for messages bounds them.
    """
    subscription = await client.subscribe(subject, cb=callback, pending_bytes_limit=0)
    if isinstance(client, DirectClient):
        client.handlers[subscription._id] = handler
    return subscription


async def publish_soon(client: Client, subject: str, payload: bytes) -> None:
    """Publish what may wait a few milliseconds, where the client can do that."""
    if isinstance(client, DirectClient):
        await client.publish_soon(subject, payload)
    else:
        await client.publish(subject, payload)
