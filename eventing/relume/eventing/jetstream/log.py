"""The durable log of every Broker on NATS JetStream; only `jetstream*` modules import nats.

A Broker is one file-backed stream, a Trigger one durable pull consumer on it, and dead letters
that no sink took are a second stream.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from relume.base.clock import Clock
from relume.eventing.envelope import Envelope, burial, identity
from relume.eventing.event_log import BrokerFull, BrokerKey, DiskFull, StoreUnavailable
from relume.eventing.jetstream.cursor import JetStreamCursor
from relume.eventing.jetstream.dead_letters import JetStreamDeadLetters
from relume.eventing.jetstream.disk import Disk
from relume.eventing.jetstream.requests import SEND_ERRORS, Requests
from relume.eventing.jetstream.store import JetStreamStore
from relume.eventing.jetstream.streams import (
    BrokerStreams,
    ensure_consumers,
    ensure_streams,
    sweep,
)
from relume.eventing.settings import EventingSettings

log = logging.getLogger(__name__)

_CONNECT_WITHIN_S = 10.0
_RECONNECT_EVERY_S = 0.05
_ANSWER_WITHIN_S = 5.0
# How often a log that is full looks for what it may remove.
_LOOK_EVERY_S = 1.0


class JetStreamLog:
    """An EventLog over a connection to nats-server; made by `connect`."""

    def __init__(self, settings: EventingSettings, clock: Clock, disk: Disk | None) -> None:
        self._settings = settings
        self._clock = clock
        self._disk = disk
        self._client = Client()
        self._brokers: dict[BrokerKey, BrokerStreams] = {}
        self._requests = Requests(self._client)
        self._store = JetStreamStore(self._client, self._requests, clock)
        self.dead_letters = JetStreamDeadLetters(self._requests, self._brokers, self._store)
        self._jetstream: JetStreamContext

    @classmethod
    async def connect(
        cls, url: str, settings: EventingSettings, clock: Clock, disk: Disk | None = None
    ) -> Self:
        """A log over a new connection. Raises StoreUnavailable when there is nobody to talk to.

        `disk` is where nats-server keeps it, where that is known.
        """
        opened = cls(settings, clock, disk)
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                await opened._client.connect(
                    url,
                    name="relume",
                    reconnect_time_wait=_RECONNECT_EVERY_S,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    ping_interval=10,
                    disconnected_cb=opened._on_lost,
                    reconnected_cb=opened._on_back,
                    error_cb=_on_error,
                )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await opened._client.close()
            raise StoreUnavailable(f"nats-server does not answer: {error or 'timeout'}") from None
        await opened._requests.open()
        opened._jetstream = opened._client.jetstream(timeout=_ANSWER_WITHIN_S)
        opened._store.connected.set()
        return opened

    async def close(self) -> None:
        # What was still to be said to a server that is gone is made up for by redelivery.
        with contextlib.suppress(*SEND_ERRORS):
            await self._client.close()

    async def open_broker(self, broker: BrokerKey, triggers: Sequence[str]) -> None:
        streams = BrokerStreams.named(broker)
        try:
            await ensure_streams(self._jetstream, streams, self._settings)
            consumers = await ensure_consumers(self._jetstream, streams, triggers, self._settings)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise StoreUnavailable(f"Broker {broker}: {error}") from None
        for trigger, info in consumers.items():
            streams.cursors[trigger] = JetStreamCursor(
                self._client, self._requests, info, streams.last_sequence
            )
        self._brokers[broker] = streams
        await self.dead_letters.finish(broker)

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        streams = self._brokers[broker]
        key = identity(envelope.event, envelope.via)
        stored = await self._store.put(streams.subject, envelope, key, patience_s)
        streams.stored(stored)
        return stored.new

    async def append_all(
        self, broker: BrokerKey, envelopes: Sequence[Envelope], patience_s: float
    ) -> Sequence[bool]:
        streams = self._brokers[broker]
        keyed = [(identity(each.event), each) for each in envelopes]
        stored = await self._store.put_all(streams.subject, keyed, patience_s)
        for each in stored:
            streams.stored(each)
        return [each.new for each in stored]

    async def admit(self, broker: BrokerKey) -> None:
        streams = self._brokers[broker]
        if self._full(broker) is None:
            return
        # What every Trigger has settled goes now: nats-server keeps its ids until it restarts.
        now = self._clock.monotonic()
        if now >= streams.looked + _LOOK_EVERY_S:
            streams.looked = now
            await self._sweep(broker, window_s=0)
        if (full := self._full(broker)) is not None:
            raise full

    def _full(self, broker: BrokerKey) -> BrokerFull | DiskFull | None:
        if self._disk is not None and self._disk.full:
            return DiskFull(f"{self._disk.free:,} bytes are left on the disk of the log")
        streams = self._brokers[broker]
        most_bytes, most_events = self._settings.max_log_bytes, self._settings.max_log_events
        if (most_bytes is not None and streams.bytes >= most_bytes) or (
            most_events is not None and streams.events >= most_events
        ):
            what = f"{streams.events:,} events ({streams.bytes:,} bytes)"
            return BrokerFull(f"{what} lie in Broker {broker}")
        return None

    async def bury(
        self, broker: BrokerKey, trigger: str, envelope: Envelope, patience_s: float
    ) -> None:
        streams = self._brokers[broker]
        letter = replace(envelope, trigger=trigger)
        key = burial(letter, trigger)
        subject = f"{streams.dead_subject}.{key}"
        stored = await self._store.put(subject, letter, key, patience_s, once=True)
        streams.buried += stored.new
        streams.removed.discard(key)

    def cursor(self, broker: BrokerKey, trigger: str) -> JetStreamCursor:
        return self._brokers[broker].cursors[trigger]

    def buried(self, broker: BrokerKey) -> int:
        return self._brokers[broker].buried

    async def sweep(self) -> None:
        for broker in self._brokers:
            await self._sweep(broker, self._settings.duplicate_window_s)

    async def _sweep(self, broker: BrokerKey, window_s: float) -> None:
        streams, now = self._brokers[broker], self._clock.monotonic()
        # Marked first: what is put back from here on may not have been finished.
        streams.mark(now)
        try:
            await self.dead_letters.finish(broker)
            await sweep(self._jetstream, streams, now, window_s)
        except (TimeoutError, OSError, nats.errors.Error, StoreUnavailable) as error:
            log.warning("settled events of %s stay for now: %s", streams.stream, error)

    async def _on_lost(self) -> None:
        self._store.connected.clear()
        self._requests.fail_all()
        self._tell_cursors()

    async def _on_back(self) -> None:
        self._store.connected.set()
        self._tell_cursors()

    def _tell_cursors(self) -> None:
        for streams in self._brokers.values():
            for cursor in streams.cursors.values():
                cursor.connection_changed()


async def _on_error(error: Exception) -> None:
    log.debug("nats: %r", error)
