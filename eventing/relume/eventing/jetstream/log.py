"""The durable log of every Broker on NATS JetStream: its connection, opening and sweeping.

A Broker is one file-backed stream, a Trigger one durable pull consumer on it, and dead letters
that no sink took are a second stream. Storing an event is `store`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from nats.js import JetStreamContext

from relume.base.clock import Clock
from relume.eventing.dead_letters import burial
from relume.eventing.envelope import Envelope, identity
from relume.eventing.event_log import BrokerFull, BrokerKey, DiskFull, StoreUnavailable
from relume.eventing.jetstream.connection import connect
from relume.eventing.jetstream.cursor import JetStreamCursor
from relume.eventing.jetstream.dead_letters import JetStreamDeadLetters, put_once, read_stored
from relume.eventing.jetstream.server import Disk
from relume.eventing.jetstream.store import ANSWER_WITHIN_S, NATS_ERRORS, JetStreamStore, message_of
from relume.eventing.jetstream.streams import (
    BrokerStreams,
    ensure_consumers,
    ensure_streams,
    sweep,
)
from relume.eventing.settings import EventingSettings

log = logging.getLogger(__name__)

_CONNECT_WITHIN_S = 10.0
# nats-server refuses more than 10,000 messages of a stream that it has not stored yet.
_BATCH, _BATCHES = 500, 8
# How often a log that is full looks for what it may remove.
_LOOK_EVERY_S = 1.0


class JetStreamLog(JetStreamStore):
    """An EventLog over a connection to nats-server; made by `connect`."""

    def __init__(self, settings: EventingSettings, clock: Clock, disk: Disk | None) -> None:
        super().__init__(clock)
        self._settings = settings
        self._disk = disk
        self._batches = asyncio.Semaphore(_BATCHES)
        self.dead_letters = JetStreamDeadLetters(self)
        self.jetstream: JetStreamContext

    @classmethod
    async def connect(
        cls, url: str, settings: EventingSettings, clock: Clock, disk: Disk | None = None
    ) -> Self:
        """A log over a new connection. Raises StoreUnavailable when nats-server does not answer.

        `disk` is where nats-server keeps it, where that is known.
        """
        opened = cls(settings, clock, disk)
        listeners = [opened._tell_cursors]
        await connect(opened, [url], within_s=_CONNECT_WITHIN_S, listeners=listeners)
        opened.jetstream = opened.client.jetstream(timeout=ANSWER_WITHIN_S)
        return opened

    async def close(self) -> None:
        # Messages that a lost server did not get are made up for by redelivery.
        with contextlib.suppress(*NATS_ERRORS):
            await self.client.close()

    async def open_broker(self, broker: BrokerKey, triggers: Sequence[str]) -> None:
        known = self.brokers.get(broker)
        streams = known or BrokerStreams.named(broker)
        try:
            if known is None:
                await ensure_streams(self.jetstream, streams, self._settings)
            consumers = await ensure_consumers(self.jetstream, streams, triggers, self._settings)
        except NATS_ERRORS as error:
            raise StoreUnavailable(f"Broker {broker}: {error}") from None
        at_work = {name: each for name, each in streams.cursors.items() if not each.stopped}
        streams.cursors = {
            trigger: at_work.get(trigger)
            or JetStreamCursor(self.client, self.requests, info, streams.last_sequence)
            for trigger, info in consumers.items()
        }
        self.brokers[broker] = streams
        await self.dead_letters.finish(broker)

    async def admit(self, broker: BrokerKey) -> None:
        streams = self.brokers[broker]
        if self._full(broker, streams) is None:
            return
        # What every Trigger has settled goes now: nats-server keeps its ids until it restarts.
        now = self._clock.monotonic()
        if now >= streams.looked + _LOOK_EVERY_S:
            streams.looked = now
            await self._sweep(broker, window_s=0)
        if (full := self._full(broker, streams)) is not None:
            raise full

    def _full(self, broker: BrokerKey, streams: BrokerStreams) -> BrokerFull | DiskFull | None:
        if self._disk is not None and self._disk.full:
            return DiskFull(f"{self._disk.free:,} bytes are left on the disk of the log")
        if self._settings.log_is_full(streams.events, streams.bytes):
            what = f"{streams.events:,} events ({streams.bytes:,} bytes)"
            return BrokerFull(f"{what} lie in Broker {broker}")
        return None

    async def append_all(
        self, broker: BrokerKey, envelopes: Sequence[Envelope], patience_s: float
    ) -> Sequence[bool]:
        streams, news = self.brokers[broker], list[bool]()
        keys = [identity(each.event) for each in envelopes]
        messages = [message_of(*each) for each in zip(envelopes, keys, strict=True)]
        give_up = self._clock.monotonic() + patience_s
        for start in range(0, len(messages), _BATCH):
            async with self._batches:
                left_s = max(0.0, give_up - self._clock.monotonic())
                batch = messages[start : start + _BATCH]
                for at, stored in enumerate(await self.put(streams.subject, batch, left_s), start):
                    streams.stored(stored, keys[at])
                    news.append(stored.new)
        return news

    async def bury(
        self, broker: BrokerKey, trigger: str, envelope: Envelope, patience_s: float
    ) -> None:
        streams = self.brokers[broker]
        letter = replace(envelope, trigger=trigger)
        key = burial(letter, trigger)
        subject = f"{streams.dead_subject}.{key}"
        stored = await put_once(self, subject, letter, key, patience_s)
        streams.buried += stored.new
        streams.removed.discard(key)

    async def recall(self, broker: BrokerKey, key: str) -> Envelope | None:
        streams = self.brokers[broker]
        if (sequence := streams.places.get(key)) is None:
            return None
        message = await read_stored(self, streams.stream, {"seq": sequence})
        return None if message is None else Envelope.unpack(message.data)

    def cursor(self, broker: BrokerKey, trigger: str) -> JetStreamCursor:
        return self.brokers[broker].cursors[trigger]

    def buried(self, broker: BrokerKey) -> int:
        return self.brokers[broker].buried

    async def sweep(self) -> None:
        for broker in list(self.brokers):  # one more may be opened meanwhile
            await self._sweep(broker, self._settings.duplicate_window_s)

    async def _sweep(self, broker: BrokerKey, window_s: float) -> None:
        streams, now = self.brokers[broker], self._clock.monotonic()
        # Mark first: the dead letter of an event that is put back after this may still be there.
        streams.mark(now)
        try:
            await self.dead_letters.finish(broker)
            await sweep(self.jetstream, streams, now, window_s)
        except (*NATS_ERRORS, StoreUnavailable) as error:
            log.warning("settled events of %s stay for now: %s", streams.stream, error)

    def _tell_cursors(self) -> None:
        for streams in self.brokers.values():
            for cursor in streams.cursors.values():
                cursor.connection_changed()
