"""Storing events on JetStream: published to a stream, and acknowledged by nats-server.

A try that was not answered may have been carried out. Every message has an id, by which nats-server
knows the next try as the same message.
"""

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from relume.base.clock import Clock
from relume.eventing.envelope import Envelope, key_of
from relume.eventing.event_log import BrokerKey, DiskFull, StoreUnavailable, packed
from relume.eventing.jetstream.streams import BrokerStreams

# What nats-py raises when nobody answers, and when it cannot send because the buffer of a lost
# connection is full or the connection is closed. OSError includes TimeoutError.
NATS_ERRORS = (nats.errors.Error, OSError)
ANSWER_WITHIN_S = 5.0

_TRY_AGAIN_S = 0.1
# err_code of nats-server: wrong last sequence; and its store has reached its limit.
_NOT_EMPTY = (10071, 10164)
_NO_SPACE = (10023, 10047, 10077)

# Payload and headers.
Outgoing = tuple[bytes, dict[str, str] | None]


class RequestUnanswered(Exception):
    """The connection was lost or nobody answered in time; the request may have been carried out."""


class _NoSpace(RequestUnanswered):
    """nats-server has no room for it now."""


class _Closing(RequestUnanswered):
    """The last sequence of the subject is said to be 0, which may be the end of the store."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an event lies in its stream. `new`: it was not there before; `size` in bytes."""

    sequence: int
    new: bool
    size: int


class Requests:
    """Sends requests over one subscription, and hands each answer to its sender.

    A request that was written to a dead connection is never answered. nats-py would let it run into
    its timeout; here it fails as soon as the connection is lost.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._tokens = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._parts: dict[str, list[Msg]] = {}  # of answers that come in several messages

    async def open(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def send(self, subject: str, payload: bytes, *, timeout_s: float) -> Msg:
        """The answer to one request.

        Raises RequestUnanswered, also when nobody listens on the subject.
        """
        [answer] = await self.send_all(subject, [(payload, None)], timeout_s=timeout_s)
        return answer

    async def send_all(
        self, subject: str, messages: Sequence[Outgoing], *, timeout_s: float
    ) -> list[Msg]:
        """The answers to requests that are under way together, in the same order.

        Raises RequestUnanswered when one of them is not answered.
        """
        loop = asyncio.get_running_loop()
        expected = {str(next(self._tokens)): loop.create_future() for _ in messages}
        self._waiting |= expected
        try:
            for token, (payload, headers) in zip(expected, messages, strict=True):
                await self._client.publish(
                    subject, payload, reply=f"{self._inbox}.{token}", headers=headers
                )
            async with asyncio.timeout(timeout_s):
                return [_answered(await answer) for answer in expected.values()]
        except TimeoutError:
            raise RequestUnanswered(f"no answer within {timeout_s:g} s") from None
        except NATS_ERRORS as error:
            raise RequestUnanswered(str(error)) from None
        finally:
            for token, answer in expected.items():
                del self._waiting[token]
                answer.cancel()  # so that asyncio does not report an error that nobody awaits

    async def collect(self, subject: str, payload: bytes, *, timeout_s: float) -> list[Msg]:
        """The answer to one request that is answered by several messages; the last has a status.

        Raises RequestUnanswered.
        """
        token = str(next(self._tokens))
        answer = self._waiting[token] = asyncio.get_running_loop().create_future()
        parts = self._parts[token] = []
        try:
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{token}")
            async with asyncio.timeout(timeout_s):
                parts.append(_answered(await answer))
        except TimeoutError:
            raise RequestUnanswered(f"no whole answer within {timeout_s:g} s") from None
        except NATS_ERRORS as error:
            raise RequestUnanswered(str(error)) from None
        finally:
            del self._waiting[token], self._parts[token]
            answer.cancel()
        return parts

    def fail_all(self) -> None:
        """The connection is lost: what was sent will not be answered."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RequestUnanswered("the connection to nats-server was lost"))

    async def _on_answer(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        answer = self._waiting.get(token)
        if answer is None or answer.done():
            return
        if token in self._parts and "Status" not in (message.headers or {}):
            self._parts[token].append(message)
        else:
            answer.set_result(message)


class Publisher:
    """Puts messages into streams over one connection; `connection.connect` opens it.

    Each of `listeners` is called when the connection was lost, and when it is there again.
    """

    def __init__(self, clock: Clock) -> None:
        self.client = Client()
        self.requests = Requests(self.client)
        self.connected = asyncio.Event()
        self.listeners: list[Callable[[], None]] = []
        self._clock = clock

    async def put(
        self,
        subject: str,
        messages: Sequence[Outgoing],
        patience_s: float,
        *,
        answer_within_s: float = ANSWER_WITHIN_S,
        closing_s: float = math.inf,
    ) -> list[Stored]:
        """Return when nats-server has all of it. Raises StoreUnavailable, DiskFull.

        A store that is being closed says that nothing lies under the subject. An expectation that
        fails in this way is tried again for `closing_s`, and then taken as it is answered.
        """
        give_up = self._clock.monotonic() + patience_s
        believe = math.inf
        while True:
            left_s = give_up - self._clock.monotonic()
            try:
                if not self.connected.is_set():
                    await self._wait_for_connection(left_s)
                answers = await self.requests.send_all(
                    subject, messages, timeout_s=min(left_s, answer_within_s)
                )
                closing = self._clock.monotonic() < believe
                return [
                    _stored(answer, len(payload), closing)
                    for answer, (payload, _) in zip(answers, messages, strict=True)
                ]
            except _Closing:
                believe = min(believe, self._clock.monotonic() + closing_s)
                if self._clock.monotonic() + _TRY_AGAIN_S >= give_up or self.client.is_closed:
                    raise StoreUnavailable("it was not stored: the store is closing") from None
            except _NoSpace as error:
                if patience_s != math.inf:
                    raise DiskFull(f"the store of nats-server is full: {error}") from None
            except RequestUnanswered as error:
                if self._clock.monotonic() + _TRY_AGAIN_S >= give_up or self.client.is_closed:
                    raise StoreUnavailable(f"it was not stored: {error}") from None
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _wait_for_connection(self, left_s: float) -> None:
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                await self.connected.wait()
        except TimeoutError:
            raise RequestUnanswered("nats-server is not running") from None


class JetStreamStore(Publisher):
    """Puts events into the streams of Brokers."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.brokers: dict[BrokerKey, BrokerStreams] = {}

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        """See `EventLog.append`."""
        streams = self.brokers[broker]
        key = key_of(envelope)
        [stored] = await self.put(streams.subject, [message_of(envelope, key)], patience_s)
        streams.stored(stored, key)
        return stored.new


def message_of(envelope: Envelope, key: str) -> Outgoing:
    """The message that stores an event; `key` is its id. Raises EventTooLarge."""
    return packed(envelope), {"Nats-Msg-Id": key}


def _answered(message: Msg) -> Msg:
    if not message.data and (message.headers or {}).get("Status") == "503":
        raise RequestUnanswered("JetStream is not ready")
    return message


def _stored(answer: Msg, size: int, closing: bool) -> Stored:
    told = orjson.loads(answer.data)
    if (error := told.get("error")) is None:
        return Stored(told["seq"], not told.get("duplicate", False), size)
    words = error.get("description", "nats-server refused it")
    if error["err_code"] in _NOT_EMPTY:
        # A store that is being closed says that the last sequence is 0.
        if closing and words.endswith(": 0"):
            raise _Closing(words)
        return Stored(0, False, size)
    raise _NoSpace(words) if error["err_code"] in _NO_SPACE else RequestUnanswered(words)
