"""Dead letters on JetStream: a stream beside each Broker's own, one subject for each dead letter.

An event that is put back lies in the Broker's stream under a subject that names the dead letter
which it was, and so is not stored twice for as long as it lies there. `finish` removes the dead
letters that were put back, before the sweep may remove what was stored for them. This includes a
dead letter that was made a second time, because its process was killed before it settled the event.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

import orjson
from nats.aio.msg import Msg

from relume.base.vocabulary import Json
from relume.eventing.dead_letters import Letter, NoSuchDeadLetter, UnknownTrigger, burial
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey, StoreUnavailable
from relume.eventing.jetstream.store import (
    ANSWER_WITHIN_S,
    JetStreamStore,
    RequestUnanswered,
    Stored,
)
from relume.eventing.jetstream.streams import BrokerStreams

_STORE_WITHIN_S = 10.0


async def put_once(
    store: JetStreamStore, subject: str, envelope: Envelope, key: str, patience_s: float
) -> Stored:
    """Store an event only when nothing lies under `subject`, however long ago that was stored.

    It may be larger than an event, because what failed where was added to it. Raises
    StoreUnavailable, DiskFull.
    """
    headers = {"Nats-Msg-Id": key, "Nats-Expected-Last-Subject-Sequence": "0"}
    [stored] = await store.put(subject, [(envelope.pack(), headers)], patience_s)
    return stored


async def each_letter(
    read: Callable[[Json], Awaitable[Letter | None]], subjects: str, after: int
) -> AsyncIterator[Letter]:
    """The dead letters with a number above `after`, oldest first.

    `read` reads the one that a request to a stream's direct get API names.
    """
    while letter := await read({"seq": after + 1, "next_by_subj": subjects}):
        after = letter.sequence
        yield letter


class JetStreamDeadLetters:
    """A DeadLetterStore over the connection of a JetStreamLog."""

    def __init__(self, store: JetStreamStore) -> None:
        self._store = store
        self._brokers = store.brokers
        self._keys: dict[tuple[BrokerKey, int], str] = {}  # of what is being redriven

    def letters(self, broker: BrokerKey, after: int = 0) -> AsyncIterator[Letter]:
        subjects = f"{self._brokers[broker].dead_subject}.>"
        return each_letter(partial(self._read, broker), subjects, after)

    async def get(self, broker: BrokerKey, sequence: int) -> Letter:
        if (letter := await self._read(broker, {"seq": sequence})) is None:
            raise NoSuchDeadLetter(broker, sequence)
        return letter

    async def put_back(self, letter: Letter) -> bool:
        streams = self._brokers[letter.broker]
        if letter.trigger not in streams.cursors:
            raise UnknownTrigger(f"{letter.broker} has no Trigger {letter.trigger} any more")
        restored = letter.restored()
        key = burial(letter.envelope, letter.trigger)
        subject = f"{streams.redrive_subject}.{key}"
        stored = await put_once(self._store, subject, restored, subject, _STORE_WITHIN_S)
        self._keys[letter.broker, letter.sequence] = key
        streams.stored(stored)
        return stored.new

    async def remove(self, broker: BrokerKey, sequence: int) -> None:
        if not await self._delete(broker, sequence):
            raise NoSuchDeadLetter(broker, sequence)

    async def finish(self, broker: BrokerKey) -> None:
        """Remove every dead letter that was put back and is still there."""
        streams = self._brokers[broker]
        state = (await self._ask(f"STREAM.INFO.{streams.dead_stream}", {}))["state"]
        streams.buried = state["messages"]
        if not streams.buried:
            return streams.removed.clear()
        put_back = await self._put_back_before(streams)
        streams.removed &= put_back
        for key in put_back - streams.removed:
            asked = {"filter": f"{streams.dead_subject}.{key}"}
            purged = (await self._ask(f"STREAM.PURGE.{streams.dead_stream}", asked))["purged"]
            streams.buried -= purged
            streams.removed.add(key)

    async def _put_back_before(self, streams: BrokerStreams) -> set[str]:
        """The keys of the dead letters that lie in the Broker's stream again."""
        found: set[str] = set()
        start = f"{streams.redrive_subject}."
        while True:
            asked = {"subjects_filter": f"{start}>", "offset": len(found)}
            info = await self._ask(f"STREAM.INFO.{streams.stream}", asked)
            page = info["state"].get("subjects") or {}
            found.update(subject.removeprefix(start) for subject in page)
            if not page or len(found) >= info.get("total", 0):
                return found

    async def _read(self, broker: BrokerKey, which: Json) -> Letter | None:
        stream = self._brokers[broker].dead_stream
        if (message := await read_stored(self._store, stream, which)) is None:
            return None
        headers = message.headers or {}
        at = datetime.fromisoformat(headers["Nats-Time-Stamp"])
        return Letter(broker, int(headers["Nats-Sequence"]), at, Envelope.unpack(message.data))

    async def _delete(self, broker: BrokerKey, sequence: int) -> bool:
        """Whether it was there.

        Its bytes are not overwritten, as they are not when a sweep removes an event: overwriting
        takes twenty times as long, and the longer the more dead letters there are.
        """
        streams = self._brokers[broker]
        which: Json = {"seq": sequence, "no_erase": True}
        try:
            await self._ask(f"STREAM.MSG.DELETE.{streams.dead_stream}", which)
        except StoreUnavailable:
            # nats-server has one error code for whatever went wrong: look whether it is gone.
            if await self._read(broker, {"seq": sequence}) is not None:
                raise
            deleted = False
        else:
            deleted = True
        streams.buried -= deleted
        if key := self._keys.pop((broker, sequence), None):
            streams.removed.add(key)
        return deleted

    async def _ask(self, what: str, asked: Json) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads((await _send(self._store, what, asked)).data)
        if refusal := answer.get("error"):
            raise StoreUnavailable(f"{what}: {refusal['description']}")
        return answer


async def read_stored(store: JetStreamStore, stream: str, which: Json) -> Msg | None:
    """A stored message as it lies in its stream; None where there is none.

    Raises StoreUnavailable.
    """
    message = await _send(store, f"DIRECT.GET.{stream}", which)
    headers = message.headers or {}
    if (status := headers.get("Status")) is None:
        return message
    if status == "404":
        return None
    raise StoreUnavailable(f"{stream}: {headers.get('Description', status)}")


async def _send(store: JetStreamStore, what: str, asked: Json) -> Msg:
    try:
        return await store.requests.send(
            f"$JS.API.{what}", orjson.dumps(asked), timeout_s=ANSWER_WITHIN_S
        )
    except RequestUnanswered as error:
        raise StoreUnavailable(f"{what}: {error}") from None
