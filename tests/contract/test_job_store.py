"""What every JobStore promises, run over the one in memory and the one on JetStream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from relume.base.clock import SystemClock
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import Cursor, LeasedEvent
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.job import Job, Limits, ServiceName, digest_of, id_for
from relume.eventing.jobs.packing import unpack_record
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import (
    Attempted,
    Cancelled,
    Deleted,
    Ended,
    Leased,
    LeaseLost,
    Record,
    Result,
    Usage,
    step,
)
from relume.eventing.jobs.store import (
    Chunk,
    Filter,
    JobStore,
    JobTooLarge,
    KeyInUse,
    Lane,
    NoSuchJob,
    NoSuchPayload,
    Outrun,
    ReadEnough,
    Waiting,
)
from relume.eventing.jobs.testing import MemoryJobs

T = TypeVar("T")

# The lease outlasts a busy machine, but for tests that wait until it runs out.
SETTINGS = JobSettings(
    lease_s=120.0, payload_part_bytes=1000, max_record_bytes=200_000, unread_bytes=20_000
)
SERVICE = ServiceName("default", "a.b")
LANE = Lane(SERVICE, "normal", "tenant one, with ünusual * characters > .")
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Closable(JobStore, Protocol):
    async def close(self) -> None: ...


Open = Callable[[], Awaitable[Closable]]


@pytest.fixture
def lease_s() -> float:
    return SETTINGS.lease_s


@pytest.fixture(params=["memory", "jetstream"])
async def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, lease_s: float
) -> AsyncIterator[Open]:
    """Opens the store; a second call is another gateway beside the first."""
    clock, settings = SystemClock(), replace(SETTINGS, lease_s=lease_s)
    if request.param == "memory":
        memory = MemoryJobs(settings, clock)

        async def same() -> Closable:
            return memory

        yield same
        return
    opened: list[JetStreamJobs] = []
    async with NatsServer(tmp_path) as nats:

        async def connect() -> Closable:
            opened.append(await JetStreamJobs.connect([nats.url], settings, clock))
            return opened[-1]

        yield connect
        for each in opened:
            await each.close()


@pytest.fixture
async def store(open_store: Open) -> Closable:
    return await open_store()


def job(key: str, *, lane: Lane = LANE, body: bytes = b'{"a": 1}\n\n', **given: object) -> Job:
    made = Job(
        id=id_for("owner", key),
        service=lane.service,
        route="/v1/completions?x=%20y",
        tenant=lane.tenant,
        owner="owner",
        priority=lane.priority,
        limits=Limits(),
        accepted_at=NOW,
        digest=digest_of(lane.service, "/v1", "application/json", body),
        body=body,
        headers={"x-request-id": key},
    )
    return replace(made, **given)  # type: ignore[arg-type]


def ended(held: Record, made: Job, *, body: bytes = b"answer\n\nof two", **given: object) -> Record:
    end = Ended(
        held.generation,
        NOW,
        "completed",
        result=Result(200, "text/plain", body),
        usage=Usage(prompt_tokens=3, run_ms=7),
        reply=b"\nreply\n",
    )
    tried = step(held, made, Attempted(held.generation))
    return replace(step(tried, made, end), **given)  # type: ignore[arg-type]


def parts(*positions: int, size: int = 3) -> list[Chunk]:
    return [Chunk(each, "data", b"%d\n" % each + b"x" * size, 1) for each in positions]


async def lease(store: JobStore, made: Job) -> tuple[LeasedEvent, Record, int]:
    """The only job of its lane, leased; its record and the revision of that."""
    cursor = await store.open_lane(Lane(made.service, made.priority, made.tenant))
    [leased] = await fetch(cursor, 1)
    record = step(None, made, Leased(leased.generation, "worker", NOW))
    return leased, record, await store.write(record, 0)


async def fetch(cursor: Cursor, count: int) -> Sequence[LeasedEvent]:
    """Exactly `count`, unsettled."""
    held: list[LeasedEvent] = []
    async with asyncio.timeout(60):
        while len(held) < count:
            held += await cursor.fetch(count - len(held))
    return held


async def take(source: AsyncIterator[T], count: int) -> list[T]:
    """The next `count` of an iterator without an end."""
    async with asyncio.timeout(60):
        return [await anext(source) for _ in range(count)]


async def nothing_more(source: Awaitable[object], within_s: float = 0.3) -> bool:
    waiting = asyncio.ensure_future(source)
    done, _ = await asyncio.wait([waiting], timeout=within_s)
    waiting.cancel()
    await asyncio.wait([waiting])
    return not done


def jobs_of(leased: Sequence[LeasedEvent]) -> list[Job]:
    return [Job.from_envelope(Envelope.unpack(each.payload)) for each in leased]


# --- submitting and looking ---------------------------------------------------------------------


async def test_a_job_is_stored_untouched_and_found_again(store: Closable) -> None:
    made = job("1", event={"id": "e", "n": 3}, reply_to="default/broker")
    new, seen = await store.submit(made, 5.0)
    assert new and seen.job == made and seen.place > 0
    assert (seen.record, seen.revision, seen.state) == (None, 0, "queued")
    assert await store.look(made.id) == seen


async def test_the_same_job_is_stored_once(store: Closable) -> None:
    made = job("1")
    _, first = await store.submit(made, 5.0)
    later = replace(made, accepted_at=NOW.replace(hour=13))
    assert await store.submit(later, 5.0) == (False, first)


async def test_a_key_is_not_used_for_another_request(store: Closable) -> None:
    await store.submit(job("1"), 5.0)
    with pytest.raises(KeyInUse):
        await store.submit(job("1", body=b"other"), 5.0)


async def test_a_key_is_not_used_for_another_service_or_priority(store: Closable) -> None:
    await store.submit(job("1"), 5.0)
    other = Lane(ServiceName("default", "other"), "high", "somebody")
    with pytest.raises(KeyInUse):
        await store.submit(job("1", lane=other), 5.0)


async def test_of_many_that_submit_one_job_at_once_one_has_stored_it(open_store: Open) -> None:
    stores = [await open_store(), await open_store()]
    made = job("1")
    many = await asyncio.gather(*(stores[n % 2].submit(made, 5.0) for n in range(20)))
    assert sum(new for new, _ in many) == 1
    assert len({seen.place for _, seen in many}) == 1


async def test_a_job_that_was_submitted_again_tells_its_state(store: Closable) -> None:
    made = job("1")
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    await store.write(ended(record, made), revision)
    new, seen = await store.submit(made, 5.0)
    assert (new, seen.state) == (False, "completed")
    assert seen.record is not None and seen.record.result is not None
    assert seen.record.result.body == b"answer\n\nof two"


@pytest.mark.parametrize(
    "wrong", ["job_none", "", "*", ">", "a.b", "job_\u00e4", "x" * 5000, "a b"]
)
async def test_a_job_that_is_not_there_is_not_found(store: Closable, wrong: str) -> None:
    await store.submit(job("1"), 5.0)
    with pytest.raises(NoSuchJob):
        await store.look(wrong)


async def test_a_job_that_does_not_fit_is_refused(store: Closable) -> None:
    with pytest.raises(JobTooLarge):
        await store.submit(job("1", body=bytes(SETTINGS.max_record_bytes)), 5.0)


# --- records ------------------------------------------------------------------------------------


async def test_a_record_is_replaced_by_who_knows_its_revision(store: Closable) -> None:
    made = job("1")
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    with pytest.raises(Outrun):
        await store.write(record, 0)
    after = await store.write(ended(record, made), revision)
    with pytest.raises(Outrun):
        await store.write(record, revision)
    seen = await store.look(made.id)
    assert (seen.record, seen.revision) == (ended(record, made), after)


async def test_of_two_that_write_at_once_one_has_written(open_store: Open) -> None:
    one, two = await open_store(), await open_store()
    made = job("1")
    await one.submit(made, 5.0)
    records = [step(None, made, Leased(1, name, NOW)) for name in ("a", "b")]
    done = await asyncio.gather(
        one.write(records[0], 0), two.write(records[1], 0), return_exceptions=True
    )
    assert sum(isinstance(each, Outrun) for each in done) == 1
    winner = next(n for n, each in enumerate(done) if isinstance(each, int))
    assert (await two.look(made.id)).record == records[winner]


async def test_a_record_that_does_not_fit_is_refused(store: Closable) -> None:
    made = job("1")
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    with pytest.raises(JobTooLarge):
        await store.write(ended(record, made, body=bytes(SETTINGS.max_record_bytes)), revision)


async def test_a_settled_record_goes_when_its_time_is_over(store: Closable) -> None:
    made = job("1", limits=Limits(queue_s=0, start_s=0, run_s=0, keep_s=1))
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    await store.write(ended(record, made, request_s=1.0), revision)
    assert (await store.look(made.id)).state == "completed"
    await store.withdraw(made.id)
    async with asyncio.timeout(60):
        with contextlib.suppress(NoSuchJob):
            while await store.look(made.id):
                await asyncio.sleep(0.1)


async def test_a_settled_record_does_not_go_before_its_work_message(store: Closable) -> None:
    made = job("1", limits=Limits(queue_s=60, start_s=0, run_s=0, keep_s=1))
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    await store.write(ended(record, made), revision)
    await asyncio.sleep(2.5)
    seen = await store.look(made.id)
    assert (seen.state, seen.job) == ("completed", made)


async def test_a_retried_job_waits_again(store: Closable) -> None:
    made = job("1")
    await store.submit(made, 5.0)
    leased, record, revision = await lease(store, made)
    await store.write(step(record, made, Cancelled(NOW)), revision)
    await leased.settle()
    place = (await store.look(made.id)).place
    again = replace(made, round=2)
    await store.requeue(again, place)
    with pytest.raises(Outrun):
        await store.requeue(again, place)
    seen = await store.look(made.id)
    assert (seen.state, seen.job) == ("queued", again) and seen.place > place
    [second] = await fetch(await store.open_lane(LANE), 1)
    assert (jobs_of([second]), second.generation) == ([again], 1)


async def test_a_deleted_job_leaves_its_tombstone(store: Closable) -> None:
    made = job("1")
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    await store.append(made.id, parts(1, 2), 0)
    reference = await store.put_payload(made.id, "result", in_pieces(b"secret" * 1000))
    settled = ended(record, made)
    revision = await store.write(settled, revision)
    await store.write(step(settled, made, Deleted(NOW)), revision)
    await store.forget(made.id)
    await store.withdraw(made.id)
    await store.withdraw(made.id)
    seen = await store.look(made.id)
    assert (seen.job, seen.place) == (None, 0)
    assert seen.record is not None and seen.record.deleted
    assert seen.record.digest == made.digest
    assert await store.chunks(made.id) == ([], 0)
    with pytest.raises(NoSuchPayload):
        await anext(aiter(store.payload(reference)))
    assert [each async for each in store.listed(Filter())] == []


async def test_a_watcher_sees_the_record_now_and_each_change(open_store: Open) -> None:
    store, other = await open_store(), await open_store()
    made = job("1")
    await store.submit(made, 5.0)
    watched = other.watch(made.id)
    first = asyncio.ensure_future(take(watched, 1))
    await asyncio.sleep(0.1)
    _, record, revision = await lease(store, made)
    assert await first == [record]
    # Larger than what is held for a reader.
    settled = ended(record, made, body=bytes(3 * SETTINGS.unread_bytes))
    await store.write(settled, revision)
    assert await take(watched, 1) == [settled]
    assert await take(store.watch(made.id), 1) == [settled]
    assert await nothing_more(anext(watched))
    with contextlib.suppress(RuntimeError):
        await watched.aclose()  # type: ignore[attr-defined]


# --- chunks -------------------------------------------------------------------------------------


async def test_chunks_are_kept_in_order(store: Closable) -> None:
    assert await store.chunks("job_1") == ([], 0)
    place = await store.append("job_1", parts(1, 2), 0)
    place = await store.append("job_1", [Chunk(3, "restarted", b"2", 2)], place)
    other = await store.append("job_2", parts(1), 0)
    last = await store.append("job_1", parts(4), place)
    assert other != last
    whole = [*parts(1, 2), Chunk(3, "restarted", b"2", 2), *parts(4)]
    assert await store.chunks("job_1") == (whole, last)
    assert await store.chunks("job_1", 2) == (whole[2:], last)
    assert await store.chunks("job_1", 9) == ([], last)


async def test_nobody_appends_behind_the_back_of_another(store: Closable) -> None:
    first = await store.append("job_1", parts(1), 0)
    with pytest.raises(LeaseLost):
        await store.append("job_1", parts(1), 0)
    last = await store.append("job_1", parts(2), first)
    with pytest.raises(LeaseLost):
        await store.append("job_1", parts(2), first)
    assert await store.chunks("job_1") == (parts(1, 2), last)
    await store.forget("job_1")
    with pytest.raises(LeaseLost):
        await store.append("job_1", parts(3), last)


async def test_many_chunks_are_read_and_followed_whole(open_store: Open) -> None:
    store, other = await open_store(), await open_store()
    place, expected = 0, list[Chunk]()
    for start in range(1, 1201, 2):
        together = parts(start, start + 1, size=100)
        expected += together
        place = await store.append("job_1", together, place)
    assert await other.chunks("job_1") == (expected, place)
    assert await take(other.follow("job_1"), 1200) == expected
    assert await take(other.follow("job_1", 1100), 100) == expected[1100:]


async def test_a_follower_gets_what_is_stored_and_what_comes(open_store: Open) -> None:
    store, other = await open_store(), await open_store()
    place = await store.append("job_1", parts(1, 2), 0)
    followed = other.follow("job_1", 1)
    assert await take(followed, 1) == parts(2)
    waiting = asyncio.ensure_future(take(followed, 2))
    await asyncio.sleep(0.1)
    place = await store.append("job_1", parts(3), place)
    place = await store.append("job_1", parts(4, 5), place)
    assert await waiting == parts(3, 4)
    assert await take(followed, 1) == parts(5)


async def test_a_follower_that_is_slow_misses_and_repeats_nothing(open_store: Open) -> None:
    store, other = await open_store(), await open_store()
    followed = other.follow("job_1")
    place = await store.append("job_1", parts(1), 0)
    assert await take(followed, 1) == parts(1)
    for position in range(2, 102):  # five times what is held for a reader
        place = await store.append("job_1", parts(position, size=1000), place)
    assert await take(followed, 100) == parts(*range(2, 102), size=1000)


async def test_the_writer_of_an_answer_hears_of_its_readers(open_store: Open) -> None:
    store, other = await open_store(), await open_store()
    heard = asyncio.Event()
    with store.readers.of("job_1", heard.set):
        followed = other.follow("job_1")
        reading = asyncio.ensure_future(take(followed, 1))
        await asyncio.wait_for(heard.wait(), 20)
        heard.clear()
        await store.append("job_1", parts(1), 0)
        assert await reading == parts(1)  # the first part of this worker
        await asyncio.wait_for(heard.wait(), 20)


# --- payloads -----------------------------------------------------------------------------------


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1234):
        yield data[start : start + 1234]


async def test_a_payload_is_read_as_it_was_written(store: Closable) -> None:
    data = bytes(range(256)) * 100
    reference = await store.put_payload("job_1", "request", in_pieces(data))
    empty = await store.put_payload("job_1", "empty", in_pieces(b""))
    other = await store.put_payload("job_2", "request", in_pieces(b"other"))
    read = [part async for part in store.payload(reference)]
    assert b"".join(read) == data and max(map(len, read)) <= SETTINGS.payload_part_bytes
    assert [part async for part in store.payload(empty)] == []
    await store.forget("job_1")
    with pytest.raises(NoSuchPayload):
        await anext(aiter(store.payload(reference)))
    assert [part async for part in store.payload(other)] == [b"other"]


async def test_a_payload_that_was_not_written_whole_is_not_there(store: Closable) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(5000)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.put_payload("job_1", "request", broken())
    with pytest.raises(NoSuchPayload):
        await anext(aiter(store.payload("job_1/request-x")))


# --- lists --------------------------------------------------------------------------------------


async def listed(store: JobStore, after: str | None = None, **wanted: object) -> list[str]:
    found = store.listed(Filter(**wanted), after)  # type: ignore[arg-type]
    return [each.job.headers["x-request-id"] async for each in found if each.job is not None]


async def test_jobs_are_listed_newest_first_by_pages(store: Closable) -> None:
    assert await listed(store) == []
    other = Lane(ServiceName("default", "other"), "low", "b")
    made = [job(str(n), lane=other if n % 10 == 0 else LANE) for n in range(200)]
    for each in made:
        await store.submit(each, 5.0)
    keys = [str(n) for n in reversed(range(200))]
    assert await listed(store) == keys
    assert await listed(store, made[150].id) == keys[50:]
    assert await listed(store, made[0].id) == []
    assert await listed(store, service=other.service) == keys[9::10]
    assert await listed(store, made[100].id, service=other.service) == keys[109::10]
    for n in range(20, 180):
        await store.withdraw(made[n].id)
    assert await listed(store) == keys[:20] + keys[180:]
    with pytest.raises(NoSuchJob):
        await listed(store, made[100].id)


@pytest.mark.parametrize("owner", [None, "nobody"])
async def test_a_list_stops_when_it_has_read_enough_and_goes_on_from_there(
    store: Closable, owner: str | None
) -> None:
    for n in range(300):
        await store.submit(job(str(n)), 5.0)
    found: list[list[str]] = []
    after: int | None = None
    while True:
        found.append([])
        try:
            async for each in store.listed(Filter(owner=owner), after, most=100):
                assert each.job is not None
                found[-1].append(each.job.headers["x-request-id"])
            break
        except ReadEnough as enough:
            assert after is None or enough.place < after
            after = enough.place
    assert len(found) in (2, 3)  # JetStream reads whole windows of up to 128
    keys = [str(n) for n in reversed(range(300))]
    assert [key for page in found for key in page] == (keys if owner is None else [])
    assert max(map(len, found)) < 100 + 128
    # A place that somebody made up lies behind the last one.
    assert len([each async for each in store.listed(Filter(), 10**18 - 1)]) == 300


async def test_jobs_are_listed_by_state_and_owner(store: Closable) -> None:
    for key in ("1", "2", "3"):
        await store.submit(job(key), 5.0)
    await store.submit(job("4", owner="other"), 5.0)
    cursor = await store.open_lane(LANE)
    for made in jobs_of(await fetch(cursor, 2)):
        record = step(None, made, Leased(1, "w", NOW))
        revision = await store.write(record, 0)
        if made.headers["x-request-id"] == "1":
            await store.write(ended(record, made), revision)
    assert await listed(store, states=("completed",)) == ["1"]
    assert await listed(store, states=("leased",)) == ["2"]
    assert await listed(store, states=("queued", "completed")) == ["4", "3", "1"]
    assert await listed(store, states=("queued",), owner="owner") == ["3"]
    assert await listed(store, owner="nobody") == []


# --- lanes --------------------------------------------------------------------------------------


async def test_a_lane_gives_its_jobs_in_order_to_one_worker_each(open_store: Open) -> None:
    one, two = await open_store(), await open_store()
    made = [job(str(n)) for n in range(4)]
    for each in made:
        await one.submit(each, 5.0)
    first, second = await one.open_lane(LANE), await two.open_lane(LANE)
    held = [*await fetch(first, 2), *await fetch(second, 2)]
    assert jobs_of(held) == made
    assert [each.generation for each in held] == [1, 1, 1, 1]
    assert await nothing_more(first.fetch(1), 0.1)
    for each in held:
        await each.settle()


@pytest.mark.parametrize("lease_s", [1.0])
async def test_a_job_comes_again_with_a_higher_generation(open_store: Open) -> None:
    one, two = await open_store(), await open_store()
    await one.submit(job("1"), 5.0)
    first = await one.open_lane(LANE)
    [held] = await fetch(first, 1)
    await held.give_back()
    [held] = await fetch(first, 1)
    assert held.generation == 2
    [again] = await fetch(await two.open_lane(LANE), 1)  # its lease ran out
    assert (again.generation, again.sequence) == (3, held.sequence)


async def test_lanes_tell_how_many_wait(store: Closable) -> None:
    high, other = LANE._replace(priority="high"), LANE._replace(tenant="b")
    elsewhere = Lane(ServiceName("default", "a"), "normal", "b")
    assert await store.lanes(SERVICE) == {}
    for n, lane in enumerate([LANE, LANE, LANE, high, other, elsewhere]):
        await store.submit(job(str(n), lane=lane), 5.0)
    assert await store.lanes(SERVICE) == {LANE: 3, high: 1, other: 1}
    assert await store.lanes(elsewhere.service) == {elsewhere: 1}
    cursor = await store.open_lane(LANE)
    assert cursor.waiting == 3
    await fetch(cursor, 2)
    assert cursor.waiting == 1
    assert await store.lanes(SERVICE) == {LANE: 1, high: 1, other: 1}


async def test_every_gateway_learns_of_new_lanes(open_store: Open) -> None:
    one, two = await open_store(), await open_store()
    other = LANE._replace(tenant="b")
    await one.submit(job("1"), 5.0)
    told = two.each_lane(SERVICE)
    assert await take(told, 1) == [LANE]
    waiting = asyncio.ensure_future(take(told, 1))
    await one.submit(job("x", lane=LANE._replace(service=ServiceName("a", "c"))), 5.0)
    assert await nothing_more(asyncio.shield(waiting), 0.1)
    await one.submit(job("2", lane=other), 5.0)
    assert await waiting == [other]
    assert await two.lanes(SERVICE) == {LANE: 1, other: 1}


async def test_how_many_are_ahead(store: Closable) -> None:
    other = LANE._replace(tenant="b")
    places = []
    for n in range(10):
        _, seen = await store.submit(job(str(n), lane=other if n % 2 else LANE), 5.0)
        places.append(seen.place)
    assert [await store.ahead(LANE, place) for place in places[::2]] == [0, 1, 2, 3, 4]
    assert [await store.ahead(other, place) for place in places[1::2]] == [0, 1, 2, 3, 4]
    await fetch(await store.open_lane(LANE), 2)
    async with asyncio.timeout(60):
        while [await store.ahead(LANE, place) for place in places[::2]] != [0, 0, 0, 1, 2]:
            await asyncio.sleep(0.1)


async def test_the_oldest_job_that_waits(store: Closable) -> None:
    assert await store.oldest(LANE) is None
    made = [job(str(n)) for n in range(3)]
    places = [(await store.submit(each, 5.0))[1].place for each in made]
    found: list[Waiting | None] = [await store.oldest(LANE, each) for each in (0, *places)]
    assert [each and (each.place, each.job) for each in found] == [
        *zip(places, made, strict=True),
        None,
    ]
    assert found[0] is not None
    assert abs((datetime.now(UTC) - found[0].since).total_seconds()) < 60
    await fetch(await store.open_lane(LANE), 1)
    first = await store.oldest(LANE)
    assert first is not None and first.job == made[1]


async def test_jobs_that_were_given_back_wait_again_while_their_service_is_paused(
    store: Closable,
) -> None:
    made = [job(str(number), body=b"%d" % number) for number in range(70)]
    for each in made:
        await store.submit(each, 5.0)
    places = [(await store.look(each.id)).place for each in made]
    cursor = await store.open_lane(LANE)
    held = await fetch(cursor, 69)
    leased = step(None, made[1], Leased(held[1].generation, "w", NOW))
    await store.write(ended(leased, made[1]), 0)
    await held[1].settle()
    for each in held[2:]:
        await each.give_back()
    await cursor.stop()
    assert await store.lanes(SERVICE) == {LANE: 1}
    await store.pause(SERVICE, True)
    assert await store.lanes(SERVICE) == {LANE: 69}
    assert await store.running(SERVICE) == 0  # the first one waits for a slot
    found, read = await store.returned(LANE)
    while read < places[68]:
        more, read = await store.returned(LANE, read)
        found = [*found, *more]
    assert [(each.place, each.job) for each in found] == [
        (places[number], made[number]) for number in range(69) if number != 1
    ]
    found, end = await store.returned(LANE, read)
    assert (list(found), end) == ([], read)


async def test_a_withdrawn_job_is_given_to_nobody(store: Closable) -> None:
    await store.submit(job("1"), 5.0)
    await store.submit(job("2"), 5.0)
    await store.withdraw(job("1").id)
    cursor = await store.open_lane(LANE)
    assert jobs_of(await fetch(cursor, 1)) == [job("2")]
    assert await nothing_more(cursor.fetch(1), 0.1)
    assert await store.lanes(SERVICE) == {LANE: 0}


async def test_a_paused_service_stays_paused(open_store: Open) -> None:
    store = await open_store()
    other = ServiceName("a.b", "c")
    assert await store.paused() == frozenset()
    await store.pause(SERVICE, True)
    await store.pause(other, True)
    await store.pause(SERVICE, True)
    assert await (await open_store()).paused() == {SERVICE, other}
    await store.pause(SERVICE, False)
    await store.pause(SERVICE, False)
    assert await store.paused() == {other}


# --- what was settled ---------------------------------------------------------------------------


async def test_publishers_get_what_was_settled_once(open_store: Open) -> None:
    one, two = await open_store(), await open_store()
    settled = []
    for key in ("1", "2", "3"):
        made = job(key)
        await one.submit(made, 5.0)
        _, record, revision = await lease(one, made)
        if key != "2":
            settled.append(ended(record, made))
            await one.write(settled[-1], revision)
    first, second = one.settled(), two.settled()
    held = [*await fetch(first, 1), *await fetch(second, 1)]
    assert [unpack_record(each.payload) for each in held] == settled
    assert await nothing_more(first.fetch(1))
    for each in held:
        await each.settle()
    await first.stop()
    await second.stop()


async def test_what_was_published_is_known(store: Closable) -> None:
    made = job("1")
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    settled = await store.write(ended(record, made), revision)
    assert not await store.published(made.id, settled)
    cursor = store.settled()
    [held] = await fetch(cursor, 1)
    assert not await store.published(made.id, settled)
    await held.settle()
    await cursor.confirm()
    async with asyncio.timeout(60):
        while not await store.published(made.id, settled):
            await asyncio.sleep(0.05)


async def test_a_parked_event_comes_when_it_is_due_and_until_then_its_job_is_not_published(
    open_store: Open,
) -> None:
    store, other = await open_store(), await open_store()
    made = job("1")
    revision = 0  # nothing was settled
    assert await store.published(made.id, revision)
    for name, payload in (("a", b"replaced"), ("a", b"first"), ("b", b"second")):
        await store.park(made.id, name, payload)
    assert not await store.published(made.id, revision)
    assert await store.published(id_for("owner", "another"), revision)
    cursor = store.parked()
    held = {each.payload: each for each in await fetch(cursor, 2)}
    assert set(held) == {b"first", b"second"}
    await held[b"first"].put_off(0.3)  # type: ignore[attr-defined]
    await held[b"second"].put_off(3600.0)  # type: ignore[attr-defined]
    assert cursor.waiting == 2
    [again] = await fetch(cursor, 1)
    assert again.payload == b"first"
    assert await nothing_more(fetch(cursor, 1))
    await again.settle()
    await cursor.stop()
    [last] = await fetch(other.parked(), 1)
    assert last.payload == b"second"
    await last.settle()
    async with asyncio.timeout(60):
        while not await store.published(made.id, revision):
            await asyncio.sleep(0.05)


async def test_jobs_that_workers_hold_are_counted(store: Closable) -> None:
    for key in "123":
        await store.submit(job(key), 5.0)
    assert await store.running(SERVICE) == 0
    cursor = await store.open_lane(LANE)
    held = await fetch(cursor, 2)
    assert await store.running(SERVICE) == 2
    assert await store.running(ServiceName("default", "b")) == 0
    await held[0].settle()
    await cursor.confirm()
    async with asyncio.timeout(60):
        while await store.running(SERVICE) != 1:
            await asyncio.sleep(0.05)


async def test_a_tombstone_ends_the_round_that_waits_too(store: Closable) -> None:
    made = job("1")
    await store.submit(made, 5.0)
    _, record, revision = await lease(store, made)
    record = ended(record, made, state="failed")
    revision = await store.write(record, revision)
    seen = await store.look(made.id)
    await store.requeue(replace(made, round=2), seen.place)
    assert (await store.look(made.id)).state == "queued"
    await store.write(step(record, None, Deleted(NOW)), revision)
    seen = await store.look(made.id)
    assert (seen.state, seen.current, seen.job is not None) == ("failed", seen.record, True)
