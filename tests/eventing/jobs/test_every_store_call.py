"""Every call of the store by a worker may fail, lose its answer, or be the worker's last one."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest

from relume.eventing.event_log import LeaseLost, StoreUnavailable
from relume.eventing.jobs.job import Limits
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import Chunk, Seen
from relume.eventing.jobs.testing import MemoryJobs
from tests.eventing.jobs.job_stage import (
    STORY,
    JobStage,
    Predictor,
    body_of,
    job_of,
    text_of,
    writes,
)

TEXT = "".join(STORY)
Fault = Literal["fails", "loses its answer", "ends before", "ends after"]


class FaultyJobs(MemoryJobs):
    """A store whose call number `at` (from 1) of a worker has a fault."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.at = 0
        self.fault: Fault = "fails"
        self.calls = 0
        self.reached = asyncio.Event()

    async def look(self, job_id: str) -> Seen:
        return await self._call(super().look(job_id))

    async def write(self, record: Record, revision: int) -> int:
        return await self._call(super().write(record, revision))

    async def chunks(self, job_id: str, after: int = 0) -> tuple[Sequence[Chunk], int]:
        return await self._call(super().chunks(job_id, after))

    async def append(
        self, job_id: str, chunks: Sequence[Chunk], after: int, *, lasts_s: float | None = None
    ) -> int:
        return await self._call(super().append(job_id, chunks, after, lasts_s=lasts_s))

    async def put_payload(
        self, job_id: str, name: str, data: AsyncIterator[bytes], *, lasts_s: float | None = None
    ) -> str:
        return await self._call(super().put_payload(job_id, name, data, lasts_s=lasts_s))

    async def _call(self, call: Any) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return await call
        self.reached.set()
        if self.fault in ("fails", "ends before"):
            call.close()
        else:
            await call
        if self.fault.startswith("ends"):
            await asyncio.Event().wait()
        raise StoreUnavailable("nats-server is being started again")


def faulty_stage(predictor: Predictor, at: int, fault: Fault) -> tuple[JobStage, FaultyJobs]:
    settings = JobSettings(result_inline_bytes=64)  # the answer goes to the object store
    stage = JobStage(predictor, settings=settings)
    stage.store = store = FaultyJobs(settings, stage.clock)
    store.at, store.fault = at, fault
    return stage, store


async def until_settled(stage: JobStage, job_id: str) -> Record:
    for _ in range(200):
        await stage.passes(0.5, steps=1)
        seen = stage.store._seen(job_id)
        if seen.record is not None and seen.record.settled:
            return seen.record
    raise AssertionError("the job is not settled")


async def check(store: FaultyJobs, record: Record, predictor: Predictor) -> None:
    store.at = 0
    chunks, _ = await store.chunks(record.id)
    assert record.state == "completed"
    assert text_of(chunks) == TEXT
    assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert record.position == len(chunks)
    assert record.usage.completion_tokens == len(STORY)
    assert record.result is not None and record.result.payload is not None
    body = b"".join([part async for part in store.payload(record.result.payload)])
    assert json.loads(body)["choices"][0]["message"]["content"] == TEXT
    assert not any(chunk.kind == "restarted" for chunk in chunks)
    assert record.attempt == len(predictor.calls)


SCRIPT = [writes(STORY, dies_after=4), writes(STORY)]
# So many calls of the store a worker makes for the script at least: the count is held below.
CALLS = 9


@pytest.mark.parametrize("fault", ["fails", "loses its answer"])
@pytest.mark.parametrize("at", range(1, CALLS + 5))
async def test_a_store_that_fails_once_changes_nothing(at: int, fault: Fault) -> None:
    async with Predictor(*SCRIPT) as predictor:
        stage, store = faulty_stage(predictor, at, fault)
        async with stage:
            job_id = await stage.submit(job_of(stage))
            record = await until_settled(stage, job_id)
            assert store.reached.is_set() or at > CALLS
            await check(store, record, predictor)


@pytest.mark.parametrize("fault", ["ends before", "ends after"])
@pytest.mark.parametrize("at", range(1, CALLS + 5))
async def test_a_worker_that_is_killed_at_any_call_of_the_store_is_taken_over(
    at: int, fault: Fault
) -> None:
    async with Predictor(*SCRIPT) as predictor:
        stage, store = faulty_stage(predictor, at, fault)
        async with stage:
            job_id = await stage.submit(job_of(stage, limits=Limits(max_attempts=20)))
            for _ in range(200):
                await stage.passes(0.5, steps=1)
                seen = store._seen(job_id).record
                if store.reached.is_set() or (seen is not None and seen.settled):
                    break
            await stage.kill()
            assert store.reached.is_set() or at > CALLS
            async with stage.again() as other:
                await other.passes(12)
                record = await until_settled(other, job_id)
                await other.passes(12)  # a settled message is not worked on again
                store.at = 0
                chunks, _ = await store.chunks(job_id)
                assert record.state == "completed"
                assert text_of(chunks) == TEXT
                assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))
                assert record.usage.completion_tokens == len(STORY)
                assert store._seen(job_id).record == record


async def test_a_part_that_the_worker_before_stored_late_is_gone_on_from() -> None:
    gate = asyncio.Event()
    script = [writes(STORY, pause_after=2, gate=gate), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.shown(job_id, 3)
        chunks, place = await stage.store.chunks(job_id)
        await stage.kill()
        read = stage.store.chunks

        async def reads_before_the_zombie_writes(
            job_id: str, after: int = 0
        ) -> tuple[Sequence[Chunk], int]:
            stage.store.chunks = read  # type: ignore[method-assign]
            found = await read(job_id, after)
            late = json.loads(chunks[-1].data)
            late["choices"][0]["delta"]["content"] = STORY[2]
            late["relume_tokens"] = [7, 3]
            late_chunk = replace(chunks[-1], position=4, data=json.dumps(late).encode())
            await stage.store.append(job_id, [late_chunk], place)
            return found

        stage.store.chunks = reads_before_the_zombie_writes  # type: ignore[method-assign]
        async with stage.again() as other:
            await other.passes(14)
            record = await other.ended(job_id)
            chunks, _ = await other.store.chunks(job_id)
            assert (record.state, record.worker) == ("completed", "w2")
            assert text_of(chunks) == TEXT
            assert record.usage.completion_tokens == len(STORY)
            assert body_of(record)["choices"][0]["message"]["content"] == TEXT


async def test_what_another_worker_appended_ends_this_one() -> None:
    gate = asyncio.Event()
    script = [writes(STORY, pause_after=2, gate=gate), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job = job_of(stage)
        await stage.submit(job)
        await stage.shown(job.id, 3)

        async def refuses(*arguments: object, **more: object) -> int:
            raise LeaseLost("somebody else has appended")

        seen = await stage.store.look(job.id)
        assert seen.record is not None
        stage.store.append = refuses  # type: ignore[method-assign]
        stage.store.watch = never  # type: ignore[method-assign]
        newer = replace(seen.record, generation=9, worker="w9")
        await stage.store.write(newer, seen.revision)
        gate.set()
        async with asyncio.timeout(60):
            while stage.dispatcher._flights:
                await asyncio.sleep(0.01)
        record = (await stage.store.look(job.id)).record
        assert record is not None and (record.state, record.worker) == (newer.state, "w9")


async def never(job_id: str) -> AsyncIterator[Record]:
    await asyncio.Event().wait()
    return
    yield
