"""Storing events on JetStream: published to a stream, and acknowledged by nats-server.

A try that was not answered may have been carried out. Every message has an id, by which nats-server
knows the next try as the same message.
"""

import asyncio
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import nats.errors
import orjson
from nats.aio.msg import Msg

from relume.base.clock import Clock
from relume.base.time_limits import TimeLimit
from relume.eventing.envelope import Envelope, key_of
from relume.eventing.event_log import BrokerKey, DiskFull, StoreUnavailable, packed
from relume.eventing.jetstream.client import DirectClient, subscribe
from relume.eventing.jetstream.streams import BrokerStreams

# What nats-py raises when nobody answers, and when it cannot send because the buffer of a lost
# connection is full or the connection is closed. OSError includes TimeoutError.
NATS_ERRORS = (nats.errors.Error, OSError)
ANSWER_WITHIN_S = 5.0
_TRY_AGAIN_S = 0.1
# err_code of nats-server: wrong last sequence; and its store has reached its limit.
NOT_EMPTY = (10071, 10164)
_NO_SPACE = (10023, 10047, 10077)

# Payload and headers.
Outgoing = tuple[bytes, dict[str, str] | None]


class RequestUnanswered(Exception):
    """The connection was lost or nobody answered in time; the request may have been carried out."""


class NoSpace(RequestUnanswered):
    """nats-server has no room for it now."""


class Stored(NamedTuple):
    """Where an event lies in its stream. `new`: it was not there before; `size` in bytes."""

    sequence: int
    new: bool
    size: int


class Requests:
    """Sends requests over one subscription, and hands each answer to its sender.

    A request that was written to a dead connection is never answered. nats-py would let it run into
    its timeout; here it fails as soon as the connection is lost.
    """

    def __init__(self, client: DirectClient) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._tokens = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    async def open(self) -> None:
        inbox = f"{self._inbox}.*"
        await subscribe(self._client, inbox, self._on_plain_answer, self._on_answer)

    async def send(self, subject: str, payload: bytes, *, timeout_s: float) -> Msg:
        """The answer to one request.

        Raises RequestUnanswered, also when nobody listens on the subject.
        """
        [answer] = await self.send_all(subject, [(payload, None)], timeout_s=timeout_s)
        return answer

    async def send_all(
        self, subject: str, messages: Sequence[Outgoing], *, timeout_s: float
    ) -> list[Msg]:
        """The answers to requests sent together, in their order. Raises RequestUnanswered."""
        loop, expected = asyncio.get_running_loop(), dict[str, asyncio.Future[Msg]]()
        try:
            for payload, headers in messages:
                token = str(next(self._tokens))
                expected[token] = self._waiting[token] = loop.create_future()
                await self._client.publish(
                    subject, payload, reply=f"{self._inbox}.{token}", headers=headers
                )
            with TimeLimit(timeout_s):
                return [_answered(await answer) for answer in expected.values()]
        except TimeoutError:
            raise RequestUnanswered(f"no answer within {timeout_s:g} s") from None
        except NATS_ERRORS as error:
            raise RequestUnanswered(str(error)) from None
        finally:
            for token, answer in expected.items():
                del self._waiting[token]
                answer.cancel()  # so that asyncio does not report an error that nobody awaits

    def fail_all(self) -> None:
        """The connection is lost: what was sent will not be answered."""
        _fail(self._waiting.values(), "because the connection to nats-server was lost")

    def _on_plain_answer(self, subject: str, _: str, data: bytes, has_headers: bool) -> bool:
        if has_headers:
            return False
        self._hand_over(Msg(self._client, subject, "", data))
        return True

    async def _on_answer(self, message: Msg) -> None:
        self._hand_over(message)

    def _hand_over(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)


class JetStreamStore:
    """Puts events into the streams of Brokers over one connection, whose state its owner keeps."""

    def __init__(self, clock: Clock) -> None:
        self.client = DirectClient()
        self.requests = Requests(self.client)
        self.brokers: dict[BrokerKey, BrokerStreams] = {}
        self.connected = asyncio.Event()
        self._clock = clock

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        """See `EventLog.append`."""
        streams = self.brokers[broker]
        key = key_of(envelope)
        [stored] = await self.put(streams.subject, [message_of(envelope, key)], patience_s)
        streams.stored(stored, key)
        return stored.new

    async def put(
        self, subject: str, messages: Sequence[Outgoing], patience_s: float
    ) -> list[Stored]:
        """Return when nats-server has all of it. Raises StoreUnavailable, DiskFull."""
        give_up, left_s = self._clock.monotonic() + patience_s, patience_s
        while True:
            try:
                if not self.connected.is_set():
                    await self._wait_for_connection(left_s)
                within_s = min(left_s, ANSWER_WITHIN_S)
                answers = await self.requests.send_all(subject, messages, timeout_s=within_s)
                return [
                    stored_by(answer, len(payload))
                    for answer, (payload, _) in zip(answers, messages, strict=True)
                ]
            except NoSpace as error:
                if patience_s != math.inf:
                    raise DiskFull(f"the store of nats-server is full: {error}") from None
            except RequestUnanswered as error:
                if self._clock.monotonic() + _TRY_AGAIN_S >= give_up or self.client.is_closed:
                    raise StoreUnavailable(f"the event was not stored: {error}") from None
            await asyncio.sleep(_TRY_AGAIN_S)
            left_s = give_up - self._clock.monotonic()

    async def _wait_for_connection(self, left_s: float) -> None:
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                await self.connected.wait()
        except TimeoutError:
            raise RequestUnanswered("nats-server is not running") from None


def message_of(envelope: Envelope, key: str) -> Outgoing:
    """The message that stores an event; `key` is its id. Raises EventTooLarge."""
    return packed(envelope), {"Nats-Msg-Id": key}


def _fail(answers: Iterable[asyncio.Future[Msg]], why: str) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(RequestUnanswered(f"no answer {why}"))


def _answered(message: Msg) -> Msg:
    if not message.data and (message.headers or {}).get("Status") == "503":
        raise RequestUnanswered("JetStream is not ready")
    return message


def stored_by(answer: Msg, size: int) -> Stored:
    told = orjson.loads(answer.data)
    if (error := told.get("error")) is None:
        return Stored(told["seq"], not told.get("duplicate", False), size)
    words = error.get("description", "nats-server refused it")
    # A store that is being closed says that the last sequence is 0.
    if error["err_code"] in NOT_EMPTY and not words.endswith(": 0"):
        return Stored(0, False, size)
    raise NoSpace(words) if error["err_code"] in _NO_SPACE else RequestUnanswered(words)
