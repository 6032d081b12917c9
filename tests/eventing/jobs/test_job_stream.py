"""The stream of an answer: every position once, from wherever a client goes on, and one end."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.base.testing import VirtualClock, settle
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.outlook import Outlook
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Attempted, Cancelled, Leased, QueueExpired
from relume.eventing.jobs.store import Chunk, NoSuchJob, Seen
from relume.eventing.jobs.stream import BadPosition, StreamSettings, position_of
from relume.eventing.jobs.testing import MemoryJobs
from tests.eventing.jobs.door_stage import Call, Stage

Event = tuple[str, int, str]  # its name, its id, its data


def events(text: str) -> list[Event]:
    """The events of a stream, read as a browser reads them; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if "data" in fields:
            name = fields.get("event", ["message"])[-1]
            found.append((name, int(fields["id"][-1]), "\n".join(fields["data"])))
    return found


def comments(text: str) -> list[str]:
    return re.findall(r"^: (.*)$", text, re.MULTILINE)


async def attach(stage: Stage, job_id: str, query: str = "", last: str | None = None) -> Call:
    headers = {} if last is None else {"last-event-id": last}
    call = stage.begin("GET", f"/v1/jobs/{job_id}/events{query}", headers)
    await settle()
    return call


def nothing_is_left(stage: Stage) -> bool:
    watches = stage.watches
    open_ = stage.api.streams.open + watches.count + len(watches._ending)
    return open_ == 0 and stage.clock.sleeping == []


async def test_an_answer_is_streamed_as_it_comes_and_ends_with_the_job() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    await stage.streaming(job_id)
    await stage.append(job_id, '{"a":1}', '{"a":2}')
    assert events(call.text) == [("message", 1, '{"a":1}'), ("message", 2, '{"a":2}')]
    await stage.append(job_id, "[DONE]")
    await stage.ends(job_id, position=3)
    answer = await call.answer()
    assert answer.status == 200 and call.complete
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers
    *parts, (name, id_, data) = events(call.text)
    assert [id_ for _, id_, _ in parts] == [1, 2, 3]
    assert (name, id_) == ("completed", 4)
    told = (await stage.ask("GET", f"/v1/jobs/{job_id}")).json
    assert json.loads(data) == told
    assert nothing_is_left(stage)


@pytest.mark.parametrize("state", ["completed", "failed", "dead", "expired"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 50])
async def test_a_stream_of_a_settled_job_gives_what_is_missing_and_the_end(
    state: Any, after: int
) -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a", "b")
    await stage.ends(job_id, state, position=2)
    call = await attach(stage, job_id, f"?starting_after={after}")
    await call.task
    found = events(call.text)
    assert [id_ for _, id_, _ in found] == [*range(after + 1, 3), 3]
    assert found[-1][0] == state and comments(call.text) == []
    assert nothing_is_left(stage)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 50])
async def test_a_cancelled_job_has_the_same_positions(after: int) -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a", "b")
    assert (await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")).status == 200
    await stage.append(job_id, "stored before the worker noticed")
    call = await attach(stage, job_id, f"?starting_after={after}")
    await call.task
    assert [id_ for _, id_, _ in events(call.text)] == [*range(after + 1, 3), 3]
    assert events(call.text)[-1][0] == "cancelled"


async def test_the_end_comes_behind_what_a_reader_was_shown_of_a_cancelled_job() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    call = await attach(stage, job_id)
    await stage.append(job_id, "a", "b")
    await stage.happens(job_id, Cancelled(stage.clock.now(), position=1))
    await call.task
    assert [id_ for _, id_, _ in events(call.text)] == [1, 2, 3]


async def test_a_position_beyond_the_end_of_a_running_job_waits_for_it() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a", "b")
    call = await attach(stage, job_id, "?starting_after=3")
    assert events(call.text) == []
    await stage.append(job_id, "c", "d")
    assert events(call.text) == [("message", 4, "d")]
    await stage.ends(job_id, position=4)
    await call.task
    assert events(call.text)[-1][:2] == ("completed", 5)


async def test_a_job_that_never_started_ends_at_position_one() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    await stage.happens(job_id, QueueExpired(stage.clock.now()))
    await call.task
    name, id_, data = events(call.text)[-1]
    assert (name, id_, json.loads(data)["reason"]) == ("expired", 1, "queue")


async def test_an_answer_that_begins_again_says_so_at_a_position_of_its_own() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a", "restarted 2", "b")
    call = await attach(stage, job_id)
    assert events(call.text)[1] == ("restarted", 2, '{"attempt":2}')
    assert "event: restarted\nid: 2\n" in call.text
    call.leave()
    await call.task


async def test_data_of_several_lines_stays_one_event() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a\nevent: completed\r\nb\rc\n\nid: 9")
    call = await attach(stage, job_id)
    assert events(call.text) == [("message", 1, "a\nevent: completed\nb\nc\n\nid: 9")]
    call.leave()
    await call.task


# Where a client goes on.


@pytest.mark.parametrize(
    ("header", "query", "position"),
    [(None, None, 0), ("", "", 0), ("5", None, 5), (None, "7", 7), ("9", "7", 9), ("", "7", 7)],
)
def test_both_ways_to_name_a_position_mean_the_same(
    header: str | None, query: str | None, position: int
) -> None:
    assert position_of(header, query) == position


@given(st.text(min_size=1, max_size=30))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    try:
        assert position_of(None, text) == position_of(text, None) == int(text)
    except BadPosition as refused:
        assert "write the number" in str(refused)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "٣", "1e3", " 1", "9" * 5000])
async def test_what_is_no_position_is_refused(text: str) -> None:
    stage = Stage()
    job_id = await stage.submitted()
    by_query = await stage.ask("GET", f"/v1/jobs/{job_id}/events?starting_after={text}")
    assert (by_query.status, by_query.json["reason"]) == (400, "bad-position")
    assert by_query.json["error"].startswith("starting_after: ")
    if text.isascii():
        headers = {"last-event-id": text}
        by_header = await stage.ask("GET", f"/v1/jobs/{job_id}/events", headers)
        assert by_header.status == 400 and by_header.json["error"].startswith("Last-Event-ID: ")


@given(st.data())
def test_a_stream_that_is_cut_anywhere_misses_and_repeats_nothing(data: st.DataObject) -> None:
    """The client, or the process with all of its streams, is gone after any number of events."""

    async def run() -> None:
        stage = Stage()
        job_id = await stage.submitted()
        await stage.streaming(job_id)
        shown: list[Event] = []
        last = "0"
        written = 0
        call = await attach(stage, job_id)
        for _ in range(data.draw(st.integers(1, 6))):
            texts = [f"t{written + n}" for n in range(data.draw(st.integers(0, 4)))]
            if texts:
                await stage.append(job_id, *texts)
            written += len(texts)
            if data.draw(st.booleans()):
                kept = data.draw(st.integers(0, len(events(call.text))))
                shown += events(call.text)[:kept]
                call.leave()
                await call.task
                if data.draw(st.booleans()):
                    stage = another_process(stage)
                last = str(shown[-1][1]) if shown else "0"
                by_header = data.draw(st.booleans())
                query = "" if by_header else f"?starting_after={last}"
                call = await attach(stage, job_id, query, last if by_header else None)
        await stage.ends(job_id, position=written)
        await call.task
        shown += events(call.text)
        assert [text for _, _, text in shown[:-1]] == [f"t{n}" for n in range(written)]
        assert [id_ for _, id_, _ in shown] == list(range(1, written + 2))
        assert shown[-1][0] == "completed" and nothing_is_left(stage)

    asyncio.run(run())


def another_process(stage: Stage) -> Stage:
    """A gateway beside, or after, the first one: it has the store and nothing else of it."""
    other = Stage(store=stage.store)
    other.clock = stage.clock
    return other


async def test_a_retried_job_is_streamed_to_the_end_of_its_new_round() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a")
    await stage.ends(job_id, "failed", position=1)
    await stage.ask("POST", f"/v1/jobs/{job_id}/retry")
    call = await attach(stage, job_id)
    assert events(call.text) == [("message", 1, "a")] and not call.complete
    assert comments(call.text) == ["queued position=1"]
    await stage.streaming(job_id)
    await stage.append(job_id, "restarted 1", "b")
    await stage.ends(job_id, position=3)
    await call.task
    assert [id_ for _, id_, _ in events(call.text)] == [1, 2, 3, 4]
    assert events(call.text)[-1][0] == "completed"


# Comments.


async def test_a_waiting_client_is_told_what_happens_at_once_and_every_five_seconds() -> None:
    phases: list[str | None] = [""]
    left_s: list[float | None] = [None]
    outlook = Outlook(
        starts_in=lambda service, ahead: 12.0 * (ahead + 1),
        phase=lambda service: phases[0] if service == ServiceName("default", "m") else None,
        ready_in_s=lambda service: left_s[0],
    )
    stage = Stage(outlook=outlook)
    first, job_id = await stage.submitted(), await stage.submitted()
    call = await attach(stage, job_id)
    expected = ["queued position=2 starts_in=24s"]
    assert comments(call.text) == expected
    await stage.clock.advance(4.9)
    assert comments(call.text) == expected
    await stage.store.withdraw(first)
    await stage.clock.advance(0.1)
    expected.append("queued position=1 starts_in=12s")
    assert comments(call.text) == expected
    await stage.happens(job_id, Leased(1, "w", stage.clock.now()), Attempted(1))
    expected.append("starting")
    assert comments(call.text) == expected
    phases[0], left_s[0] = "import", 8.4
    await stage.clock.advance(5)
    expected.append("starting phase=import starts_in=8s")
    assert comments(call.text) == expected
    phases[0], left_s[0] = "weights", None
    await stage.clock.advance(5)
    expected.append("starting phase=weights")
    assert comments(call.text) == expected
    await stage.append(job_id, "a")
    await stage.clock.advance(4)
    await stage.append(job_id, "b")
    await stage.clock.advance(4)
    assert comments(call.text) == expected  # the parts of the answer are signs of life enough
    await stage.clock.advance(1)
    assert len(comments(call.text)) == len(expected) + 1
    call.leave()
    await call.task
    assert nothing_is_left(stage)


async def test_a_program_that_knows_nothing_of_its_services_says_what_it_knows() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    await stage.leased(job_id)
    assert comments(call.text) == ["queued position=1", "starting"]
    call.leave()
    await call.task


async def test_a_job_that_is_forgotten_before_it_settles_ends_its_stream() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    await stage.store.withdraw(job_id)
    await stage.clock.advance(5)
    await call.task
    name, id_, data = events(call.text)[-1]
    assert (name, id_, json.loads(data)["reason"]) == ("expired", 1, "gone")


async def test_a_deleted_job_ends_its_stream_at_once() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a")
    await stage.ends(job_id, position=1)
    await stage.ask("DELETE", f"/v1/jobs/{job_id}")
    call = await attach(stage, job_id)
    await call.task
    (name, id_, data) = events(call.text)[0]
    assert (name, id_, json.loads(data)["deleted"]) == ("completed", 2, True)


async def test_parts_that_are_gone_do_not_hold_the_end_back() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a", "b")
    await stage.ends(job_id, position=2)
    await stage.store.forget(job_id)
    call = await attach(stage, job_id)
    assert not call.complete
    await stage.clock.advance(1)
    await call.task
    assert [each[:2] for each in events(call.text)] == [("completed", 3)]
    assert nothing_is_left(stage)


# Readers.


async def test_a_client_that_leaves_frees_everything() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    assert stage.api.streams.open == 1 and stage.watches.count == 1
    call.leave()
    await call.task
    await settle()
    assert nothing_is_left(stage) and not call.complete


class Counting(MemoryJobs):
    """A store that counts who follows and who watches."""

    def __init__(self) -> None:
        super().__init__(JobSettings(), VirtualClock())
        self.follows = self.watching = self.read = 0
        self.away = 0

    async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Chunk]:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        self.follows += 1
        try:
            async for chunk in super().follow(job_id, after):
                self.read += 1
                yield chunk
        finally:
            self.follows -= 1

    async def watch(self, job_id: str) -> AsyncIterator[Any]:
        self.watching += 1
        try:
            async for record in super().watch(job_id):
                yield record
        finally:
            self.watching -= 1


async def test_many_streams_of_one_job_cost_one_follow_each_and_one_watch_together() -> None:
    store = Counting()
    stage = Stage(store=store)
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    calls = [await attach(stage, job_id) for _ in range(64)]
    assert (store.follows, store.watching) == (64, 1)
    await stage.append(job_id, "a")
    for call in calls[:32]:
        call.leave()
        await call.task
    await settle()
    assert (store.follows, store.watching) == (32, 1)
    await stage.ends(job_id, position=1)
    for call in calls[32:]:
        await call.task
        assert [id_ for _, id_, _ in events(call.text)] == [1, 2]
    await settle()
    assert (store.follows, store.watching) == (0, 0) and nothing_is_left(stage)


async def test_a_reader_that_stops_reading_holds_one_part_and_is_given_up() -> None:
    store = Counting()
    stage = Stage(store=store)
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    call = await attach(stage, job_id)
    call.reading.clear()
    for number in range(100):
        await stage.append(job_id, f"t{number}")
    assert store.read == 1  # the rest waits in the store
    await stage.clock.advance(59)
    assert not call.task.done()
    await stage.clock.advance(6)
    assert call.task.done() and not call.complete
    assert store.follows == 0 and nothing_is_left(stage)


async def test_a_slow_reader_gets_everything() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    call = await attach(stage, job_id)
    for number in range(30):
        call.reading.clear()
        await stage.append(job_id, f"t{number}")
        await stage.clock.advance(40)
        call.reading.set()
        await settle()
    await stage.ends(job_id, position=30)
    await call.task
    assert [id_ for _, id_, _ in events(call.text)] == list(range(1, 32))


async def test_there_is_a_bound_for_open_streams_and_a_place_is_free_again() -> None:
    stage = Stage(streams=StreamSettings(most=2))
    job_id = await stage.submitted()
    calls = [await attach(stage, job_id) for _ in range(2)]
    refused = await stage.ask("GET", f"/v1/jobs/{job_id}/events")
    assert (refused.status, refused.json["reason"]) == (503, "too-many-streams")
    assert refused.headers["retry-after"] == "5"
    calls[0].leave()
    await calls[0].task
    again = await attach(stage, job_id)
    assert again.sent[0]["status"] == 200
    for call in (again, calls[1]):
        call.leave()
        await call.task


async def test_one_caller_does_not_take_the_places_of_the_others() -> None:
    stage = Stage(streams=StreamSettings(most=6, most_each=2))
    job_id = await stage.submitted()  # everybody's
    open_ = []
    for owner in ("alice", "bob"):
        stage.state = {"owner": owner}
        open_ += [await attach(stage, job_id) for _ in range(2)]
        refused = await stage.ask("GET", f"/v1/jobs/{job_id}/events")
        assert (refused.status, refused.json["reason"]) == (429, "too-many-streams")
        assert refused.headers["retry-after"] == "5"
    open_[-1].leave()
    await open_[-1].task
    open_.append(await attach(stage, job_id))
    stage.state = {}  # who is not known has no bound but that of all
    open_ += [await attach(stage, job_id) for _ in range(2)]
    refused = await stage.ask("GET", f"/v1/jobs/{job_id}/events")
    assert refused.status == 503
    for call in open_:
        call.leave()
        await call.task
    assert stage.api.streams.open == 0


async def test_a_store_that_goes_away_for_a_while_loses_no_part() -> None:
    store = Counting()
    stage = Stage(store=store)
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a")
    store.away = 3
    call = await attach(stage, job_id)
    await stage.clock.advance(3)
    await stage.append(job_id, "b")
    await stage.ends(job_id, position=2)
    await call.task
    assert [id_ for _, id_, _ in events(call.text)] == [1, 2, 3]


async def test_a_part_that_the_store_gives_twice_is_shown_once() -> None:
    class Repeating(Counting):
        async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Chunk]:
            async for chunk in super().follow(job_id, after):
                yield chunk
                yield chunk

    stage = Stage(store=Repeating())
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "a", "b")
    await stage.ends(job_id, position=2)
    call = await attach(stage, job_id)
    await call.task
    assert [id_ for _, id_, _ in events(call.text)] == [1, 2, 3]


async def test_a_look_that_fails_changes_nothing() -> None:
    class Away(Counting):
        errors: int = 0

        async def look(self, job_id: str) -> Seen:
            if self.errors:
                raise StoreUnavailable("away")
            return await super().look(job_id)

    store = Away()
    stage = Stage(store=store)
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    store.errors = 1
    await stage.clock.advance(5)
    assert comments(call.text) == ["queued position=1"] * 2
    call.leave()
    await call.task


async def test_streams_end_without_a_terminal_event_when_the_process_stops() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    stage.watches.close()
    await call.task
    assert call.complete and events(call.text) == []
    await settle()
    assert nothing_is_left(stage)


async def test_a_watch_that_misses_the_end_is_made_up_for_by_a_look() -> None:
    class Deaf(Counting):
        async def watch(self, job_id: str) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

    store = Deaf()
    stage = Stage(store=store)
    job_id = await stage.submitted()
    call = await attach(stage, job_id)
    await stage.streaming(job_id)
    await stage.append(job_id, "a")
    await stage.ends(job_id, position=1)
    assert not call.complete
    await stage.clock.advance(5)
    await call.task
    assert [id_ for _, id_, _ in events(call.text)] == [1, 2]


async def test_a_head_request_opens_no_stream() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    answer = await stage.ask("HEAD", f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"] == "text/event-stream" and stage.api.streams.open == 0


async def test_a_stream_holds_no_body_of_its_request() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    stream = stage.api.streams.of(await stage.store.look(job_id), 0)
    await stream._look()
    assert stream._seen.job is not None and stream._seen.job.body == b""
    with pytest.raises(NoSuchJob):
        stage.api.streams.of(Seen(None, 0, None, 0), 0)
