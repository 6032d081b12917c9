"""Storing events durably: published to a stream, and acknowledged once nats-server has them.

Every message has a subject of its own, made from what names the event, and is stored only while
nothing lies under that subject. So the same event is stored once for as long as it lies there, and
a try that was not answered, but may have been carried out, can be repeated. (nats-server's memory
of message ids would do the same for a while; it reads all of them again at every start, which
takes it seconds for a million events. It keeps the index of subjects, which takes tenths of one.)
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from relume.eventing.broker import DiskFull, StoreUnavailable
from relume.eventing.clock import Clock
from relume.eventing.jetstream_requests import Message, NoAnswer, Requests

_ANSWER_WITHIN_S = 5.0
_TRY_AGAIN_S = 0.1
_ONLY_ONCE = {"Nats-Expected-Last-Subject-Sequence": "0"}
# err_code of nats-server: wrong last sequence; and its store has reached its limit.
_NOT_EMPTY = (10071, 10164)
_NO_SPACE = (10023, 10047, 10077)
# nats-server refuses more than 10,000 messages of a stream that it has not stored yet.
_BATCH, _BATCHES = 500, 8


class _NoSpace(NoAnswer):
    """nats-server has no room for it now."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an event lies in its stream. `new`: it was not there before; `size` in bytes.

    `sequence` is 0 where nats-server did not say where it lies already.
    """

    sequence: int
    new: bool
    size: int


class JetStreamStore:
    """Puts messages into streams over one connection, whose state its owner keeps."""

    def __init__(self, client: Client, requests: Requests, clock: Clock) -> None:
        self._client = client
        self._requests = requests
        self._clock = clock
        self._batches = asyncio.Semaphore(_BATCHES)
        self.connected = asyncio.Event()

    async def put(self, message: Message, patience_s: float, *, remembered: bool = False) -> Stored:
        """Return when nats-server has it. Raises StoreUnavailable, DiskFull.

        `remembered`: it is known as the same for a while after somebody removed it, too.
        """
        headers = {**_ONLY_ONCE, "Nats-Msg-Id": message[0]} if remembered else _ONLY_ONCE
        [stored] = await self._put([message], headers, patience_s)
        return stored

    async def put_all(self, messages: Sequence[Message], patience_s: float) -> list[Stored]:
        """The same for many; what was stored before an error stays stored."""
        give_up = self._clock.monotonic() + patience_s
        stored: list[Stored] = []
        for start in range(0, len(messages), _BATCH):
            batch = messages[start : start + _BATCH]
            async with self._batches:
                left_s = max(0.0, give_up - self._clock.monotonic())
                stored += await self._put(batch, _ONLY_ONCE, left_s)
        return stored

    async def _put(
        self, messages: Sequence[Message], headers: dict[str, str], patience_s: float
    ) -> list[Stored]:
        give_up = self._clock.monotonic() + patience_s
        while True:
            left = give_up - self._clock.monotonic()
            try:
                await self._wait_for_connection(left)
                return await self._put_once(messages, headers, left)
            except _NoSpace as error:
                if patience_s != math.inf:
                    raise DiskFull(f"the store of nats-server is full: {error}") from None
            except NoAnswer as error:
                if self._clock.monotonic() + _TRY_AGAIN_S >= give_up or self._client.is_closed:
                    raise StoreUnavailable(f"the event was not stored: {error}") from None
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _put_once(
        self, messages: Sequence[Message], headers: dict[str, str], left_s: float
    ) -> list[Stored]:
        within_s = min(left_s, _ANSWER_WITHIN_S)
        if len(messages) == 1:
            subject, payload = messages[0]
            answers = [
                await self._requests.send(subject, payload, headers=headers, timeout_s=within_s)
            ]
        else:
            answers = await self._requests.send_all(messages, headers=headers, timeout_s=within_s)
        return [
            _stored(answer, len(payload))
            for answer, (_, payload) in zip(answers, messages, strict=True)
        ]

    async def _wait_for_connection(self, left_s: float) -> None:
        if self.connected.is_set():
            return
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                await self.connected.wait()
        except TimeoutError:
            raise NoAnswer("nats-server is not running") from None


def _stored(answer: Msg, size: int) -> Stored:
    told = orjson.loads(answer.data)
    if (error := told.get("error")) is None:
        return Stored(told["seq"], not told.get("duplicate", False), size)
    if error["err_code"] in _NOT_EMPTY:
        # "wrong last sequence: 7" says where it lies.
        where = error.get("description", "").rpartition(" ")[2]
        return Stored(int(where) if where.isdecimal() else 0, False, size)
    words = error.get("description", "nats-server refused it")
    raise _NoSpace(words) if error["err_code"] in _NO_SPACE else NoAnswer(words)
