"""Jobs as a list, newest first, and the place of one in its lane.

JetStream reads a stream forwards only. So the list goes back through the stream by windows, as wide
as one page of what is looked for has been, and turns each one round.
"""

import asyncio
import bisect
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.job_api import JobApi, Message
from relume.eventing.jetstream.job_lanes import Lanes
from relume.eventing.jetstream.job_records import job_in, seen_of
from relume.eventing.jetstream.job_streams import (
    JOBS,
    WORK,
    lane_subjects,
    record_subject,
    service_token,
    work_of,
)
from relume.eventing.jobs.job import Job
from relume.eventing.jobs.packing import DamagedRecord
from relume.eventing.jobs.store import Filter, Lane, NoSuchJob, ReadEnough, Seen, Waiting

_PAGE = 64
_WIDEST = 1 << 20
# A page is read by so many requests at once.
_SLICES = 8
# The first jobs of a lane are counted, the place of the others is reckoned from their sequences:
# to count a million takes nats-server 300 ms.
_COUNTED = 64
# Of the jobs of a lane that were given back, those in so many pages are counted.
_COUNTED_PAGES = 16
_TRUSTED_S = 1.0
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Queue:
    """What waited in a lane `at` a time: how many, the places of the first ones, and the last."""

    at: float
    waiting: int
    heads: list[int]
    last: int


class JobListing:
    """The part of a JobStore that lists jobs and counts those in front."""

    def __init__(self, api: JobApi, lanes: Lanes) -> None:
        self._api = api
        self._lanes = lanes
        self._queues: dict[Lane, _Queue] = {}

    async def listed(
        self, wanted: Filter, after: str | int | None = None, *, most: int | None = None
    ) -> AsyncIterator[Seen]:
        """See `JobStore.listed`."""
        subjects = "relume.work.*.*.*.*"
        if wanted.service is not None:
            subjects = f"relume.work.{service_token(wanted.service)}.*.*.*"
        last = await self._last(after)
        wide, read = _PAGE, 0
        while last > 0:
            first = max(1, last - wide + 1)
            page = await self._window(subjects, first, last)
            if page is None:
                read += _PAGE
                wide = max(1, wide // 2)
                continue
            for seen in await self._seen(list(reversed(page))):
                if wanted.takes(seen):
                    yield seen
            last, read = first - 1, read + len(page)
            # Only here, so that each call comes further than the one before.
            if most is not None and read >= most and last > 0:
                raise ReadEnough(first)
            if len(page) < _PAGE // 4:
                wide = min(wide * 2, _WIDEST)

    async def ahead(self, lane: Lane, place: int) -> int:
        """See `JobStore.ahead`."""
        queue = await self._queue(lane)
        counted = queue.heads
        if not counted or place <= counted[-1] or len(counted) == queue.waiting:
            return bisect.bisect_left(counted, place)
        # As if the others were spread evenly from there to the last one.
        left, wide = queue.waiting - len(counted), max(1, queue.last - counted[-1])
        share = min(1.0, (place - counted[-1]) / wide)
        return len(counted) + max(0, min(left - 1, round(left * share) - 1))

    async def oldest(self, lane: Lane, after: int = 0) -> Waiting | None:
        """See `JobStore.oldest`."""
        info = await self._lanes.info(lane)
        start = max(after, info.delivered if info else 0) + 1
        which = {"seq": start, "next_by_subj": lane_subjects(lane)}
        if (work := await self._api.read(WORK, which)) is None:
            return None
        return Waiting(work.sequence, job_in(work), work.at)

    async def returned(self, lane: Lane, after: int = 0) -> tuple[Sequence[Waiting], int]:
        """See `JobStore.returned`."""
        info = await self._lanes.info(lane)
        if info is None or not info.on_lease or after >= info.delivered:
            return (), after
        start = max(after, info.settled_up_to) + 1
        which = {"seq": start, "next_by_subj": lane_subjects(lane), "batch": _PAGE}
        page = await self._api.page(WORK, which)
        given = [work for work in page if work.sequence <= info.delivered]
        records = await asyncio.gather(*(self._record(each) for each in given))
        found = [
            Waiting(work.sequence, job, work.at)
            for work, record in zip(given, records, strict=True)
            if (job := _without_record(work, record)) is not None
        ]
        return found, given[-1].sequence if page and given == page else info.delivered

    async def count_returned(self, lane: Lane) -> int:
        """How many jobs `returned` finds, as far as a bounded number of requests tells."""
        count = place = 0
        for _ in range(_COUNTED_PAGES):
            found, read = await self.returned(lane, place)
            if read == place:
                break
            count, place = count + len(found), read
        return count

    async def _last(self, after: str | int | None) -> int:
        """The place where to begin to go back. Raises NoSuchJob."""
        if after is None:
            return await self._api.last_sequence(WORK)
        if isinstance(after, int):
            # A client may have made it up: nothing lies behind the last sequence.
            return min(after - 1, await self._api.last_sequence(WORK))
        before = await self._api.last_at_leader(WORK, work_of(after))
        if before is None:
            raise NoSuchJob(f"job {after} is gone: list from the start")
        return before.sequence - 1

    async def _window(self, subjects: str, first: int, last: int) -> list[Message] | None:
        """The messages from `first` to `last`; None where they are more than one page."""
        wide = -(-(last - first + 1) // _SLICES)
        starts = range(first, last + 1, wide)
        slices = await asyncio.gather(
            *(self._slice(subjects, start, min(last, start + wide - 1)) for start in starts)
        )
        found = [message for each in slices for message in each]
        return found if len(found) <= _PAGE else None

    async def _slice(self, subjects: str, first: int, last: int) -> list[Message]:
        """The messages from `first` to `last`, at most one more than a page.

        Many at once would make nats-server count all that follow.
        """
        found: list[Message] = []
        while first <= last and len(found) <= _PAGE:
            which = {"seq": first, "next_by_subj": subjects}
            message = await self._api.read(WORK, which)
            if message is None or message.sequence > last:
                break
            found.append(message)
            first = message.sequence + 1
        return found

    async def _seen(self, work: Sequence[Message]) -> list[Seen]:
        records = await asyncio.gather(*(self._record(each) for each in work))
        return [seen_of(*pair) for pair in zip(work, records, strict=True)]

    async def _record(self, work: Message) -> Message | None:
        subject = record_subject(work.subject.rpartition(".")[2])
        return await self._api.read(JOBS, {"last_by_subj": subject})

    async def _queue(self, lane: Lane) -> _Queue:
        now = self._api.clock.monotonic()
        if (kept := self._queues.get(lane)) is not None and now - kept.at < _TRUSTED_S:
            return kept
        info = await self._lanes.info(lane)
        heads: list[int] = []
        last = 0
        if info is not None and info.waiting:
            place = info.delivered
            for _ in range(min(info.waiting, _COUNTED)):
                which = {"seq": place + 1, "next_by_subj": lane_subjects(lane)}
                if (message := await self._api.read(WORK, which)) is None:
                    break
                place = message.sequence
                heads.append(place)
            last = await self._api.last_sequence(WORK)
        if len(self._queues) >= _REMEMBERED:
            self._queues.clear()
        queue = _Queue(now, info.waiting if info else 0, heads, last)
        self._queues[lane] = queue
        return queue


def _without_record(work: Message, record: Message | None) -> Job | None:
    """The job, if there is no record of its round. None too where it is damaged: it never runs."""
    try:
        seen = seen_of(work, record)
    except (StoreUnavailable, DamagedRecord):
        return None
    return None if seen.current is not None else seen.job
