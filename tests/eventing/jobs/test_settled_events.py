"""The events of a settled job, made of its record alone."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from relume.base.testing import VirtualClock
from relume.cloudevents import json_format
from relume.cloudevents.event import CloudEvent
from relume.eventing.answer_event import ERROR_REASONS, reply_id
from relume.eventing.jobs.job import Job, Limits, ServiceName
from relume.eventing.jobs.packing import pack_record, unpack_record
from relume.eventing.jobs.payloads import in_parts, request_event, stow, whole_body
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.settled_events import reply_event, usage_event
from relume.eventing.jobs.state import SETTLED, Record, Result, Settled, Usage
from relume.eventing.jobs.testing import MemoryJobs
from relume.eventing.registry.documents import schema_file, structured_schema
from relume.eventing.registry.events import ERROR_KIND, SCHEMA_NAMES, USAGE_KIND
from tests.cloud_events import events

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "ask", "subject": "s"}
RESPONSE = CloudEvent.create(
    {"id": reply_id("/shop", "1"), "source": "/namespaces/default/inferenceservices/chat"}
    | {"type": "relume.inference.response", "datacontenttype": "application/json"},
    b'{"choices": []}',
)


def record(state: Settled = "completed", **more: Any) -> Record:
    settled = Record(
        id="job_a",
        service=ServiceName("default", "chat"),
        route="/v1/chat/completions",
        tenant="/shop",
        owner="",
        priority="normal",
        digest="d",
        accepted_at=NOW,
        state=state,
        attempt=1,
        settled_at=NOW + timedelta(seconds=2),
        usage=Usage(5, 9, 1, 10, 400, 30),
        event=REQUEST,
        reply_to="default/b",
    )
    return replace(settled, **more)


def result_url(job_id: str) -> str:
    return f"https://gateway.example/v1/jobs/{job_id}/result"


def valid(kind: Any, event: CloudEvent) -> None:
    """Raise unless the event is what the registry says of its kind."""
    resources = [
        (f"{each}.json", Resource.from_contents(schema_file(each))) for each in SCHEMA_NAMES
    ]
    registry: Registry[Any] = Registry().with_resources(resources)
    schema = structured_schema(kind, {"$ref": f"{kind.schema}.json"})
    whole = {**event.attributes, "data": json.loads(event.data or b"null")}
    Draft202012Validator(schema, registry=registry).validate(whole)


def job(**more: Any) -> Job:
    known = record()
    made = Job(
        known.id,
        known.service,
        known.route,
        "/shop",
        "",
        "normal",
        Limits(),
        NOW,
        "d",
        event=REQUEST,
    )
    return replace(made, **more)


@pytest.mark.parametrize("state", SETTLED)
def test_the_usage_of_every_end_is_as_the_registry_says(state: Settled) -> None:
    event = usage_event(record(state, reason="queue" if state == "expired" else ""))
    valid(USAGE_KIND, event)
    data = json.loads(event.data or b"")
    assert (data["state"], data["attempts"], data["billable"]) == (state, 1, True)
    assert (data["prompttokens"], data["completiontokens"], data["cachedtokens"]) == (5, 9, 1)
    assert (data["queuems"], data["coldstartms"], data["runms"]) == (10, 400, 30)
    assert (event.subject, event.attributes["causationid"]) == ("job_a", "1")
    assert event.time == "2026-01-01T00:00:02.000Z"


def test_a_job_that_never_started_is_not_billable() -> None:
    data = json.loads(usage_event(record("expired", attempt=0, event=None)).data or b"")
    assert data["billable"] is False


def test_each_round_has_one_usage_event() -> None:
    first, again = usage_event(record()), usage_event(unpack_record(pack_record(record())))
    assert first == again
    assert usage_event(record(round=2)).id != first.id
    # A deleted job has cost what it has cost.
    deleted = replace(record(), deleted=True, event=None, result=None)
    assert usage_event(deleted).id == first.id


@pytest.mark.parametrize(
    ("settled", "reason", "words"),
    [
        (record("expired", reason="queue"), "expired", "queue"),
        (record("expired", reason="start"), "expired", "begin"),
        (record("expired", reason="run"), "expired", "too long"),
        (record("cancelled", detail="by hand"), "cancelled", "by hand"),
        (record("dead", attempt=5, detail="status 500"), "retries-exhausted", "5 attempts: status"),
        (record("failed"), "failed", "did not answer with an event"),
        (
            record("failed", result=Result(422, "application/json", b'{"error":"x","reason":"y"}')),
            "failed",
            "x",
        ),
        (
            record(
                "failed",
                result=Result(
                    413,
                    "application/json",
                    b'{"error":{"message":"long"},"reason":"context-too-long"}',
                ),
            ),
            "context-too-long",
            "long",
        ),
        (record("failed", result=Result(500, "text/html", b"<html>")), "failed", "event"),
        (record("failed", result=Result(400, "application/json", b"[1]")), "failed", "event"),
    ],
)
def test_a_job_without_an_answer_is_answered_with_the_reason(
    settled: Record, reason: str, words: str
) -> None:
    event = reply_event(settled, result_url)
    assert event is not None
    valid(ERROR_KIND, event)
    data = json.loads(event.data or b"")
    assert (data["reason"], data["retryable"]) == (reason, False)
    assert words in data["error"]["message"]
    assert (event.id, event.subject) == (reply_id("/shop", "1"), "s")
    assert (event.attributes["queuems"], event.attributes["coldstartms"]) == (10, 400)
    assert event == reply_event(settled, result_url)


def test_the_reasons_are_those_of_the_schema() -> None:
    assert tuple(schema_file("error")["properties"]["reason"]["enum"]) == ERROR_REASONS  # type: ignore[index]


def test_other_jobs_and_deleted_ones_and_an_empty_answer_have_no_reply() -> None:
    assert reply_event(record("completed", result=Result(200, "text/plain")), result_url) is None
    assert reply_event(record(event=None), result_url) is None
    assert reply_event(record(deleted=True), result_url) is None


async def stowed(reply: CloudEvent, limit: int) -> tuple[MemoryJobs, Record]:
    store = MemoryJobs(JobSettings(), VirtualClock())
    body, payload = await stow(store, job().id, "reply.1", in_parts(reply.data or b""), limit)
    result = Result(200, reply.datacontenttype or "application/json", body, payload)
    head = json_format.dump_event(CloudEvent(reply.attributes, None))
    return store, record(result=result, reply=head)


async def test_the_reply_of_the_predictor_is_published_as_it_is() -> None:
    _, settled = await stowed(RESPONSE, 1000)
    assert reply_event(settled, result_url) == RESPONSE
    assert settled.result == Result(200, "application/json", b'{"choices": []}')


@given(events())
async def test_any_reply_survives_the_record(event: CloudEvent) -> None:
    _, settled = await stowed(event, 10)
    assert settled.result is not None
    published = reply_event(unpack_record(pack_record(settled)), result_url)
    assert published is not None
    if len(event.data or b"") <= 10:
        assert published.attributes == event.attributes
        assert (published.data or b"") == (event.data or b"")
    else:
        assert published.data is None
        assert published.attributes["dataref"] == result_url("job_a")


async def test_a_long_reply_says_where_its_data_lies() -> None:
    store, settled = await stowed(RESPONSE, 5)
    event = reply_event(settled, result_url)
    assert event is not None
    assert event.data is None
    assert event.attributes["dataref"] == "https://gateway.example/v1/jobs/job_a/result"
    assert (event.id, event.type) == (RESPONSE.id, RESPONSE.type)
    assert settled.result is not None and settled.result.payload is not None
    parts = [part async for part in store.payload(settled.result.payload)]
    assert b"".join(parts) == RESPONSE.data


async def test_a_reply_that_was_stored_whole_is_taken_too() -> None:
    whole = json.dumps({**RESPONSE.attributes, "data": {"choices": []}}).encode()
    event = reply_event(record(reply=whole, result=Result(200, "x", b"y")), result_url)
    assert event is not None
    assert json.loads(event.data or b"") == {"choices": []}


@given(st.lists(st.binary(max_size=8), max_size=8), st.integers(0, 40))
async def test_a_body_is_stowed_whole(parts: list[bytes], limit: int) -> None:
    store, whole = MemoryJobs(JobSettings(), VirtualClock()), b"".join(parts)

    async def data() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    body, payload = await stow(store, "job_a", "request", data(), limit)
    assert (payload is None) == (len(whole) <= limit)
    assert await whole_body(store, job(body=body, payload=payload)) == whole


async def test_an_event_without_data_goes_to_the_predictor_without() -> None:
    event = request_event(job(), b"")
    assert (event.data, event.datacontenttype) == (None, None)
    body, payload = await stow(
        MemoryJobs(JobSettings(), VirtualClock()), "job_a", "request", in_parts(b""), 0
    )
    assert (body, payload) == (b"", None)
