"""Storing events durably: published to a stream, and acknowledged once nats-server has them.

A try that was not answered may have been carried out; every message has an id, so that the next
try finds out.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from relume.base.clock import Clock
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import DiskFull, EventTooLarge, StoreUnavailable
from relume.eventing.jetstream.requests import NoAnswer, Outgoing, Requests
from relume.eventing.settings import MAX_STORED_BYTES

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
    """Where an event lies in its stream. `new`: it was not there before; `size` in bytes."""

    sequence: int
    new: bool
    size: int


class JetStreamStore:
    """Puts envelopes into streams over one connection, whose state its owner keeps."""

    def __init__(self, client: Client, requests: Requests, clock: Clock) -> None:
        self._client = client
        self._requests = requests
        self._clock = clock
        self._batches = asyncio.Semaphore(_BATCHES)
        self.connected = asyncio.Event()

    async def put(
        self, subject: str, envelope: Envelope, key: str, patience_s: float, *, once: bool = False
    ) -> Stored:
        """Return when nats-server has it. Raises StoreUnavailable, DiskFull, EventTooLarge.

        `once`: only when nothing lies under the subject, however long ago it was stored. For dead
        letters, which have grown since they were stored first, and for what was one.
        """
        headers = {"Nats-Msg-Id": key, **(_ONLY_ONCE if once else {})}
        payload = envelope.pack() if once else _packed(envelope)
        [stored] = await self._put(subject, [(payload, headers)], patience_s)
        return stored

    async def put_all(
        self, subject: str, envelopes: Sequence[tuple[str, Envelope]], patience_s: float
    ) -> list[Stored]:
        """The same for many, each with its key; what was stored before an error stays stored."""
        messages = [(_packed(each), {"Nats-Msg-Id": key}) for key, each in envelopes]
        give_up = self._clock.monotonic() + patience_s
        stored: list[Stored] = []
        for start in range(0, len(messages), _BATCH):
            batch = messages[start : start + _BATCH]
            async with self._batches:
                left_s = max(0.0, give_up - self._clock.monotonic())
                stored += await self._put(subject, batch, left_s)
        return stored

    async def _put(
        self, subject: str, messages: Sequence[Outgoing], patience_s: float
    ) -> list[Stored]:
        give_up = self._clock.monotonic() + patience_s
        while True:
            left = give_up - self._clock.monotonic()
            try:
                await self._wait_for_connection(left)
                return await self._put_once(subject, messages, left)
            except _NoSpace as error:
                if patience_s != math.inf:
                    raise DiskFull(f"the store of nats-server is full: {error}") from None
            except NoAnswer as error:
                if self._clock.monotonic() + _TRY_AGAIN_S >= give_up or self._client.is_closed:
                    raise StoreUnavailable(f"the event was not stored: {error}") from None
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _put_once(
        self, subject: str, messages: Sequence[Outgoing], left_s: float
    ) -> list[Stored]:
        within_s = min(left_s, _ANSWER_WITHIN_S)
        if len(messages) == 1:
            payload, headers = messages[0]
            answers = [
                await self._requests.send(subject, payload, headers=headers, timeout_s=within_s)
            ]
        else:
            answers = await self._requests.send_all(subject, messages, timeout_s=within_s)
        return [
            _stored(answer, len(payload))
            for answer, (payload, _) in zip(answers, messages, strict=True)
        ]

    async def _wait_for_connection(self, left_s: float) -> None:
        if self.connected.is_set():
            return
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                await self.connected.wait()
        except TimeoutError:
            raise NoAnswer("nats-server is not running") from None


def _packed(envelope: Envelope) -> bytes:
    payload = envelope.pack()
    if len(payload) > MAX_STORED_BYTES:
        raise EventTooLarge(f"{len(payload)} bytes do not fit one message")
    return payload


def _stored(answer: Msg, size: int) -> Stored:
    told = orjson.loads(answer.data)
    if (error := told.get("error")) is None:
        return Stored(told["seq"], not told.get("duplicate", False), size)
    words = error.get("description", "nats-server refused it")
    # Of 0 speaks a store that is being closed.
    if error["err_code"] in _NOT_EMPTY and not words.endswith(": 0"):
        return Stored(0, False, size)
    raise _NoSpace(words) if error["err_code"] in _NO_SPACE else NoAnswer(words)
