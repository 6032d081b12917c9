"""A worker of jobs: what it asks, stores and settles, whatever the predictor does."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from relume.eventing.delivery.llm_d import DROPPED_HEADER, DROPS
from relume.eventing.jobs.changes import Changes
from relume.eventing.jobs.job import Limits
from relume.eventing.jobs.packing import DamagedRecord
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Cancelled, Record, step
from relume.eventing.jobs.store import JobTooLarge
from relume.eventing.jobs.testing import MemoryJobs
from tests.eventing.jobs.job_stage import (
    COMPLETION,
    QUESTION,
    STORY,
    JobStage,
    Predictor,
    answers,
    body_of,
    hangs,
    job_of,
    text_of,
    writes,
)

TEXT = "".join(STORY)


async def test_a_job_is_asked_streamed_stored_and_settled() -> None:
    async with Predictor() as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage)))
        chunks, _ = await stage.store.chunks(record.id)
        assert (record.state, record.attempt, record.generation) == ("completed", 1, 1)
        assert text_of(chunks) == TEXT
        assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))
        assert record.position == len(chunks)
        assert record.result is not None and record.result.status == 200
        answer = body_of(record)
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"] == TEXT
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == len(STORY)
        assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (7, len(STORY))
        assert predictor.calls[0].body["stream_options"]["include_usage"] is True


async def test_the_settled_message_is_not_leased_again() -> None:
    async with Predictor() as predictor, JobStage(predictor) as stage:
        await stage.ended(await stage.submit(job_of(stage)))
        await stage.passes(60)
        assert len(predictor.calls) == 1
        assert stage.runner.tally.delivered == 1


@pytest.mark.parametrize("stop_at", range(1, len(STORY)))
@pytest.mark.parametrize("route", ["chat", "completion"])
async def test_the_text_of_an_answer_that_was_cut_anywhere_is_that_of_an_uncut_one(
    stop_at: int, route: str
) -> None:
    script = [writes(STORY, dies_after=stop_at), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        if route == "chat":
            job = job_of(stage)
        else:
            asked = {"prompt": "Say|", "max_tokens": len(STORY)}
            job = job_of(stage, asked, route=COMPLETION)
        job_id = await stage.submit(job)
        await predictor.reached_by(1)
        await stage.shown(job_id, stop_at)
        await stage.passes(2)
        record = await stage.ended(job_id)
        chunks, _ = await stage.store.chunks(job_id)
        assert record.state == "completed"
        assert (record.attempt, len(predictor.calls)) == (2, 2)
        assert text_of(chunks) == TEXT
        assert all(chunk.kind == "data" for chunk in chunks)
        assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))
        assert len({json.loads(chunk.data)["id"] for chunk in chunks}) == 1
        answer = body_of(record)
        said = answer["choices"][0]
        assert (said["message"]["content"] if route == "chat" else said["text"]) == TEXT
        usage = record.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (7, len(STORY))
        assert answer["usage"]["total_tokens"] == 7 + len(STORY)


@pytest.mark.parametrize("killed", [False, True])
async def test_usage_counts_over_both_where_the_predictor_tells_it_only_at_the_end(
    killed: bool,
) -> None:
    gate = asyncio.Event()
    first = {"pause_after": 4, "gate": gate} if killed else {"dies_after": 4}
    script = [writes(STORY, counts=False, **first), writes(STORY, counts=False)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.shown(job_id, 5)
        if killed:
            await stage.kill()
        async with stage.again() as other:
            await other.passes(12)
            record = await other.ended(job_id)
            assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (7, len(STORY))
            assert text_of((await other.store.chunks(job_id))[0]) == TEXT


async def test_white_space_that_a_chat_template_cuts_off_is_shown_once() -> None:
    stop_at = STORY.index("\n\n") + 1
    script = [writes(STORY, dies_after=stop_at), writes(STORY, trims=True)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.shown(job_id, stop_at)
        await stage.passes(2)
        record = await stage.ended(job_id)
        assert text_of((await stage.store.chunks(job_id))[0]) == TEXT
        assert body_of(record)["choices"][0]["message"]["content"] == TEXT
        assert "prompt_text" not in body_of(record)


async def test_the_limit_of_tokens_counts_over_all_attempts() -> None:
    script = [writes(STORY, dies_after=3), writes(STORY, dies_after=2), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, {**QUESTION, "max_completion_tokens": 7}))
        await stage.passes(10)
        record = await stage.ended(job_id)
        limits = [call.body["max_completion_tokens"] for call in predictor.calls]
        assert limits == [7, 4, 2]
        answer = body_of(record)["choices"][0]
        assert answer["message"]["content"] == "".join(STORY[:7])
        assert answer["finish_reason"] == "length"
        assert record.usage.completion_tokens == 7


async def test_an_answer_that_lacks_only_its_end_is_not_asked_for_again() -> None:
    script = [writes(STORY[:5], dies_after=5), answers(500, {})]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage)))
        assert (record.state, len(predictor.calls)) == ("completed", 1)
        assert body_of(record)["choices"][0]["message"]["content"] == "".join(STORY[:5])
        assert record.usage.completion_tokens == 5


TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    "field",
    [{"tools": TOOLS}, {"response_format": {"type": "json_object"}}, {"logprobs": True}],
    ids=["tools", "structured output", "logprobs"],
)
async def test_a_request_that_cannot_go_on_says_so_and_begins_again(
    field: dict[str, object],
) -> None:
    script = [writes(STORY, dies_after=3), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, {**QUESTION, **field}))
        await stage.shown(job_id, 4)
        await stage.passes(2)
        record = await stage.ended(job_id)
        chunks, _ = await stage.store.chunks(job_id)
        assert [chunk.data for chunk in chunks if chunk.kind == "restarted"] == [b"2"]
        assert text_of(chunks) == TEXT
        assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))
        assert predictor.calls[1].body["messages"] == QUESTION["messages"]
        assert body_of(record)["choices"][0]["message"]["content"] == TEXT
        assert record.usage.completion_tokens == len(STORY)


async def test_a_predictor_that_does_not_take_the_text_so_far_begins_again_at_once() -> None:
    refusal = answers(400, {"error": {"message": "continue_final_message is not for me"}})
    script = [writes(STORY, dies_after=3), refusal, writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(max_attempts=2)))
        await stage.shown(job_id, 4)
        await stage.passes(2)
        record = await stage.ended(job_id)
        assert (record.state, record.attempt, len(predictor.calls)) == ("completed", 2, 3)
        chunks, _ = await stage.store.chunks(job_id)
        assert text_of(chunks) == TEXT
        assert sum(chunk.kind == "restarted" for chunk in chunks) == 1


async def test_an_answer_that_broke_before_its_first_token_begins_again_unseen() -> None:
    async with Predictor(writes([]), writes(STORY)) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.shown(job_id, 1)
        await stage.passes(2)
        record = await stage.ended(job_id)
        chunks, _ = await stage.store.chunks(job_id)
        assert record.attempt == 2
        assert [chunk.kind for chunk in chunks] == ["data"] * (len(STORY) + 1)
        roles = [json.loads(chunk.data)["choices"][0]["delta"].get("role") for chunk in chunks]
        assert roles == ["assistant"] + [None] * len(STORY)


@pytest.mark.parametrize("wants_usage", [False, True])
async def test_a_stream_has_a_part_with_the_usage_alone_only_where_it_was_asked_for(
    wants_usage: bool,
) -> None:
    asked = {**QUESTION, "stream": True, "stream_options": {"include_usage": wants_usage}}
    async with Predictor() as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage, asked)))
        chunks, _ = await stage.store.chunks(record.id)
        parts = [json.loads(chunk.data) for chunk in chunks]
        assert [not part["choices"] for part in parts].count(True) == wants_usage
        assert parts[-1]["usage"]["completion_tokens"] == len(STORY)
        assert all("usage" not in part for part in parts[:-1])


async def test_a_refused_request_fails_with_the_answer_of_the_predictor() -> None:
    refusal = {"error": {"message": "the model does not exist", "code": 404}}
    async with Predictor(answers(404, refusal)) as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage)))
        assert (record.state, record.reason, record.attempt) == ("failed", "rejected", 1)
        assert record.result is not None and record.result.status == 404
        assert body_of(record) == refusal


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_a_predictor_that_is_not_ready_is_asked_again(status: int) -> None:
    script = [answers(status), answers(status), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        await stage.passes(5)
        record = await stage.ended(job_id)
        assert (record.state, record.attempt) == ("completed", 3)


async def test_a_count_that_cannot_be_is_left_to_the_predictor_to_refuse() -> None:
    said = {"error": {"message": "n must be at least 1"}}
    async with Predictor(answers(400, said)) as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage, {**QUESTION, "n": -1})))
        assert (record.state, record.result and record.result.status) == ("failed", 400)


async def test_retry_after_is_heeded() -> None:
    script = [answers(429, None, **{"Retry-After": "40"}), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        await stage.passes(38)
        assert len(predictor.calls) == 1
        await stage.passes(6)
        assert (await stage.ended(job_id)).state == "completed"


async def test_attempts_that_are_used_up_make_a_dead_job() -> None:
    async with Predictor(answers(503, {"error": "no"})) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(max_attempts=2)))
        await predictor.reached_by(1)
        await stage.passes(5)
        record = await stage.ended(job_id)
        assert (record.state, record.reason) == ("dead", "retries-exhausted")
        assert record.attempt == len(predictor.calls) == 2
        assert record.result is not None and record.result.status == 503


@pytest.mark.parametrize("reason", [name for name, drop in DROPS.items() if drop.free_after_s])
async def test_a_rejection_by_the_router_of_llm_d_uses_up_no_attempt(reason: str) -> None:
    dropped = answers(503, {"error": reason}, **{DROPPED_HEADER: reason})
    script = [dropped, dropped, dropped, writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(max_attempts=1)))
        await predictor.reached_by(1)
        await stage.passes(16)
        record = await stage.ended(job_id)
        assert (record.state, record.attempt, len(predictor.calls)) == ("completed", 1, 4)


async def test_an_eviction_by_the_router_of_llm_d_is_an_attempt() -> None:
    evicted = answers(429, {"error": "evicted"}, **{DROPPED_HEADER: "evicted"})
    async with Predictor(evicted) as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage, limits=Limits(max_attempts=1))))
        assert (record.state, record.reason, len(predictor.calls)) == (
            "dead",
            "retries-exhausted",
            1,
        )


async def test_a_pool_that_stays_empty_ends_a_job_by_its_start_clock_and_says_why() -> None:
    reason = "rejected-no-endpoints"
    empty = answers(503, {"error": "empty"}, **{DROPPED_HEADER: reason})
    async with Predictor(empty) as predictor, JobStage(predictor) as stage:
        limits = Limits(start_s=12, max_attempts=2)
        job_id = await stage.submit(job_of(stage, limits=limits))
        await predictor.reached_by(1)
        await stage.passes(11)
        record = await stage.ended(job_id)
        assert (record.state, record.reason, record.attempt) == ("expired", "start", 1)
        assert record.detail == f"the time to start is over: the router: {reason}"
        assert len(predictor.calls) == 3  # after 0, 5 and 10 s


async def test_a_job_that_is_cancelled_while_a_pool_is_asleep_is_asked_for_no_more() -> None:
    asleep = answers(503, {"error": "empty"}, **{DROPPED_HEADER: "rejected-no-endpoints"})
    async with Predictor(asleep, writes(STORY)) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        await stage.passes(2)
        await Changes(stage.store, stage.clock).cancel(job_id, "")
        await stage.passes(10)
        assert len(predictor.calls) == 1
        assert stage.dispatcher.in_flight == 0


async def test_one_attempt_means_that_nothing_is_tried_again() -> None:
    async with Predictor(writes(STORY, dies_after=2)) as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage, limits=Limits(max_attempts=1))))
        assert (record.state, len(predictor.calls)) == ("dead", 1)
        assert text_of((await stage.store.chunks(record.id))[0]) == "Once upon"
        assert record.usage.completion_tokens == 2


@pytest.mark.parametrize(
    "code, state, calls", [(400, "failed", 1), (500, "dead", 2)], ids=["refused", "its own fault"]
)
async def test_an_error_in_the_middle_of_a_stream(code: int, state: str, calls: int) -> None:
    error = b'data: {"error": {"message": "boom", "code": %d}}\n\ndata: [DONE]\n\n' % code
    script = [writes(STORY, dies_after=2, extra=error)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(
            job_of(stage, {**QUESTION, "logprobs": True}, limits=Limits(max_attempts=2))
        )
        await predictor.reached_by(1)
        await stage.passes(3)
        record = await stage.ended(job_id)
        assert (record.state, len(predictor.calls)) == (state, calls)
        assert "boom" in record.detail


async def test_a_stream_that_ends_without_done_is_a_failed_attempt() -> None:
    async def ends_early(call: object) -> object:
        part = {"id": "x", "choices": [{"index": 0, "delta": {"content": "Once"}}]}
        text = f"data: {json.dumps(part)}\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    async with Predictor(ends_early, writes(STORY)) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        await stage.passes(3)
        record = await stage.ended(job_id)
        assert (record.state, record.attempt) == ("completed", 2)
        assert text_of((await stage.store.chunks(job_id))[0]) == TEXT


@pytest.mark.parametrize(
    "part",
    [
        {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "abort"}]},
        {"choices": [{"delta": {}}]},
        {"choices": ["x"]},
        {"choices": [], "usage": 3},
        {"no": "choices"},
        ["x"],
    ],
    ids=["abort", "no index", "no choice", "no usage", "no choices", "no part"],
)
async def test_a_part_that_is_none_fails_the_attempt_and_is_not_shown(part: object) -> None:
    broken = b"data: " + json.dumps(part).encode() + b"\n\n"
    script = [writes(STORY, dies_after=3, extra=broken), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.shown(job_id, 4)
        await stage.passes(2)
        record = await stage.ended(job_id)
        assert (record.state, record.attempt) == ("completed", 2)
        assert text_of((await stage.store.chunks(job_id))[0]) == TEXT


async def test_the_start_clock_ends_a_job_whose_predictor_does_not_begin() -> None:
    async with Predictor(hangs) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(start_s=30)))
        await predictor.reached_by(1)
        await stage.passes(29)
        assert predictor.running == 1
        await stage.passes(2)
        record = await stage.ended(job_id)
        assert (record.state, record.reason, record.started) == ("expired", "start", True)
        async with asyncio.timeout(60):
            while not predictor.abandoned:
                await asyncio.sleep(0.01)
        assert predictor.abandoned == 1


async def test_a_predictor_that_is_away_for_minutes_uses_up_no_attempt() -> None:
    predictor = Predictor()
    async with predictor:
        pass  # now the port is known, and nobody listens there
    async with JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(max_attempts=1)))
        await stage.passes(300, steps=150)
        assert (await stage.store.look(job_id)).state == "leased"
        async with predictor:
            await stage.passes(8)
            record = await stage.ended(job_id)
        assert (record.state, record.attempt, len(predictor.calls)) == ("completed", 1, 1)


async def test_the_start_clock_ends_a_job_whose_predictor_never_comes_and_says_why() -> None:
    predictor = Predictor()
    async with predictor:
        pass
    async with JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(start_s=30)))
        await stage.passes(31, steps=60)
        record = await stage.ended(job_id)
        assert (record.state, record.reason, record.attempt) == ("expired", "start", 1)
        assert "the time to start is over: Cannot connect to host 127.0.0.1" in record.detail


async def test_a_job_that_waits_for_a_predictor_can_be_cancelled() -> None:
    predictor = Predictor()
    async with predictor:
        pass
    async with JobStage(predictor) as stage:
        job = job_of(stage)
        await stage.submit(job)
        await stage.passes(5)
        seen = await stage.store.look(job.id)
        now = Cancelled(stage.clock.now(), position=0)
        await stage.store.write(step(seen.record, job, now), seen.revision)
        await stage.passes(60)
        assert (await stage.store.look(job.id)).state == "cancelled"
        assert stage.dispatcher.in_flight == 0


async def test_a_cold_start_does_not_eat_the_time_of_the_run() -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def starts_slowly(call: object) -> object:
        await started.wait()
        told = {"Relume-Cold-Start-Ms": "25000"}
        return await writes(STORY, pause_after=2, gate=gate, headers=told)(call)

    async with Predictor(starts_slowly) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(start_s=30, run_s=10)))
        await predictor.reached_by(1)
        await stage.passes(25)
        started.set()
        await stage.shown(job_id, 3)
        await stage.passes(9)
        gate.set()
        record = await stage.ended(job_id)
        assert record.state == "completed"
        assert record.usage.cold_start_ms == 25_000
        assert record.usage.run_ms == 9_000


async def test_an_answer_that_comes_as_a_whole_has_run_since_it_had_a_replica() -> None:
    """Its headers come when it is complete, and the plane says in them how long it had to wait."""
    gate = asyncio.Event()

    async def whole(call: object) -> object:
        await gate.wait()
        return await answers(200, COMPLETION, **{"Relume-Queue-Ms": "4000"})(call)  # type: ignore[arg-type]

    async with Predictor(whole) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        await stage.passes(10)
        gate.set()
        record = await stage.ended(job_id)
        assert (record.state, record.usage.run_ms) == ("completed", 6_000)


async def test_a_predictor_that_was_away_has_run_since_it_took_the_request() -> None:
    predictor = Predictor(answers(200, COMPLETION, **{"Relume-Queue-Ms": "0"}))
    async with predictor:
        pass  # now the port is known, and nobody listens there
    async with JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.passes(60, steps=60)
        async with predictor:
            await stage.passes(8)
            record = await stage.ended(job_id)
        assert record.state == "completed"
        assert record.usage.run_ms < 8_000


async def test_the_run_clock_ends_a_job_and_keeps_what_was_stored() -> None:
    gate = asyncio.Event()
    async with (
        Predictor(writes(STORY, pause_after=3, gate=gate)) as predictor,
        JobStage(predictor) as stage,
    ):
        job_id = await stage.submit(job_of(stage, limits=Limits(run_s=10)))
        await stage.shown(job_id, 4)
        await stage.passes(11)
        record = await stage.ended(job_id)
        assert (record.state, record.reason) == ("expired", "run")
        assert text_of((await stage.store.chunks(job_id))[0]) == "Once upon a"
        assert (record.position, record.usage.completion_tokens) == (4, 3)


async def test_a_job_that_waited_too_long_is_never_asked() -> None:
    gate = asyncio.Event()
    async with (
        Predictor(writes(STORY, pause_after=1, gate=gate)) as predictor,
        JobStage(predictor, slots=1) as stage,
    ):
        first = await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        second = await stage.submit(job_of(stage, name="2", limits=Limits(queue_s=20)))
        await stage.passes(21)
        record = await stage.ended(second)
        assert (record.state, record.reason, record.started) == ("expired", "queue", False)
        gate.set()
        assert (await stage.ended(first)).state == "completed"
        assert len(predictor.calls) == 1


async def test_queue_time_is_told() -> None:
    gate = asyncio.Event()
    async with (
        Predictor(writes(STORY, pause_after=1, gate=gate), writes(STORY)) as predictor,
        JobStage(predictor, slots=1) as stage,
    ):
        await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        second = await stage.submit(job_of(stage, name="2"))
        await stage.passes(12)
        gate.set()
        assert (await stage.ended(second)).usage.queue_ms == 12_000


async def test_a_cancelled_job_is_no_longer_asked_for_and_its_message_is_settled() -> None:
    gate = asyncio.Event()
    async with (
        Predictor(writes(STORY, pause_after=3, gate=gate)) as predictor,
        JobStage(predictor) as stage,
    ):
        job = job_of(stage)
        await stage.submit(job)
        await stage.shown(job.id, 4)
        seen = await stage.store.look(job.id)
        now = Cancelled(stage.clock.now(), position=4)
        await stage.store.write(step(seen.record, job, now), seen.revision)
        async with asyncio.timeout(60):
            while not predictor.abandoned:
                await asyncio.sleep(0.01)
        await stage.passes(60)
        assert len(predictor.calls) == 1
        assert (await stage.store.look(job.id)).state == "cancelled"
        assert stage.dispatcher.in_flight == 0


async def test_a_request_ends_when_its_record_cannot_be_watched_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, damaged = asyncio.Event(), asyncio.Event()
    async with (
        Predictor(writes(STORY, pause_after=3, gate=gate)) as predictor,
        JobStage(predictor) as stage,
    ):

        async def watch(job_id: str) -> AsyncIterator[Record]:
            await damaged.wait()
            raise DamagedRecord("the stored record is damaged")
            yield step(None, job, Cancelled(stage.clock.now()))

        job = job_of(stage)
        monkeypatch.setattr(stage.store, "watch", watch)
        await stage.submit(job)
        await stage.shown(job.id, 4)
        monkeypatch.undo()
        damaged.set()
        record = await stage.ended(job.id)
        assert (record.state, record.reason) == ("dead", "internal")
        assert "damaged" in record.detail
        async with asyncio.timeout(60):
            while not predictor.abandoned:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("cut", [1, 4, len(STORY) + 1])
async def test_another_worker_goes_on_where_one_was_killed(cut: int) -> None:
    gate = asyncio.Event()
    script = [writes(STORY, pause_after=min(cut, len(STORY)), gate=gate), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.shown(job_id, min(cut, len(STORY)))
        await stage.kill()
        async with stage.again() as other:
            await other.passes(12)
            record = await other.ended(job_id)
            chunks, _ = await other.store.chunks(job_id)
            assert (record.state, record.generation, record.worker) == ("completed", 2, "w2")
            assert text_of(chunks) == TEXT
            assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))
            usage = record.usage
            assert (usage.prompt_tokens, usage.completion_tokens) == (7, len(STORY))


async def test_a_job_whose_last_attempt_was_cut_with_its_worker_is_dead() -> None:
    async with Predictor(hangs) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage, limits=Limits(max_attempts=1)))
        await predictor.reached_by(1)
        await stage.kill()
        async with stage.again() as other:
            await other.passes(12)
            record = await other.ended(job_id)
            assert (record.state, record.attempt, len(predictor.calls)) == ("dead", 1, 1)


async def test_a_worker_that_was_paused_past_its_lease_writes_nothing() -> None:
    gate = asyncio.Event()
    script = [writes(STORY, pause_after=3, gate=gate), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(job_of(stage))
        await stage.shown(job_id, 4)
        for flight in stage.dispatcher._flights.values():
            flight.leased.extend = nothing  # type: ignore[method-assign]
        stage.dispatcher._cursor.fetch = forever  # type: ignore[method-assign]
        stage.dispatcher._fetching.cancel()  # type: ignore[union-attr]
        async with stage.again() as other:
            await other.passes(12)
            record = await other.ended(job_id)
            before = await other.store.chunks(job_id)
            gate.set()
            await other.passes(5)
            assert await other.store.chunks(job_id) == before
            assert (await other.store.look(job_id)).record == record
            assert record.worker == "w2"
            assert text_of(before[0]) == TEXT
            assert stage.runner.tally.delivered == 0


async def test_draining_lets_a_running_job_end_and_gives_back_what_has_not_begun() -> None:
    gate = asyncio.Event()
    script = [writes(STORY, pause_after=2, gate=gate), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor, slots=1) as stage:
        first = await stage.submit(job_of(stage))
        await stage.shown(first, 3)
        second = await stage.submit(job_of(stage, name="2"))
        await stage.passes(1)
        stopping = asyncio.create_task(stage.stop(60))
        await asyncio.sleep(0.02)
        gate.set()
        await stopping
        record = await stage.ended(first)
        assert (record.state, len(predictor.calls)) == ("completed", 1)
        async with stage.again() as other:
            assert (await other.ended(second)).worker == "w2"


async def test_a_job_that_waits_for_its_next_attempt_is_given_back_when_draining() -> None:
    async with (
        Predictor(answers(500), writes(STORY)) as predictor,
        JobStage(predictor) as stage,
    ):
        job_id = await stage.submit(job_of(stage))
        await predictor.reached_by(1)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(60):
            await stage.stop(1000)
        async with stage.again() as other:
            record = await other.ended(job_id)
            assert (record.state, record.attempt, record.generation) == ("completed", 2, 2)


async def test_a_retried_job_begins_again_behind_what_was_shown() -> None:
    script = [writes(STORY, dies_after=3), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job = job_of(stage, limits=Limits(max_attempts=1))
        await stage.submit(job)
        dead = await stage.ended(job.id)
        assert dead.state == "dead"
        seen = await stage.store.look(job.id)
        await stage.store.requeue(replace(job, round=2), seen.place)
        async with asyncio.timeout(60):
            while (record := (await stage.store.look(job.id)).record) is None or record.round < 2:
                await asyncio.sleep(0.01)
        record = await stage.ended(job.id)
        chunks, _ = await stage.store.chunks(job.id)
        assert (record.state, record.round) == ("completed", 2)
        restarts = [chunk.position for chunk in chunks if chunk.kind == "restarted"]
        assert restarts == [dead.position + 2]  # behind the end that readers were told
        assert text_of(chunks) == TEXT


@pytest.mark.parametrize("counts", [True, False])
async def test_a_job_that_is_cancelled_while_it_streams_has_the_usage_of_what_is_stored(
    counts: bool,
) -> None:
    gate = asyncio.Event()
    dies = writes(STORY, dies_after=2, counts=counts)
    waits = writes(STORY, pause_after=3, gate=gate, counts=counts)
    async with Predictor(dies, waits) as predictor, JobStage(predictor) as stage:
        job = job_of(stage)
        await stage.clock.advance(2)
        await stage.submit(job)
        await predictor.reached_by(1)
        await stage.passes(3)
        await stage.shown(job.id, 1 + 2 + 3)
        await Changes(stage.store, stage.clock).cancel(job.id, "")
        record = (await stage.store.look(job.id)).record
        assert record is not None and record.state == "cancelled"
        assert record.usage.completion_tokens == 5
        assert record.usage.prompt_tokens == (7 if counts else 0)
        assert record.usage.queue_ms == 2000


async def test_parts_that_a_cancelled_worker_stores_late_are_none_of_the_next_round() -> None:
    gate = asyncio.Event()
    script = [writes(STORY, pause_after=4, gate=gate), writes(STORY)]
    async with Predictor(*script) as predictor, JobStage(predictor) as stage:
        job = job_of(stage)
        await stage.submit(job)
        await stage.shown(job.id, 5)
        seen = await stage.store.look(job.id)
        # Whoever cancelled has read only the first part: the others were on their way.
        record = step(seen.record, job, Cancelled(stage.clock.now(), position=1))
        await stage.store.write(record, seen.revision)
        await stage.store.requeue(replace(job, round=2), seen.place)
        async with asyncio.timeout(60):
            while (found := (await stage.store.look(job.id)).record) is None or found.round < 2:
                await asyncio.sleep(0.01)
        again = await stage.ended(job.id)
        chunks, _ = await stage.store.chunks(job.id)
        assert (again.state, again.round) == ("completed", 2)
        assert predictor.calls[1].body["messages"] == QUESTION["messages"]
        assert [chunk.kind for chunk in chunks].index("restarted") == 5
        assert text_of(chunks) == TEXT


async def test_a_large_answer_and_a_large_request_lie_in_the_object_store() -> None:
    settings_body = {"data": "x" * 3_000_000}
    async with Predictor(answers(200, settings_body)) as predictor, JobStage(predictor) as stage:

        async def parts() -> object:
            yield b'{"input": "'
            yield b"y" * 2_000_000 + b'"}'

        job = job_of(stage, route="/v1/embeddings", body=b"")
        reference = await stage.store.put_payload(job.id, "body", parts())
        await stage.submit(replace(job, payload=reference))
        record = await stage.ended(job.id)
        assert len(predictor.calls[0].raw) > 2_000_000
        assert record.result is not None and record.result.payload is not None
        stored = [part async for part in stage.store.payload(record.result.payload)]
        assert json.loads(b"".join(stored)) == settings_body
        assert record.result.body == b""


async def test_a_stream_without_an_end_is_given_up_at_the_limit() -> None:
    async def goes_on(call: Any) -> Any:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(call.http)
        part = {"id": "x", "choices": [{"index": 0, "delta": {"content": "x" * 1000}}]}
        while True:
            await response.write(b"data: " + json.dumps(part).encode() + b"\n\n")

    settings = JobSettings(max_body_bytes=100_000)
    async with Predictor(goes_on) as predictor, JobStage(predictor, settings=settings) as stage:
        record = await stage.ended(await stage.submit(job_of(stage)))
        assert (record.state, record.reason) == ("failed", "answer-too-large")
        assert len(predictor.calls) == 1


async def test_a_predictor_is_not_read_faster_than_its_parts_are_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = asyncio.Event()
    append = MemoryJobs.append

    async def slow(*arguments: Any, **more: Any) -> int:
        await stored.wait()
        return await append(*arguments, **more)

    written = 0

    async def writes_much(call: Any) -> Any:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(call.http)
        for number in range(2000):
            text = {"delta": {"content": "x" * 10_000}}
            ending = {"finish_reason": "stop" if number == 1999 else None}
            part = {"id": "x", "choices": [{"index": 0, **text, **ending}]}
            await response.write(b"data: " + json.dumps(part).encode() + b"\n\n")
            written += 1
        await response.write(b"data: [DONE]\n\n")
        return response

    monkeypatch.setattr(MemoryJobs, "append", slow)
    settings = JobSettings(unstored_bytes=500_000)
    async with Predictor(writes_much) as predictor, JobStage(predictor, settings=settings) as stage:
        job_id = await stage.submit(job_of(stage))
        await asyncio.sleep(0.5)
        # What the sockets hold comes on top of the bound.
        assert written < 1500
        stored.set()
        record = await stage.ended(job_id)
        assert record.state == "completed"
        chunks, _ = await stage.store.chunks(job_id)
        assert len(chunks) == 2000


async def test_an_answer_at_once_is_stored_as_it_is_with_its_usage() -> None:
    body = {"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    async with Predictor(answers(200, body)) as predictor, JobStage(predictor) as stage:
        job = job_of(stage, {"model": "m", "input": "x"}, route="/v1/embeddings")
        record = await stage.ended(await stage.submit(job))
        assert body_of(record) == body
        assert predictor.calls[0].body == {"model": "m", "input": "x"}
        assert (record.usage.prompt_tokens, record.position) == (9, 0)


async def test_our_own_mistake_makes_a_dead_job_and_not_an_endless_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("relume.eventing.jobs.retries.decide_routed", broken)
    async with Predictor(answers(500)) as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(job_of(stage)))
        assert (record.state, record.reason) == ("dead", "internal")
        assert "a bug" in record.detail


async def test_a_job_whose_record_never_allows_an_attempt_is_dead_after_a_few_leases() -> None:
    async with Predictor() as predictor, JobStage(predictor) as stage:
        job = job_of(stage, limits=Limits(max_attempts=0))
        await stage.submit(job)
        await stage.passes(15)
        assert (await stage.store.look(job.id)).record is None
        await stage.passes(10)
        seen = await stage.store.look(job.id)
        assert seen.record is not None
        assert (seen.record.state, seen.record.reason) == ("dead", "job-conflict")
        assert "it has no more" in seen.record.detail
        assert (seen.record.started, predictor.calls) == (False, [])
        await stage.passes(60)
        assert (await stage.store.look(job.id)).revision == seen.revision
        assert stage.dispatcher.in_flight == stage.dispatcher.waiting == 0


async def test_a_job_that_cannot_even_be_given_up_does_not_end_the_work_on_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Predictor(writes(STORY)) as predictor, JobStage(predictor) as stage:
        poison, good = job_of(stage, name="1"), job_of(stage, name="2")
        write = stage.store.write

        async def refuses(record: Record, revision: int) -> int:
            if record.id == poison.id:
                raise JobTooLarge("the record does not fit one message")
            return await write(record, revision)

        stage.store.write = refuses  # type: ignore[method-assign]
        await stage.submit(poison)
        await stage.submit(good)
        assert (await stage.ended(good.id)).state == "completed"
        await stage.passes(1)
        assert not stage.running.done()
        assert (await stage.store.look(poison.id)).state == "queued"
        assert "cannot be settled" in caplog.text


async def nothing() -> None:
    return None


async def forever(limit: int) -> list[object]:
    await asyncio.Event().wait()
    return []
