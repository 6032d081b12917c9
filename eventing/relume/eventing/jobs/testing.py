"""Doubles of the stores of jobs and of keys, in memory, for tests of what stands on them.

They keep the same contract as those on JetStream: one suite runs over both (`tests/contract`, and
`tests/eventing/jobs/test_keys.py`). Nothing in them survives the process.
"""

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from relume.base.clock import Clock
from relume.eventing.envelope import Envelope
from relume.eventing.jobs.job import Job, ServiceName
from relume.eventing.jobs.keys import StoredKey
from relume.eventing.jobs.packing import pack_record, unpack_record
from relume.eventing.jobs.readers import Readers
from relume.eventing.jobs.settings import JobSettings, lifetime_s
from relume.eventing.jobs.state import LeaseLost, Record
from relume.eventing.jobs.store import (
    Chunk,
    Filter,
    JobTooLarge,
    KeyInUse,
    Lane,
    NoSuchJob,
    NoSuchPayload,
    Outrun,
    ReadEnough,
    Seen,
    Waiting,
)
from relume.eventing.jobs.testing_places import Changes, MemoryJobCursor, Place

__all__ = ["MemoryJobs", "MemoryKeyStore"]


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored message: its place, its bytes, when it was stored and when it goes."""

    place: int
    payload: bytes
    at: datetime
    gone_at: float


class MemoryJobs:
    """Jobs as dictionaries."""

    def __init__(self, settings: JobSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._last = 0
        self._work: dict[str, _Stored] = {}
        self._at: dict[int, str] = {}  # the job whose work message lies at a place
        self._records: dict[str, _Stored] = {}
        self._chunks: defaultdict[str, list[tuple[int, Sequence[Chunk]]]] = defaultdict(list)
        self._payloads: dict[str, bytes] = {}
        self._lanes: dict[Lane, Place] = {}
        self._lane_of: dict[int, Lane] = {}
        self._paused: set[ServiceName] = set()
        self._changes = Changes()
        self.readers = Readers()
        self._settled = Place(self._settled_above, self._settled_payload)
        self._unsent: dict[str, _Stored] = {}
        self.buried: dict[str, bytes] = {}
        self._parked = Place(self._parked_above, self._parked_payload, self._parked_settled)

    @property
    def inline_bytes(self) -> int:
        return self._settings.inline_bytes

    async def close(self) -> None: ...

    async def submit(self, job: Job, patience_s: float) -> tuple[bool, Seen]:
        if job.id in self._work and (stored := self._seen(job.id)).job is not None:
            if stored.job.digest != job.digest:
                raise KeyInUse(f"job {job.id} has this key already, with another request")
            return False, stored
        self._store_work(job)
        return True, self._seen(job.id)

    async def look(self, job_id: str) -> Seen:
        seen = self._seen(job_id)
        if seen.job is None and seen.record is None:
            raise NoSuchJob(f"there is no job {job_id}")
        return seen

    async def write(self, record: Record, revision: int) -> int:
        payload = pack_record(record)
        if len(payload) > self._settings.max_record_bytes:
            raise JobTooLarge(f"the record of job {record.id} has {len(payload):,} bytes")
        if self._seen(record.id).revision != revision:
            raise Outrun(f"job {record.id} was written since")
        lasts_s = record.stored_s if record.settled else math.inf
        self._records[record.id] = self._stored(payload, lasts_s)
        self._changes.tell()
        return self._last

    async def requeue(self, job: Job, place: int) -> None:
        if self._seen(job.id).place != place:
            raise Outrun(f"job {job.id} was queued again since")
        await self.withdraw(job.id)
        self._store_work(job)

    async def withdraw(self, job_id: str) -> None:
        if (stored := self._work.pop(job_id, None)) is not None:
            del self._at[stored.place], self._lane_of[stored.place]

    async def append(
        self, job_id: str, chunks: Sequence[Chunk], after: int, *, lasts_s: float | None = None
    ) -> int:
        kept = self._chunks[job_id]
        if (kept[-1][0] if kept else 0) != after:
            raise LeaseLost(f"somebody else has appended to job {job_id} since")
        self._last += 1
        kept.append((self._last, tuple(chunks)))
        self._changes.tell()
        return self._last

    async def chunks(self, job_id: str, after: int = 0) -> tuple[Sequence[Chunk], int]:
        kept = self._chunks.get(job_id, [])
        found = [each for _, together in kept for each in together if each.position > after]
        return found, kept[-1][0] if kept else 0

    async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Chunk]:
        while True:
            found, _ = await self.chunks(job_id, after)
            self.readers.heard(job_id)
            for chunk in found:
                after = chunk.position
                yield chunk
            if not found:
                await self._changes.wait(self._clock)

    async def watch(self, job_id: str) -> AsyncIterator[Record]:
        told = 0
        while True:
            seen = self._seen(job_id)
            if seen.record is not None and seen.revision != told:
                told = seen.revision
                yield seen.record
            else:
                await self._changes.wait(self._clock)

    async def forget(self, job_id: str) -> None:
        self._chunks.pop(job_id, None)
        for reference in [each for each in self._payloads if each.startswith(f"{job_id}/")]:
            del self._payloads[reference]

    async def put_payload(
        self,
        job_id: str,
        name: str,
        data: AsyncIterator[bytes],
        *,
        lasts_s: float | None = None,
    ) -> str:
        reference = f"{job_id}/{name}/{self._last}"
        self._last += 1
        self._payloads[reference] = b"".join([part async for part in data])
        return reference

    async def payload(self, reference: str) -> AsyncIterator[bytes]:
        if (data := self._payloads.get(reference)) is None:
            raise NoSuchPayload(f"{reference} is not stored (any more)")
        for start in range(0, len(data), self._settings.payload_part_bytes):
            yield data[start : start + self._settings.payload_part_bytes]

    async def listed(
        self, wanted: Filter, after: str | int | None = None, *, most: int | None = None
    ) -> AsyncIterator[Seen]:
        below: float = math.inf
        if isinstance(after, int):
            below = after
        elif after is not None and not (below := self._seen(after).place):
            raise NoSuchJob(f"job {after} is gone: list from the start")
        places = sorted((each for each in self._at if each < below), reverse=True)
        for read, place in enumerate(places):
            if most is not None and read >= most:
                raise ReadEnough(places[read - 1])
            if (job_id := self._at.get(place)) is not None:
                seen = self._seen(job_id)
                if seen.job is not None and wanted.takes(seen):
                    yield seen

    async def lanes(self, service: ServiceName) -> Mapping[Lane, int]:
        return {
            lane: sum(1 for _ in place.above(place.delivered)) + len(self._paused_in(lane))
            for lane, place in self._lanes.items()
            if lane.service == service
        }

    async def running(self, service: ServiceName) -> int:
        lanes = [lane for lane in self._lanes if lane.service == service]
        held = sum(each in self._at for lane in lanes for each in self._lanes[lane].leases)
        return held - sum(len(self._paused_in(lane)) for lane in lanes)

    def _paused_in(self, lane: Lane) -> Sequence[Waiting]:
        return self._returned(lane) if lane.service in self._paused else ()

    async def each_lane(self, service: ServiceName) -> AsyncIterator[Lane]:
        told: set[Lane] = set()
        while True:
            for lane in [each for each in self._lanes if each.service == service]:
                if lane not in told:
                    told.add(lane)
                    yield lane
            await self._changes.wait(self._clock)

    async def open_lane(self, lane: Lane) -> MemoryJobCursor:
        return MemoryJobCursor(self._lane(lane), self._changes, self._clock, self._settings)

    async def ahead(self, lane: Lane, place: int) -> int:
        waiting = self._lane(lane)
        return sum(1 for each in waiting.above(waiting.delivered) if each < place)

    async def pause(self, service: ServiceName, paused: bool) -> None:
        (self._paused.add if paused else self._paused.discard)(service)

    async def paused(self) -> frozenset[ServiceName]:
        return frozenset(self._paused)

    def settled(self) -> MemoryJobCursor:
        return MemoryJobCursor(self._settled, self._changes, self._clock, self._settings)

    async def park(self, job_id: str, name: str, event: bytes) -> None:
        self._unsent[f"{job_id}/{name}"] = self._stored(event, math.inf)
        self._changes.tell()

    async def bury(self, job_id: str, name: str, event: bytes) -> None:
        self.buried[f"{job_id}/{name}"] = event

    def parked(self) -> MemoryJobCursor:
        return MemoryJobCursor(self._parked, self._changes, self._clock, self._settings)

    async def published(self, job_id: str, revision: int) -> bool:
        waiting = [*self._settled.leases, *self._settled.above(self._settled.delivered)]
        parked = any(each.startswith(f"{job_id}/") for each in self._unsent)
        return all(each > revision for each in waiting) and not parked

    async def oldest(self, lane: Lane, after: int = 0) -> Waiting | None:
        waiting = self._lane(lane)
        for place in waiting.above(max(waiting.delivered, after)):
            return self._waiting(place)
        return None

    async def returned(self, lane: Lane, after: int = 0) -> tuple[Sequence[Waiting], int]:
        found = [each for each in self._returned(lane) if each.place > after]
        return found, max(after, self._lane(lane).delivered)

    def _returned(self, lane: Lane) -> list[Waiting]:
        places = sorted(each for each in self._lane(lane).leases if each in self._at)
        return [
            self._waiting(each) for each in places if self._seen(self._at[each]).current is None
        ]

    def _waiting(self, place: int) -> Waiting:
        stored = self._work[self._at[place]]
        return Waiting(place, Job.from_envelope(Envelope.unpack(stored.payload)), stored.at)

    def _stored(self, payload: bytes, lasts_s: float) -> _Stored:
        self._last += 1
        gone_at = self._clock.monotonic() + lasts_s
        return _Stored(self._last, payload, self._clock.now(), gone_at)

    def _store_work(self, job: Job) -> None:
        payload = job.to_envelope().pack()
        if len(payload) > self._settings.max_record_bytes:
            raise JobTooLarge(f"job {job.id} has {len(payload):,} bytes")
        lane = Lane(job.service, job.priority, job.tenant)
        self._lane(lane)
        stored = self._work[job.id] = self._stored(payload, lifetime_s(job.limits))
        self._at[stored.place], self._lane_of[stored.place] = job.id, lane
        self._changes.tell()

    def _seen(self, job_id: str) -> Seen:
        now = self._clock.monotonic()
        work, record = self._work.get(job_id), self._records.get(job_id)
        if work is not None and work.gone_at <= now:
            del self._work[job_id], self._at[work.place], self._lane_of[work.place]
            work = None
        if record is not None and record.gone_at <= now:
            del self._records[job_id]
            record = None
        return Seen(
            None if work is None else Job.from_envelope(Envelope.unpack(work.payload)),
            0 if work is None else work.place,
            None if record is None else unpack_record(record.payload),
            0 if record is None else record.place,
        )

    def _lane(self, lane: Lane) -> Place:
        if lane not in self._lanes:
            self._lanes[lane] = Place(lambda after: self._work_above(lane, after), self._work_at)
            self._changes.tell()
        return self._lanes[lane]

    def _work_above(self, lane: Lane, after: int) -> list[int]:
        return [each for each, of in self._lane_of.items() if of == lane and each > after]

    def _work_at(self, place: int) -> bytes | None:
        job_id = self._at.get(place)
        return None if job_id is None else self._work[job_id].payload

    def _settled_above(self, after: int) -> list[int]:
        places = sorted(each.place for each in self._records.values() if each.place > after)
        return [each for each in places if self._settled_payload(each) is not None]

    def _settled_payload(self, place: int) -> bytes | None:
        for stored in self._records.values():
            if stored.place == place:
                return stored.payload if unpack_record(stored.payload).settled else None
        return None

    def _parked_above(self, after: int) -> list[int]:
        return sorted(each.place for each in self._unsent.values() if each.place > after)

    def _parked_payload(self, place: int) -> bytes | None:
        return next((each.payload for each in self._unsent.values() if each.place == place), None)

    def _parked_settled(self, place: int) -> None:
        self._unsent = {name: each for name, each in self._unsent.items() if each.place != place}


class MemoryKeyStore:
    """A KeyStore as a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[str, StoredKey] = {}

    async def put(self, key: StoredKey) -> None:
        self._keys[key.id] = key

    async def get(self, key_id: str) -> StoredKey | None:
        return self._keys.get(key_id)

    async def all(self) -> Sequence[StoredKey]:
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))

    async def remove(self, key_id: str) -> bool:
        return self._keys.pop(key_id, None) is not None
