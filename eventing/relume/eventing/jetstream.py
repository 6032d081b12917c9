"""The durable log of every Broker on NATS JetStream; only `jetstream*` modules import nats.

A Broker is one file-backed stream, a Trigger one durable pull consumer on it, and dead letters
that no sink took are a second stream.
"""

import asyncio
import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import nats.errors
import orjson
from nats.aio.client import Client
from nats.js import JetStreamContext

from relume.eventing.broker import BrokerKey, EventTooLarge, StoreUnavailable
from relume.eventing.clock import Clock
from relume.eventing.envelope import Envelope, burial, identity
from relume.eventing.jetstream_cursor import JetStreamCursor
from relume.eventing.jetstream_dead_letters import JetStreamDeadLetters
from relume.eventing.jetstream_requests import NoAnswer, Requests
from relume.eventing.jetstream_streams import (
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
_TRY_AGAIN_S = 0.1
_HEADROOM_BYTES = 4096  # for the headers of a message
_ONLY_ONCE = {"Nats-Expected-Last-Subject-Sequence": "0"}
_NOT_EMPTY = (10071, 10164)  # err_code of nats-server: wrong last sequence


class JetStreamLog:
    """An EventLog over a connection to nats-server; made by `connect`."""

    def __init__(self, settings: EventingSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client = Client()
        self._connected = asyncio.Event()
        self._brokers: dict[BrokerKey, BrokerStreams] = {}
        self._requests = Requests(self._client)
        self.dead_letters = JetStreamDeadLetters(
            self._requests, self._brokers, functools.partial(self._store, once=True)
        )
        self._jetstream: JetStreamContext

    @classmethod
    async def connect(cls, url: str, settings: EventingSettings, clock: Clock) -> Self:
        """A log over a new connection. Raises StoreUnavailable when there is nobody to talk to."""
        opened = cls(settings, clock)
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
        opened._connected.set()
        return opened

    async def close(self) -> None:
        await self._client.close()

    async def open_broker(self, broker: BrokerKey, triggers: Sequence[str]) -> None:
        streams = BrokerStreams.named(broker)
        try:
            await ensure_streams(self._jetstream, streams, self._settings)
            consumers = await ensure_consumers(
                self._jetstream, streams.stream, triggers, self._settings
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise StoreUnavailable(f"Broker {broker}: {error}") from None
        for trigger, info in consumers.items():
            streams.cursors[trigger] = JetStreamCursor(
                self._client, self._requests, info, streams.last_sequence
            )
        self._brokers[broker] = streams
        await self.dead_letters.finish(streams)

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        streams = self._brokers[broker]
        key = identity(envelope.event)
        sequence, new = await self._store(streams.subject, envelope, key, patience_s)
        streams.stored(sequence)
        return new

    async def bury(
        self, broker: BrokerKey, trigger: str, envelope: Envelope, patience_s: float
    ) -> None:
        streams = self._brokers[broker]
        letter = replace(envelope, trigger=trigger)
        key = burial(letter, trigger)
        subject = f"{streams.dead_subject}.{key}"
        _, new = await self._store(subject, letter, key, patience_s, once=True)
        streams.buried += new

    def cursor(self, broker: BrokerKey, trigger: str) -> JetStreamCursor:
        return self._brokers[broker].cursors[trigger]

    def buried(self, broker: BrokerKey) -> int:
        return self._brokers[broker].buried

    async def sweep(self) -> None:
        now, window_s = self._clock.monotonic(), self._settings.duplicate_window_s
        for streams in self._brokers.values():
            try:
                await self.dead_letters.finish(streams)
                await sweep(self._jetstream, streams, now, window_s)
            except (TimeoutError, OSError, nats.errors.Error, StoreUnavailable) as error:
                log.warning("settled events of %s stay for now: %s", streams.stream, error)

    async def _store(
        self, subject: str, envelope: Envelope, key: str, patience_s: float, *, once: bool = False
    ) -> tuple[int, bool]:
        """(sequence, whether it is new), once nats-server has it on disk.

        `once`: only when nothing lies under the subject, however long ago it was stored.
        """
        payload = envelope.pack()
        if len(payload) > self._client.max_payload - _HEADROOM_BYTES:
            raise EventTooLarge(f"{len(payload)} bytes do not fit one message")
        headers = {"Nats-Msg-Id": key, **(_ONLY_ONCE if once else {})}
        give_up = self._clock.monotonic() + patience_s
        while True:
            left = give_up - self._clock.monotonic()
            try:
                await self._wait_for_connection(left)
                return await self._store_once(subject, payload, headers, left)
            except NoAnswer as error:
                # It may have been stored: the id makes the next try find out.
                if self._clock.monotonic() + _TRY_AGAIN_S >= give_up or self._client.is_closed:
                    raise StoreUnavailable(f"the event was not stored: {error}") from None
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _store_once(
        self, subject: str, payload: bytes, headers: dict[str, str], left_s: float
    ) -> tuple[int, bool]:
        answer = await self._requests.send(
            subject, payload, headers=headers, timeout_s=min(left_s, _ANSWER_WITHIN_S)
        )
        told = orjson.loads(answer.data)
        if error := told.get("error"):
            if error["err_code"] in _NOT_EMPTY:
                return 0, False
            raise NoAnswer(error.get("description", "nats-server refused it"))
        return told["seq"], not told.get("duplicate", False)

    async def _wait_for_connection(self, left_s: float) -> None:
        if self._connected.is_set():
            return
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                await self._connected.wait()
        except TimeoutError:
            raise NoAnswer("nats-server is not running") from None

    async def _on_lost(self) -> None:
        self._connected.clear()
        self._requests.fail_all()
        self._tell_cursors()

    async def _on_back(self) -> None:
        self._connected.set()
        self._tell_cursors()

    def _tell_cursors(self) -> None:
        for streams in self._brokers.values():
            for cursor in streams.cursors.values():
                cursor.connection_changed()


async def _on_error(error: Exception) -> None:
    log.debug("nats: %r", error)
