"""nats-py's client with less work for each of the four messages that an event costs.

- nats-py makes an object of each message, parses its headers, and hands it through a queue to a
  task that awaits a coroutine. The two messages of an event are handled in less time than that
  takes. So a plain function is called first, while the message is read.
- nats-py looks at a subject and at headers character by character, and puts a message together in
  many steps. What is printable ASCII, as nearly everything is, is put together here in a few.
- A settlement need not leave at once. It waits a few milliseconds for other messages, so that both
  this process and nats-server are woken less often.

This overrides `_process_msg` of nats-py and adds to its `_pending`, which are not public.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from relume.eventing.jetstream.header_reader import HeaderReader

log = logging.getLogger(__name__)

_SOON_S = 0.005
# A subject and a reply subject, maybe an empty one; and headers that are sent as they are written.
_PLAIN_SUBJECTS = re.compile("[!-~]+ [!-~]*")
_PLAIN_HEADERS = re.compile("(?:[A-Za-z0-9-]+: [!-~]+\r\n)*")

# Gets the subject, the reply subject and the data of a message, and whether it has headers. False:
# the message goes nats-py's own way.
Handler = Callable[[str, str, bytes, bool], bool]


class DirectClient(HeaderReader):
    """A client some of whose subscriptions have a handler by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Handler] = {}
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

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        subjects, named = f"{subject} {reply}", headers or {}
        lines = "".join([f"{name}: {value}\r\n" for name, value in named.items()])
        is_plain = (
            _PLAIN_SUBJECTS.fullmatch(subjects)
            and _PLAIN_HEADERS.fullmatch(lines)
            and lines.count("\n") == len(named)  # no value has a line of its own
        )
        is_ready = self._status == Client.CONNECTED and len(payload) <= self._max_payload
        if not (is_plain and is_ready):
            return await super().publish(subject, payload, reply, headers)
        if lines:
            head = f"NATS/1.0\r\n{lines}\r\n"
            sizes = f"{len(head)} {len(head) + len(payload)}"
            command = f"HPUB {subjects} {sizes}\r\n{head}".encode() + payload + b"\r\n"
        else:
            command = f"PUB {subjects} {len(payload)}\r\n".encode() + payload + b"\r\n"
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def publish_soon(self, subject: str, payload: bytes) -> None:
        """Publish together with what is published next, and at the latest in 5 ms.

        It is lost on a closed connection, and on a lost one whose buffer is full.
        """
        command = b"PUB %b  %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)
        size = self._pending_data_size + len(command)
        if self.is_closed or (size > self._max_pending_size and not self.is_connected):
            return
        self._pending.append(command)
        self._pending_data_size = size
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_later(_SOON_S, self._leave)

    def _leave(self) -> None:
        """Write what waits, unless it was written meanwhile."""
        self._leaving = None
        if self._pending and self.is_connected:
            self._leaving = asyncio.ensure_future(self._flush_pending())
            self._leaving.add_done_callback(self._has_left)

    def _has_left(self, flushing: "asyncio.Task[Any]") -> None:
        self._leaving = None


async def subscribe(
    client: DirectClient,
    subject: str,
    handler: Handler,
    callback: Callable[[Msg], Awaitable[None]],
) -> Subscription:
    """Subscribe; `callback` gets the messages that `handler` does not take.

    nats-py would drop messages beyond a bound of its own; who asks for messages bounds them.
    """
    subscription = await client.subscribe(subject, cb=callback, pending_bytes_limit=0)
    client.handlers[subscription._id] = handler
    return subscription
