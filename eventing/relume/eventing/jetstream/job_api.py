"""What the job store asks of JetStream beside publishing: its API, and reading stored messages.

A node of a cluster that does not answer, or a stream whose leader is being chosen, is waited for.
A direct read may be answered by a node that is behind the leader of the stream; `last_at_leader`
is not.
"""

import asyncio
import base64
import itertools
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from nats.aio.msg import Msg

from relume.base.clock import Clock
from relume.base.limits import KIB, MIB
from relume.base.vocabulary import Json
from relume.eventing.event_log import DiskFull, StoreUnavailable
from relume.eventing.jetstream.pages import Pages
from relume.eventing.jetstream.store import (
    NOT_EMPTY,
    JetStreamStore,
    NoSpace,
    RequestUnanswered,
    Stored,
    stored_by,
)
from relume.eventing.jobs.store import JobTooLarge

T = TypeVar("T")

# So long one try waits; a node that stops answers no more, and the next try goes to another one.
ANSWER_WITHIN_S = 2.0
_TRY_AGAIN_S = 0.1
# A store that is closed, for longer than it takes to close.
_CLOSING_S = 2.0
# Kept free in a message for its subject and headers.
_HEADERS_BYTES = 4 * KIB
_PAGE, _PAGE_BYTES = 256, 4 * MIB

# err_code of nats-server.
NO_MESSAGE, NO_CONSUMER = 10037, 10014
TOO_MANY_CONSUMERS = 10026


class Refused(Exception):
    """JetStream has answered with an error; `code` is its err_code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message."""

    sequence: int
    subject: str
    at: datetime
    headers: dict[str, str]
    payload: bytes

    @property
    def is_last(self) -> bool:
        """Whether nothing that was asked for lay behind it in the stream (in a page)."""
        return self.headers.get("Nats-Num-Pending") == "0"


class JobApi:
    """Asks JetStream over a connection of its own, and waits for it for `patience_s` at most."""

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self.store = JetStreamStore(clock)
        self.client, self.requests = self.store.client, self.store.requests
        self.pages = Pages(self.client)
        # Each is called when the connection was lost, and when it is there again.
        self.listeners: list[Callable[[], None]] = [self.pages.fail_all]
        self.clock = clock
        self.patience_s = patience_s
        self._name, self._marks = secrets.token_hex(8), itertools.count()

    def mark(self) -> str:
        """A new mark for one write, which no other write of any process has."""
        return f"{self._name}.{next(self._marks)}"

    @property
    def largest(self) -> int:
        """The largest payload that the connected nats-server takes, in bytes."""
        return self.client.max_payload - _HEADERS_BYTES

    async def patiently(
        self, attempt: Callable[[], Awaitable[T]], patience_s: float | None = None
    ) -> T:
        """What the first attempt that is answered gives. Raises StoreUnavailable, NoSpace."""
        patience_s = self.patience_s if patience_s is None else patience_s
        give_up = self.clock.monotonic() + patience_s
        while True:
            try:
                if not self.store.connected.is_set():
                    await self._connection(give_up - self.clock.monotonic())
                return await attempt()
            except NoSpace:
                raise
            except RequestUnanswered as error:
                late = self.clock.monotonic() + _TRY_AGAIN_S >= give_up
                if late or self.client.is_closed:
                    raise StoreUnavailable(f"JetStream does not answer: {error}") from None
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _connection(self, left_s: float) -> None:
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                await self.store.connected.wait()
        except TimeoutError:
            raise RequestUnanswered("no nats-server can be reached") from None

    async def ask(self, what: str, asked: Json, patience_s: float | None = None) -> dict[str, Any]:
        """The answer of the API. Raises Refused, StoreUnavailable."""

        async def attempt() -> dict[str, Any]:
            answer = await self.requests.send(
                f"$JS.API.{what}", orjson.dumps(asked), timeout_s=ANSWER_WITHIN_S
            )
            told: dict[str, Any] = orjson.loads(answer.data)
            if (error := told.get("error")) is None:
                return told
            words = f"{what}: {error.get('description', error)}"
            if error.get("code", 500) >= 500 and error.get("err_code") != NO_CONSUMER:
                raise RequestUnanswered(words)
            raise Refused(error.get("err_code", 0), words)

        return await self.patiently(attempt, patience_s)

    async def put(
        self, subject: str, payload: bytes, headers: dict[str, str], patience_s: float | None = None
    ) -> Stored:
        """Publish one message: where it lies. Its sequence is 0 when an expectation has failed.

        Raises StoreUnavailable, DiskFull, JobTooLarge.
        """
        if len(payload) > self.largest:
            raise JobTooLarge(
                f"{len(payload):,} bytes do not fit one message: nats-server takes {self.largest:,}"
            )
        believed_from = math.inf

        async def attempt() -> Stored:
            nonlocal believed_from
            [answer] = await self.requests.send_all(
                subject, [(payload, headers)], timeout_s=ANSWER_WITHIN_S
            )
            if not _says_empty(answer):
                return stored_by(answer, len(payload))
            # A store that is being closed says so, whatever it holds.
            now = self.clock.monotonic()
            believed_from = min(believed_from, now + _CLOSING_S)
            if now < believed_from:
                raise RequestUnanswered("nothing lies under the subject, or the store is closing")
            return Stored(0, False, len(payload))

        try:
            return await self.patiently(attempt, patience_s)
        except NoSpace as error:
            raise DiskFull(f"the store of nats-server is full: {error}") from None

    async def read(self, stream: str, which: Json) -> Message | None:
        """One stored message, from any node. Raises StoreUnavailable."""

        async def attempt() -> Msg:
            return await self.requests.send(
                f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(which), timeout_s=ANSWER_WITHIN_S
            )

        answer = await self.patiently(attempt)
        return None if _is_end(stream, answer) else _message(answer)

    async def page(self, stream: str, which: Json) -> Sequence[Message]:
        """Stored messages from any node, so many as fit one page: `seq` on under `next_by_subj`,
        or the last ones under each of `multi_last`. Raises StoreUnavailable."""
        asked = dict(which)
        if "multi_last" not in which:
            asked = {"batch": _PAGE, "max_bytes": _PAGE_BYTES, **which}

        async def attempt() -> list[Msg]:
            return await self.pages.ask(
                f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(asked), timeout_s=ANSWER_WITHIN_S
            )

        answers = await self.patiently(attempt)
        return [_message(each) for each in answers if not _is_end(stream, each)]

    async def last_at_leader(self, stream: str, subject: str) -> Message | None:
        """The last message under a subject (which may hold `*`), as the stream's leader has it."""
        try:
            told = await self.ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        except Refused as refusal:
            if refusal.code == NO_MESSAGE:
                return None
            raise StoreUnavailable(str(refusal)) from None
        found = told["message"]
        return Message(
            sequence=found["seq"],
            subject=found["subject"],
            at=datetime.fromisoformat(found["time"]),
            headers=_headers(base64.b64decode(found.get("hdrs", ""))),
            payload=base64.b64decode(found.get("data", "")),
        )

    async def last_sequence(self, stream: str) -> int:
        """The sequence of what was stored last, as the stream's leader has it.

        Raises StoreUnavailable.
        """
        try:
            told = await self.ask(f"STREAM.INFO.{stream}", {})
        except Refused as refusal:
            raise StoreUnavailable(str(refusal)) from None
        return int(told["state"]["last_seq"])

    async def purge(self, stream: str, subject: str, patience_s: float | None = None) -> int:
        """Remove what lies under a subject; how much that was. Raises StoreUnavailable."""
        try:
            told = await self.ask(f"STREAM.PURGE.{stream}", {"filter": subject}, patience_s)
        except Refused as refusal:
            raise StoreUnavailable(str(refusal)) from None
        return int(told["purged"])


def message_in(live: Msg) -> Message:
    """A message that was published again when it was stored."""
    return _message(live)


def _says_empty(answer: Msg) -> bool:
    if b'"error"' not in answer.data:
        return False
    error = orjson.loads(answer.data).get("error") or {}
    return error.get("err_code") in NOT_EMPTY and error["description"].endswith(": 0")


def _is_end(stream: str, answer: Msg) -> bool:
    """Whether there is nothing (more). Raises StoreUnavailable."""
    headers = answer.headers or {}
    status = headers.get("Status")
    if status not in (None, "204", "404"):
        raise StoreUnavailable(f"{stream}: {headers.get('Description', status)}")
    return status is not None


def _message(answer: Msg) -> Message:
    headers = answer.headers or {}
    return Message(
        sequence=int(headers["Nats-Sequence"]),
        subject=headers["Nats-Subject"],
        at=datetime.fromisoformat(headers["Nats-Time-Stamp"]),
        headers=dict(headers),
        payload=answer.data,
    )


def _headers(raw: bytes) -> dict[str, str]:
    # NATS/1.0, then a line for each header
    pairs = (line.partition(":") for line in raw.decode().split("\r\n")[1:] if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
