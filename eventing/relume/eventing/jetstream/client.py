"""nats-py's client with less work for each of the four messages that an event costs.

- nats-py makes an object of each message, parses its headers, and hands it through a queue to a
  task that awaits a coroutine. The two messages of an event are handled in less time than that
  takes. So a plain function is called first, while the message is read.
- nats-py makes a future for each message that is published, and wakes a task through a queue, which
  writes. Here what is published is written at the end of the same turn of the event loop.
- A settlement need not leave at once. It waits a few milliseconds for other messages, so that both
  this process and nats-server are woken less often.

This overrides `_process_msg` and `_flush_pending` of nats-py, which are not public. With a release
that has no such methods, every message takes nats-py's own way: in, to the callback of its
subscription, and out, by its task.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from relume.eventing.jetstream.header_reader import HeaderReader

log = logging.getLogger(__name__)

_SOON_S = 0.005
_FULL_BYTES = 64 * 1024

# Gets the subject, the reply subject and the data of a message, and whether it has headers. False:
# the message goes nats-py's own way.
Handler = Callable[[str, str, bytes, bool], bool]


class DirectClient(HeaderReader):
    """A client some of whose subscriptions have a handler by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Handler] = {}
        self._is_patient = False
        self._is_writing = False
        self._later: asyncio.TimerHandle | None = None

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
        if force_flush or self._is_full():
            return await super()._flush_pending(force_flush)
        loop = asyncio.get_running_loop()
        if self._is_patient:
            if self._later is None:
                self._later = loop.call_later(_SOON_S, self._write)
        elif not self._is_writing:
            self._is_writing = True
            loop.call_soon(self._write)
        return None

    def _is_full(self) -> bool:
        """Whether nats-server reads too slowly, or a transport is used that cannot tell.

        nats-py then writes in a task of its own, and publishers wait for it.
        """
        writer = getattr(self._transport, "_io_writer", None)
        return writer is None or writer.transport.get_write_buffer_size() > _FULL_BYTES

    def _write(self) -> None:
        """Write all that waits; without a connection it waits for the next one."""
        if self._later is not None:
            self._later.cancel()
        self._later, self._is_writing = None, False
        if not self._pending or not self.is_connected or self._transport is None:
            return
        with contextlib.suppress(
            OSError, RuntimeError
        ):  # lost: nats-py connects again and sends it
            self._transport.writelines(self._pending[:])
            self._pending = []
            self._pending_data_size = 0


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
