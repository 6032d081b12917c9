"""Jobs that came as events: posted as events, answered by exactly one event, whatever happens."""

import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode
from relume.eventing.jobs.job import Job, Limits
from relume.eventing.jobs.payloads import stored_reply
from relume.eventing.jobs.state import Record
from tests.eventing.jobs.job_stage import Call, JobStage, Predictor, answers, hangs, job_of

REQUEST = {
    "specversion": "1.0",
    "id": "q1",
    "source": "/shop",
    "type": "com.example.question",
    "datacontenttype": "application/json",
    "correlationid": "c7",
}
ASK = {"messages": [{"role": "user", "content": "Hi"}]}


def event_job(stage: JobStage, **more: Any) -> Job:
    return replace(job_of(stage, ASK, **more), event=REQUEST, reply_to="default/broker")


def replying(kind: str, data: object, status: int = 200) -> Any:
    async def step(call: Call) -> web.StreamResponse:
        reply = CloudEvent.create(
            {"id": "r1", "source": "/m", "type": kind, "datacontenttype": "application/json"},
            json.dumps(data).encode(),
        )
        headers, body = encode(reply, Mode.BINARY)
        return web.Response(status=status, headers=dict(headers), body=body)

    return step


def reply_in(record: Record) -> CloudEvent:
    reply = stored_reply(record, lambda job_id: f"http://gateway/v1/jobs/{job_id}/result")
    assert reply is not None
    return reply


async def test_the_predictor_gets_the_event_and_its_reply_is_settled_with_the_job() -> None:
    data = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 6}}
    async with (
        Predictor(replying("relume.inference.response", data)) as predictor,
        JobStage(predictor) as stage,
    ):
        record = await stage.ended(await stage.submit(event_job(stage)))
        [call] = predictor.calls
        assert call.http.headers["ce-id"] == "q1"
        assert call.http.headers["ce-correlationid"] == "c7"
        assert call.http.headers["prefer"] == "reply"
        assert call.body == ASK
        assert record.state == "completed"
        assert reply_in(record).id == "r1"
        assert json.loads(reply_in(record).data or b"") == data
        assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (4, 6)
        assert record.result is not None
        assert json.loads(record.result.body) == data
        assert record.result.content_type == "application/json"


async def test_an_error_event_is_the_reply_of_a_failed_job() -> None:
    data = {"error": {"message": "too long"}, "reason": "context-too-long", "retryable": False}
    async with (
        Predictor(replying("relume.inference.error", data)) as predictor,
        JobStage(predictor) as stage,
    ):
        record = await stage.ended(await stage.submit(event_job(stage)))
        assert (record.state, record.reason) == ("failed", "context-too-long")
        assert record.detail == "too long"
        assert reply_in(record).id == "r1"


@pytest.mark.parametrize(
    "step, limits, state, reason",
    [
        (answers(503), Limits(max_attempts=2), "dead", "retries-exhausted"),
        (answers(400, {"error": "x"}), Limits(), "failed", "rejected"),
        (hangs, Limits(start_s=1, run_s=1), "expired", "run"),
        (answers(200, {"no": "event"}), Limits(), "dead", "not-an-event"),
    ],
    ids=["dead", "failed", "expired", "no event"],
)
async def test_a_job_without_an_answer_has_no_reply_of_its_predictor(
    step: Any, limits: Limits, state: str, reason: str
) -> None:
    async with Predictor(step) as predictor, JobStage(predictor) as stage:
        job_id = await stage.submit(event_job(stage, limits=limits))
        await predictor.reached_by(1)
        await stage.passes(5)
        record = await stage.ended(job_id)
        assert (record.state, record.reason) == (state, reason)
        # The outbox makes the error event of the record.
        assert (record.reply, record.event) == (None, REQUEST)


async def test_an_event_that_is_answered_with_nothing_is_done() -> None:
    async def empty(call: Call) -> web.StreamResponse:
        return web.Response(status=200)

    async with Predictor(empty) as predictor, JobStage(predictor) as stage:
        record = await stage.ended(await stage.submit(event_job(stage)))
        assert (record.state, record.reply) == ("completed", None)


async def test_the_data_of_a_large_reply_lies_in_the_object_store() -> None:
    data = {"text": "x" * 2_000_000}
    async with (
        Predictor(replying("relume.inference.response", data)) as predictor,
        JobStage(predictor) as stage,
    ):
        record = await stage.ended(await stage.submit(event_job(stage)))
        assert record.result is not None and record.result.payload is not None
        body = b"".join([part async for part in stage.store.payload(record.result.payload)])
        assert json.loads(body) == data
        reply = reply_in(record)
        assert (reply.id, reply.data) == ("r1", None)
        assert str(reply.attributes["dataref"]).endswith(f"/v1/jobs/{record.id}/result")
