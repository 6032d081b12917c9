"""Parts of an answer are stored at once for a reader, and together where nobody reads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from relume.base.testing import VirtualClock, settle
from relume.eventing.jobs.chunk_log import ChunkLog
from relume.eventing.jobs.readers import BELIEVED_S, SAID_AGAIN_S, Reader, Readers
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.testing import MemoryJobs

SETTINGS = JobSettings(unread_hold_s=0.5, unread_hold_parts=8, unstored_bytes=1000)


class Stage:
    """An answer that is written, and how its parts were stored: so many in each message."""

    def __init__(self, settings: JobSettings = SETTINGS) -> None:
        self.clock = VirtualClock()
        self.store = MemoryJobs(settings, self.clock)
        self.log = ChunkLog(self.store, "job_1", 1, 60.0, self.clock, settings)

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        async with self.log.writing():
            await settle()
            yield

    async def put(self, *parts: bytes) -> None:
        for part in parts:
            self.log.put([part])
            await settle()

    def stored(self) -> list[int]:
        return [len(together) for _, together in self.store._chunks["job_1"]]


async def test_the_first_part_is_stored_at_once_and_the_next_ones_together() -> None:
    stage = Stage()
    async with stage.writing():
        await stage.put(b"a", b"b", b"c")
        assert stage.stored() == [1]
        await stage.clock.advance(0.4)
        await stage.put(b"d")
        assert stage.stored() == [1]
        await stage.clock.advance(0.1)
        assert stage.stored() == [1, 3]


async def test_a_part_after_a_silence_does_not_wait() -> None:
    stage = Stage()
    async with stage.writing():
        await stage.put(b"a")
        await stage.clock.advance(0.5)
        await stage.put(b"b")
        assert stage.stored() == [1, 1]


async def test_no_more_parts_or_bytes_wait_than_the_settings_say() -> None:
    stage = Stage()
    async with stage.writing():
        await stage.put(*[b"x"] * 9)
        assert stage.stored() == [1, 8]
        await stage.put(b"y" * 400, b"y" * 600)
        assert stage.stored() == [1, 8, 2]


async def test_a_reader_gets_what_waits_and_then_each_part_as_it_comes() -> None:
    stage = Stage()
    async with stage.writing():
        await stage.put(b"a", b"b", b"c")
        followed = stage.store.follow("job_1")
        assert [(await anext(followed)).data for _ in range(3)] == [b"a", b"b", b"c"]
        await stage.put(b"d", b"e")
        assert stage.stored() == [1, 2, 1, 1]
        await followed.aclose()  # type: ignore[attr-defined]


async def test_a_reader_that_has_left_is_forgotten() -> None:
    stage = Stage()
    async with stage.writing():
        stage.store.readers.heard("job_1")
        await stage.put(b"a", b"b")
        assert stage.stored() == [1, 1]
        await stage.clock.advance(BELIEVED_S)
        await stage.put(b"c", b"d", b"e")
        assert stage.stored() == [1, 1, 1]


async def test_the_end_of_an_answer_waits_for_nothing() -> None:
    stage = Stage()
    async with stage.writing():
        await stage.put(b"a", b"b", b"c")
        await stage.log.flush()
        assert stage.stored() == [1, 2]


async def test_with_a_hold_of_zero_each_part_is_stored_as_it_comes() -> None:
    stage = Stage(replace(SETTINGS, unread_hold_s=0.0))
    async with stage.writing():
        await stage.put(b"a", b"b", b"c")
        assert stage.stored() == [1, 1, 1]


@contextlib.asynccontextmanager
async def paused(
    stage: Stage, parts: int = 1, then: Sequence[bytes] = ()
) -> AsyncIterator["asyncio.Task[None]"]:
    """An answer with a part every 0.1 s, whose reading pauses after its second one.

    `parts` have come with that one, and `then` is what has come when the pause is over.
    """

    async def read_on() -> None:
        if pause_s := stage.log.pause_s(parts, parts):
            await stage.log.pause(pause_s)
        stage.log.put(then)

    ended = stage.log.begins()
    await stage.put(b"a")
    await stage.clock.advance(0.1)
    await stage.put(b"b")
    pause = asyncio.create_task(read_on())
    await settle()
    try:
        yield pause
    finally:
        ended()
        await pause


async def test_an_answer_that_nobody_reads_is_read_again_when_its_parts_are_stored() -> None:
    stage = Stage()
    async with stage.writing(), paused(stage) as pause:
        await stage.clock.advance(0.39)
        assert not pause.done() and stage.stored() == [1]
        await stage.clock.advance(0.01)
        assert pause.done() and stage.stored() == [1, 1]


async def test_what_came_during_a_pause_is_stored_with_what_came_before() -> None:
    stage = Stage()
    async with stage.writing(), paused(stage, then=[b"c", b"d"]):
        await stage.clock.advance(0.4)
        assert stage.stored() == [1, 3]


async def test_a_reader_and_the_end_of_the_answer_end_a_pause() -> None:
    for what in ("reader", "end"):
        stage = Stage()
        async with stage.writing(), paused(stage) as pause:
            assert not pause.done()
            if what == "reader":
                stage.store.readers.heard("job_1")
                await settle()
                assert pause.done()
        # Leaving the block has ended the answer, on a clock that stands still.
        assert pause.done()
        assert stage.log.pause_s(1, 1) == 0


async def test_an_answer_that_comes_fast_is_read_before_it_is_more_than_one_append() -> None:
    stage = Stage()
    async with stage.writing(), paused(stage, parts=4) as pause:
        await stage.clock.advance(0.19)
        assert not pause.done()
        await stage.clock.advance(0.01)  # 4 in 0.1 s: 8 are one append
        assert pause.done() and stage.stored() == [1]


def test_a_reader_says_again_that_it_reads_for_a_new_worker_and_after_a_while() -> None:
    now = 0.0
    reader = Reader(lambda: now)
    assert [reader.is_due(each) for each in (1, 1, 2, 2)] == [True, False, True, False]
    now = SAID_AGAIN_S
    assert [reader.is_due(each) for each in (2, 2)] == [True, False]


def test_words_reach_the_newest_worker_of_an_answer_in_this_process_and_no_other() -> None:
    readers, told = Readers(), list[str]()
    with readers.of("1", lambda: told.append("old")):
        with readers.of("1", lambda: told.append("new")):
            readers.heard("1")
            readers.heard("2")
        readers.heard("1")
    assert told == ["new"]
