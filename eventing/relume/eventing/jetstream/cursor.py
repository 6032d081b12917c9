"""One Trigger's durable pull consumer.

Pull requests are kept open on the server, for as many events as there is room for, so a waiting
event comes without a round trip. The count of what the server still owes is kept here: it goes
down with each event and with each end of a request, and to zero when the connection is lost.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import ConsumerInfo

from relume.base.time_limits import TimeLimit
from relume.eventing.jetstream.client import DirectClient, subscribe
from relume.eventing.jetstream.store import NATS_ERRORS, Requests
from relume.eventing.settings import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

_REQUEST_OPEN_S = 30
# What one request may bring; two may be open. It must be more than the largest message.
_REQUEST_BYTES = 2 * MAX_MESSAGE_BYTES
# After this silence the requests are taken for lost; the server ends each one itself before.
_LOST_AFTER_S = _REQUEST_OPEN_S + 5.0
_NOT_READY_S = 0.2
_STOP_WITHIN_S = 2.0
_ACK, _EXTEND, GIVE_BACK = b"+ACK", b"+WPI", b"-NAK"
# nats-server loses a plain -NAK when it stops, so that the next process would wait for the end of
# the lease. One with a delay is stored with the consumer. Its 2 s are longer than the stop takes.
_GIVE_BACK_SOON = b'-NAK {"delay": 2000000000}'


class JetStreamLeasedEvent:
    """An event of a pull consumer; its reply subject names it to the server."""

    __slots__ = ("_cursor", "_subject", "generation", "payload", "pending", "sequence")

    def __init__(self, cursor: "JetStreamCursor", subject: str, payload: bytes) -> None:
        self._cursor = cursor
        self._subject = subject
        # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>, then: deliveries, stream sequence,
        # consumer sequence, time, how many were delivered to nobody
        tokens = subject.split(".")
        told = tokens[4:9] if len(tokens) < 11 else tokens[6:11]
        self.generation, self.sequence, _, _, self.pending = map(int, told)
        self.payload = payload

    async def settle(self) -> None:
        self._cursor.settled = self._subject
        self._cursor.tell(self._subject, _ACK)

    async def give_back(self) -> None:
        self._cursor.returned[self.sequence] = self._subject
        self._cursor.tell(self._subject, GIVE_BACK)

    async def extend(self) -> None:
        self._cursor.tell(self._subject, _EXTEND)


class JetStreamCursor:
    """A cursor over a durable pull consumer; `last_sequence` is the log's, told by its owner."""

    def __init__(
        self, client: DirectClient, requests: Requests, info: ConsumerInfo, last_sequence: int
    ) -> None:
        self._client = client
        self._requests = requests
        self._pull_subject = f"$JS.API.CONSUMER.MSG.NEXT.{info.stream_name}.{info.name}"
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._received: dict[int, JetStreamLeasedEvent] = {}
        self._changed = asyncio.Event()
        self._owed = 0
        self._refused = False
        self.stopped = False
        self.last_sequence = last_sequence
        delivered = info.delivered.stream_seq if info.delivered else 0
        self._fetched = self._inherited_up_to = delivered
        self._inherited = info.num_ack_pending or 0
        self.inherited = (self._inherited, delivered)
        # What the server was told last, as the reply subjects of events: the last one that was
        # settled, and by sequence those that were given back and have not come again.
        self.settled: str | None = None
        self.returned: dict[int, str] = {}

    @property
    def waiting(self) -> int:
        """What was never delivered, and what an earlier process held and did not settle."""
        return max(0, self.last_sequence - self._fetched) + self._inherited

    async def fetch(self, limit: int) -> Sequence[JetStreamLeasedEvent]:
        while not self._received:
            self._changed.clear()
            await self._ask(limit)
            try:
                with TimeLimit(_LOST_AFTER_S):
                    await self._changed.wait()
            except TimeoutError:
                self._owed = 0
            if self._refused:
                self._refused = False
                await asyncio.sleep(_NOT_READY_S)
        await self._ask(limit - len(self._received))
        # Nothing is waited for from here on: what is taken reaches the caller.
        return [self._received.pop(each) for each in list(self._received)[:limit]]

    def tell(self, subject: str, what: bytes) -> None:
        """Say what becomes of a leased event. If it is lost, a redelivery makes up for it."""
        self._client.publish_soon(subject, what)

    def connection_changed(self) -> None:
        """The connection was lost or is there again: open requests are gone."""
        self._owed = 0
        self._changed.set()

    async def stop(self) -> None:
        self.stopped = True
        subscription, self._subscription = self._subscription, None
        with contextlib.suppress(*NATS_ERRORS):
            async with asyncio.timeout(_STOP_WITHIN_S):
                if subscription is not None:
                    # Takes in what was on its way, so that it can be given back.
                    await subscription.drain()  # type: ignore[no-untyped-call]
        for leased in self._received.values():
            await leased.give_back()
        self._received.clear()

    async def confirm(self) -> None:
        # The consumer takes messages in order: an answer to the last settlement, told again, means
        # that it has seen all of them.
        words = [(subject, _GIVE_BACK_SOON) for subject in self.returned.values()]
        if self.settled is not None:
            words.append((self.settled, _ACK))
        await asyncio.gather(
            *(self._requests.send(*word, timeout_s=_STOP_WITHIN_S) for word in words),
            return_exceptions=True,  # nobody answers: there is nobody to tell
        )

    async def _ask(self, room: int) -> None:
        # Asking again only for half the room makes few requests of many.
        if room < 1 or self._owed * 2 >= room or not self._client.is_connected:
            return
        if self._subscription is None:
            self._subscription = await subscribe(
                self._client, f"{self._inbox}.*", self._on_plain_message, self._on_message
            )
        batch = room - self._owed
        self._owed += batch
        asked = (batch, _REQUEST_BYTES, _REQUEST_OPEN_S * 10**9)
        request = b'{"batch":%d,"max_bytes":%d,"expires":%d}' % asked
        with contextlib.suppress(*NATS_ERRORS):
            # The batch in the subject says what a refusal without details refuses.
            await self._client.publish(self._pull_subject, request, f"{self._inbox}.{batch}")

    def _on_plain_message(self, _: str, reply: str, data: bytes, has_headers: bool) -> bool:
        if not reply.startswith("$JS.ACK."):
            return False  # the end of a request, which its headers tell of
        self._on_event(JetStreamLeasedEvent(self, reply, data))
        self._changed.set()
        return True

    async def _on_message(self, message: Msg) -> None:
        if not self._on_plain_message(message.subject, message.reply, message.data, True):
            self._on_end_of_request(message)
            self._changed.set()

    def _on_event(self, leased: JetStreamLeasedEvent) -> None:
        sequence = leased.sequence
        self.returned.pop(sequence, None)
        self._owed = max(0, self._owed - 1)
        self._received[sequence] = leased
        if sequence > self._fetched:
            self._fetched = sequence
        elif sequence <= self._inherited_up_to and self._inherited:
            self._inherited -= 1

    def _on_end_of_request(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if status == "100":
            return
        batch = message.subject.rpartition(".")[2]
        unserved = int(headers.get("Nats-Pending-Messages", batch))
        self._owed = max(0, self._owed - unserved)
        # A request that was open for its time (408), or that brought its bytes or all its
        # events, is no refusal.
        served = headers.get("Description", "") == "Batch Completed"
        if status != "408" and not served and "MaxBytes" not in headers.get("Description", ""):
            log.debug("a pull request was refused: %s", headers)
            self._refused = True
