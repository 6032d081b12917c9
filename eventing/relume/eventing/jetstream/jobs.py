"""The job store on NATS JetStream, of one nats-server or of a cluster of them.

It keeps nothing in the process that it could not read again: any number of gateways use the same
streams at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
from nats.js.api import ConsumerInfo

from relume.base.clock import Clock
from relume.base.limits import KIB
from relume.eventing.event_log import DiskFull, StoreUnavailable
from relume.eventing.jetstream.connection import connect
from relume.eventing.jetstream.job_api import JobApi, Refused
from relume.eventing.jetstream.job_chunks import JobChunks
from relume.eventing.jetstream.job_cursors import ParkedCursor, SettledCursor, SharedCursor
from relume.eventing.jetstream.job_lanes import LaneInfo, Lanes
from relume.eventing.jetstream.job_letters import JobLetters
from relume.eventing.jetstream.job_listing import JobListing
from relume.eventing.jetstream.job_payloads import JobPayloads
from relume.eventing.jetstream.job_records import JobRecords
from relume.eventing.jetstream.job_streams import (
    CONTROL,
    JOBS,
    OUTBOX,
    UNSENT,
    ensure_streams,
    service_token,
    unsent_subject,
)
from relume.eventing.jetstream.server import Disk
from relume.eventing.jetstream.store import NATS_ERRORS
from relume.eventing.jobs.job import Job, ServiceName
from relume.eventing.jobs.readers import Readers
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import Chunk, Filter, Lane, Seen, Waiting

_CONNECT_WITHIN_S = 10.0
# A node of a cluster that is silent for twice as long is left for another one.
_PING_S = 2
# A message holds this much beside a body: its description, and the reply event's attributes.
_BESIDE_BODY_BYTES = 64 * KIB
_PAUSED = "$KV.relume_control.paused"
OutboxCursor = TypeVar("OutboxCursor", SettledCursor, ParkedCursor)


class JetStreamJobs:
    """A JobStore over a connection to nats-server; made by `connect`."""

    def __init__(self, settings: JobSettings, clock: Clock, disk: Disk | None, alone: bool) -> None:
        self._settings = settings
        self._alone = alone
        self._disk = disk
        self._api = JobApi(clock, settings.store_patience_s)
        self._records = JobRecords(self._api, settings)
        self._chunks = JobChunks(self._api, settings)
        self._payloads = JobPayloads(self._api, settings)
        self.letters = JobLetters(self._api)
        self._lanes = Lanes(self._api, settings)
        self._listing = JobListing(self._api, self._lanes)
        self._outbox: ConsumerInfo
        self._parked: ConsumerInfo
        self._outboxes: set[SharedCursor] = set()

    @classmethod
    async def connect(
        cls,
        servers: Sequence[str],
        settings: JobSettings,
        clock: Clock,
        *,
        credentials: Path | None = None,
        token: str | None = None,
        disk: Disk | None = None,
        alone: bool = False,
    ) -> Self:
        """A store over a new connection, its streams made or brought up to date.

        `disk` is where nats-server keeps them, where that is known, and `alone` says that no other
        process uses them. Raises StoreUnavailable when
        none of the servers answers or when they are older than 2.11.
        """
        opened = cls(settings, clock, disk, alone)
        await connect(
            opened._api.store,
            servers,
            within_s=_CONNECT_WITHIN_S,
            listeners=opened._api.listeners,
            credentials=credentials,
            token=token,
            ping_s=_PING_S,
        )
        try:
            await opened._api.pages.open()
            await opened._chunks.open()
            await ensure_streams(opened._api, settings)
            await opened._open()
        except BaseException:
            await opened.close()
            raise
        return opened

    async def _open(self) -> None:
        self._outbox = ConsumerInfo.from_response(await self._outbox_info(JOBS))
        self._parked = ConsumerInfo.from_response(await self._outbox_info(UNSENT))
        self._api.listeners.append(self._connection_changed)
        await self._lanes.open()

    async def close(self) -> None:
        await self._lanes.close()
        with contextlib.suppress(*NATS_ERRORS):
            await self._api.client.close()

    @property
    def connected(self) -> bool:
        """Whether a nats-server is connected now."""
        return self._api.store.connected.is_set()

    @property
    def readers(self) -> Readers:
        return self._chunks.readers

    @property
    def inline_bytes(self) -> int:
        """The largest body that may travel with its job or its record, here and now."""
        return min(self._settings.inline_bytes, self._api.largest - _BESIDE_BODY_BYTES)

    async def submit(self, job: Job, patience_s: float) -> tuple[bool, Seen]:
        if self._disk is not None and self._disk.full:
            raise DiskFull(f"{self._disk.free:,} bytes are left on the disk of the store")
        await self._lanes.ensure(Lane(job.service, job.priority, job.tenant))
        return await self._records.submit(job, patience_s)

    async def look(self, job_id: str) -> Seen:
        return await self._records.look(job_id)

    async def write(self, record: Record, revision: int) -> int:
        return await self._records.write(record, revision)

    async def requeue(self, job: Job, place: int) -> None:
        await self._lanes.ensure(Lane(job.service, job.priority, job.tenant))
        await self._records.requeue(job, place)

    async def withdraw(self, job_id: str) -> None:
        await self._records.withdraw(job_id)

    async def append(
        self, job_id: str, chunks: Sequence[Chunk], after: int, *, lasts_s: float | None = None
    ) -> int:
        return await self._chunks.append(job_id, chunks, after, lasts_s=lasts_s)

    async def chunks(self, job_id: str, after: int = 0) -> tuple[Sequence[Chunk], int]:
        return await self._chunks.chunks(job_id, after)

    def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Chunk]:
        return self._chunks.follow(job_id, after)

    def watch(self, job_id: str) -> AsyncIterator[Record]:
        return self._records.watch(job_id)

    async def forget(self, job_id: str) -> None:
        await self._chunks.remove(job_id)
        await self._payloads.remove(job_id)

    async def put_payload(
        self,
        job_id: str,
        name: str,
        data: AsyncIterator[bytes],
        *,
        lasts_s: float | None = None,
    ) -> str:
        return await self._payloads.put(job_id, name, data, lasts_s)

    def payload(self, reference: str) -> AsyncIterator[bytes]:
        return self._payloads.read(reference)

    def listed(
        self, wanted: Filter, after: str | int | None = None, *, most: int | None = None
    ) -> AsyncIterator[Seen]:
        return self._listing.listed(wanted, after, most=most)

    async def lanes(self, service: ServiceName) -> Mapping[Lane, int]:
        lanes = await self._lanes.of(service)
        returned = await self._returned(service, lanes)
        return {each.lane: each.waiting + returned.get(each.lane, 0) for each in lanes}

    async def running(self, service: ServiceName) -> int:
        lanes = await self._lanes.of(service)
        returned = await self._returned(service, lanes)
        # Both were not asked at the same moment.
        return max(0, sum(each.on_lease for each in lanes) - sum(returned.values()))

    async def _returned(self, service: ServiceName, lanes: Sequence[LaneInfo]) -> dict[Lane, int]:
        """How many jobs wait in the lanes of a paused service after they were given back."""
        given = [each.lane for each in lanes if each.on_lease]
        if not given or service not in await self.paused():
            return {}
        counts = await asyncio.gather(*map(self._listing.count_returned, given))
        return dict(zip(given, counts, strict=True))

    def each_lane(self, service: ServiceName) -> AsyncIterator[Lane]:
        return self._lanes.each(service)

    async def open_lane(self, lane: Lane) -> SharedCursor:
        cursor = await self._lanes.opened(lane)
        cursor.alone = self._alone
        return cursor

    async def ahead(self, lane: Lane, place: int) -> int:
        return await self._listing.ahead(lane, place)

    async def oldest(self, lane: Lane, after: int = 0) -> Waiting | None:
        return await self._listing.oldest(lane, after)

    async def returned(self, lane: Lane, after: int = 0) -> tuple[Sequence[Waiting], int]:
        return await self._listing.returned(lane, after)

    async def pause(self, service: ServiceName, paused: bool) -> None:
        key = f"{_PAUSED}.{service_token(service)}"
        if paused:
            names = (service.namespace, service.name)
            await self._api.put(key, orjson.dumps(names), {})
        elif await self._api.last_at_leader(CONTROL, key) is not None:
            await self._api.purge(CONTROL, key)

    async def paused(self) -> frozenset[ServiceName]:
        found = await self._api.page(CONTROL, {"multi_last": [f"{_PAUSED}.*"]})
        return frozenset(ServiceName(*orjson.loads(each.payload)) for each in found)

    def settled(self) -> SettledCursor:
        return self._outbox_cursor(SettledCursor, self._outbox)

    async def park(self, job_id: str, name: str, event: bytes) -> None:
        await self._api.put(unsent_subject(job_id, name), event, {"Nats-Expected-Stream": UNSENT})

    async def bury(self, job_id: str, name: str, event: bytes) -> None:
        await self.letters.bury(job_id, name, event)

    def parked(self) -> ParkedCursor:
        return self._outbox_cursor(ParkedCursor, self._parked)

    async def published(self, job_id: str, revision: int) -> bool:
        info = await self._outbox_info(JOBS)
        open_ = info.get("num_pending", 0) + info.get("num_ack_pending", 0)
        if open_ and info["ack_floor"]["stream_seq"] < revision:
            return False
        # An event is parked before its record is acknowledged.
        return await self._api.last_at_leader(UNSENT, unsent_subject(job_id, "*")) is None

    def _outbox_cursor(self, kind: type[OutboxCursor], info: ConsumerInfo) -> OutboxCursor:
        cursor = kind(self._api, info, self._outboxes.discard, self._settings.lease_s)
        cursor.alone = self._alone
        self._outboxes.add(cursor)
        return cursor

    async def _outbox_info(self, stream: str) -> dict[str, Any]:
        try:
            return await self._api.ask(f"CONSUMER.INFO.{stream}.{OUTBOX}", {})
        except Refused as refusal:
            raise StoreUnavailable(str(refusal)) from None

    def _connection_changed(self) -> None:
        for cursor in self._outboxes:
            cursor.connection_changed()
