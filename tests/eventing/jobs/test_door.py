"""The door: a request that prefers an asynchronous answer becomes a job, durably, once."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.base.testing import VirtualClock, settle
from relume.eventing.event_log import DiskFull, StoreUnavailable
from relume.eventing.jobs.answers import refused
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.job import Job, Limits, digest_of, id_for
from relume.eventing.jobs.settings import JobSettings, lifetime_s
from relume.eventing.jobs.state import Cancelled, Deleted, Record, Result
from relume.eventing.jobs.store import JobTooLarge, NoSuchJob, Seen
from relume.eventing.jobs.testing import MemoryJobs
from tests.eventing.jobs.door_stage import ANSWER, ASYNC, BODY, CHAT, SERVICE, Answer, Stage

JSON = {"content-type": "application/json"}
KEYED = {"idempotency-key": "k"}
OTHER = json.dumps({"model": "m", "messages": []}).encode()
AUDIO = "/serving/default/m/v1/audio/transcriptions"


def keyed(key: str = "k", **more: str) -> dict[str, str]:
    return {"idempotency-key": key, **more}


async def stored(stage: Stage, job_id: str) -> Job:
    job = (await stage.store.look(job_id)).job
    assert job is not None
    return job


def count(stage: Stage) -> int:
    return len(stage.store._work)


async def test_a_request_becomes_a_job_and_the_answer_says_where_it_is() -> None:
    stage = Stage()
    answer = await stage.post({"traceparent": "00-1", "authorization": "Bearer s3cret"})
    job_id = answer.json["id"]
    assert (answer.status, answer.headers["location"]) == (202, f"/v1/jobs/{job_id}")
    assert answer.headers["preference-applied"] == "respond-async"
    job = await stored(stage, job_id)
    assert job == Job(
        id=job_id,
        service=SERVICE,
        route="/v1/chat/completions",
        tenant="anonymous",
        owner="",
        priority="normal",
        limits=Limits(),
        accepted_at=stage.clock.now(),
        digest=digest_of(SERVICE, "/v1/chat/completions", "application/json", BODY),
        body=BODY,
        headers={"traceparent": "00-1"},
    )
    assert answer.json == {
        "object": "job",
        "id": job_id,
        "status": "queued",
        "service": "default/m",
        "route": "/v1/chat/completions",
        "priority": "normal",
        "tenant": "anonymous",
        "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": None,
        "settled_at": None,
        "attempts": 0,
        "round": 1,
        "reason": "",
        "detail": "",
        "usage": None,
        "position": None,
        "predicted_start_s": None,
        "expires_at": "2026-01-10T06:40:00.000Z",
        "links": {
            "self": f"/v1/jobs/{job_id}",
            "result": f"/v1/jobs/{job_id}/result",
            "events": f"/v1/jobs/{job_id}/events",
            "cancel": f"/v1/jobs/{job_id}/cancel",
        },
    }


@pytest.mark.parametrize(
    ("method", "path", "prefer"),
    [
        ("POST", CHAT, None),
        ("POST", CHAT, "wait=3"),
        ("POST", CHAT, "return=minimal"),
        ("GET", CHAT, "respond-async"),
        ("POST", "/relume/status", "respond-async"),
    ],
)
async def test_every_other_request_passes_untouched(
    method: str, path: str, prefer: str | None
) -> None:
    stage = Stage()
    answer = await stage.ask(method, path, {"prefer": prefer} if prefer else {}, BODY)
    assert (answer.status, answer.body) == (200, b"answered at once")
    assert count(stage) == 0


async def test_a_websocket_with_the_preference_passes() -> None:
    stage = Stage()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": CHAT, "headers": [(b"prefer", b"respond-async")]}
    await stage.app(scope, receive, send)
    assert sent == [{"type": "websocket.close"}]


async def test_the_wishes_of_the_headers_are_the_jobs() -> None:
    stage = Stage()
    stage.state = {"owner": "alice", "tenant": "red"}
    headers = {"relume-priority": "low", "relume-run-timeout": "2h", "relume-max-attempts": "1"}
    answer = await stage.post(headers)
    job = await stored(stage, answer.json["id"])
    assert (job.owner, job.tenant, job.priority) == ("alice", "red", "low")
    assert (job.limits.run_s, job.limits.max_attempts) == (7200.0, 1)


@pytest.mark.parametrize(
    ("tier", "header", "priority"),
    [("priority", None, "high"), ("flex", None, "low"), ("flex", "high", "high")],
)
async def test_a_service_tier_sets_the_priority_where_no_header_does(
    tier: str, header: str | None, priority: str
) -> None:
    stage = Stage()
    body = json.dumps({"model": "m", "service_tier": tier}).encode()
    answer = await stage.post({"relume-priority": header} if header else {}, body)
    assert answer.json["priority"] == priority


async def test_the_predictor_gets_its_own_name_of_the_model_and_the_query() -> None:
    stage = Stage()
    body = json.dumps({"model": "alias", "messages": []}).encode()
    answer = await stage.post(keyed(), body, f"{CHAT}?a=%2F")
    job = await stored(stage, answer.json["id"])
    assert json.loads(job.body) == {"model": "m", "messages": []}
    assert job.route == "/v1/chat/completions?a=%2F"
    # The same request again is the same, whatever the predictor calls the model.
    again = await stage.post(keyed(), body, f"{CHAT}?a=%2F")
    assert (again.status, again.json["id"]) == (202, job.id)


@pytest.mark.parametrize(
    ("body", "path", "status", "reason"),
    [
        (b"{", CHAT, 400, "bad-json"),
        (b"", CHAT, 400, "bad-json"),
        (b"[" * 100_000, CHAT, 400, "bad-json"),
        (b'{"model":"no"}', CHAT, 404, "model-unknown"),
        (BODY, "/serving/default/other/v1/completions", 404, "service-unknown"),
    ],
)
async def test_what_no_model_can_answer_is_refused_before_anything_is_stored(
    body: bytes, path: str, status: int, reason: str
) -> None:
    stage = Stage()
    answer = await stage.post({}, body, path)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert count(stage) == 0


def test_words_that_utf8_cannot_say_are_told_all_the_same() -> None:
    response = refused(404, "The model `\ud800` does not exist.", "model-unknown")
    assert json.loads(response.body)["error"] == "The model `\\ud800` does not exist."


@pytest.mark.parametrize("body", ['\ufeff{"model": "m"}'.encode(), b'{"model": "m", "t": NaN}'])
async def test_json_that_only_pythons_reader_takes_is_json(body: bytes) -> None:
    answer = await Stage().post({}, body, "/serving/default/m/v1/completions")
    assert answer.status == 202


async def test_a_header_that_cannot_be_honoured_is_refused() -> None:
    stage = Stage()
    answer = await stage.post({"relume-keep": "long"})
    assert answer.status == 400 and answer.json["reason"] == "bad-header"
    assert answer.json["error"].startswith("Relume-Keep: ")
    assert count(stage) == 0


async def test_an_event_is_sent_to_its_own_address() -> None:
    stage = Stage()
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
    answer = await stage.post(event)
    assert (answer.status, answer.json["reason"]) == (400, "event")
    assert "/events/" in answer.json["error"] and count(stage) == 0


# Large bodies.

SMALL = JobSettings(inline_bytes=1000, max_body_bytes=20_000)


async def read(stage: Stage, job: Job) -> bytes:
    assert job.payload is not None and job.body == b""
    return b"".join([part async for part in stage.store.payload(job.payload)])


async def test_a_large_body_lies_in_the_object_store() -> None:
    stage = Stage(settings=SMALL)
    body = json.dumps({"model": "m", "pad": "x" * 5000}).encode()
    answer = await stage.post({}, body)
    job = await stored(stage, answer.json["id"])
    assert await read(stage, job) == body
    assert job.digest == digest_of(SERVICE, job.route, job.content_type, body)


async def test_a_body_that_only_the_predictor_reads_is_stored_as_it_comes_in() -> None:
    stage = Stage(settings=SMALL)
    call = stage.begin("POST", AUDIO, {**ASYNC, "content-type": "audio/wav"}, [b"a" * 1500, b""])
    call.incoming.get_nowait()
    call.incoming.get_nowait()
    seen: list[int] = []
    put = stage.store.put_payload

    async def watched(job_id: str, name: str, data: AsyncIterator[bytes], **kw: Any) -> str:
        async def parts() -> AsyncIterator[bytes]:
            async for part in data:
                seen.append(len(part))
                yield part

        return await put(job_id, name, parts(), **kw)

    stage.store.put_payload = watched  # type: ignore[method-assign]
    for number in range(3):
        call.incoming.put_nowait(
            {"type": "http.request", "body": b"a" * 1500, "more_body": number < 2}
        )
        await settle()
    answer = await call.answer()
    assert answer.status == 202 and seen == [1500, 1500, 1500]
    job = await stored(stage, answer.json["id"])
    assert await read(stage, job) == b"a" * 4500
    assert job.digest == digest_of(SERVICE, job.route, "audio/wav", b"a" * 4500)


@pytest.mark.parametrize("kind", ["application/json", "audio/wav"])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_above_the_limit_is_refused_and_not_stored(kind: str, declared: bool) -> None:
    stage = Stage(settings=SMALL)
    headers = {**ASYNC, "content-type": kind}
    if declared:
        headers["content-length"] = "20001"
    answer = await stage.ask("POST", AUDIO, headers, [b"1" * 10_000] * 2 + [b"1"])
    assert (answer.status, answer.json["reason"]) == (413, "body-too-large")
    assert answer.headers["connection"] == "close"
    assert count(stage) == 0 and not stage.store._payloads


@pytest.mark.parametrize("kind", ["application/json", "audio/wav"])
async def test_a_body_that_is_announced_too_large_is_refused_before_any_of_it_has_come(
    kind: str,
) -> None:
    headers = {**ASYNC, "content-type": kind, "content-length": str(10 * 1024**3)}
    call = Stage(settings=SMALL).begin("POST", AUDIO, headers, [b"1", b"1"])
    answer = await call.answer()
    assert (answer.status, answer.json["reason"]) == (413, "body-too-large")
    assert call.incoming.qsize() == 2


async def test_a_length_without_end_is_refused() -> None:
    answer = await Stage().post({"content-length": "9" * 5000})
    assert answer.status == 413


@pytest.mark.parametrize("kind", ["application/json", "audio/wav"])
async def test_a_client_that_leaves_in_the_middle_stores_nothing(kind: str) -> None:
    stage = Stage(settings=SMALL)
    call = stage.begin("POST", AUDIO, {**ASYNC, "content-type": kind}, [b"1" * 1500, b""])
    call.incoming.get_nowait()
    call.incoming.get_nowait()
    call.incoming.put_nowait({"type": "http.request", "body": b"1" * 1500, "more_body": True})
    await settle()
    call.leave()
    await call.task
    assert call.sent == [] and count(stage) == 0 and not stage.store._payloads
    assert stage.door.intake.bytes == 0


async def test_many_large_bodies_at_once_are_turned_away_and_small_ones_are_not() -> None:
    stage = Stage(limits=DoorSettings(intake_bytes=3000, small_bytes=500))
    more = {"type": "http.request", "body": b"1" * 2900, "more_body": True}
    first = stage.begin("POST", AUDIO, {**ASYNC, **JSON}, [b"", b""])
    first.incoming.get_nowait()
    first.incoming.get_nowait()
    first.incoming.put_nowait(more)
    await settle()
    large = await stage.post({}, b"1" * 600, AUDIO)
    assert (large.status, large.json["reason"]) == (503, "too-much-at-once")
    assert large.headers["retry-after"] == "1"
    assert (await stage.post()).status == 202
    first.leave()
    await first.task


async def test_a_body_that_is_stored_as_it_comes_in_takes_no_room_at_the_door() -> None:
    stage = Stage(
        settings=JobSettings(inline_bytes=1000),
        limits=DoorSettings(intake_bytes=3000, small_bytes=500),
    )
    headers = {**ASYNC, "content-type": "audio/wav"}
    answer = await stage.ask("POST", AUDIO, headers, [b"a" * 800] * 20)
    assert answer.status == 202 and stage.door.intake.bytes == 0
    assert await read(stage, await stored(stage, answer.json["id"])) == b"a" * 16_000


# The same key again.


async def test_the_same_request_with_the_same_key_is_the_same_job() -> None:
    stage = Stage()
    first, second = await stage.post(keyed()), await stage.post(keyed())
    assert (first.status, second.status) == (202, 202)
    assert first.json["id"] == second.json["id"] == id_for("", "k")
    await stage.leased(first.json["id"])
    third = await stage.post(keyed())
    assert (third.status, third.json["status"]) == (202, "leased")
    await stage.ends(first.json["id"])
    fourth = await stage.post(keyed())
    assert (fourth.status, fourth.json["status"]) == (200, "completed")
    assert count(stage) == 1


@pytest.mark.parametrize("settled", [False, True])
async def test_another_request_with_the_same_key_is_refused(settled: bool) -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed())
    if settled:
        await stage.leased(job_id)
        await stage.ends(job_id)
    for headers, body, path in (
        (keyed(), OTHER, CHAT),
        (keyed(), BODY, "/openai/v1/completions"),
        (keyed(**{"content-type": "application/json; charset=utf-8"}), BODY, CHAT),
    ):
        answer = await stage.post(headers, body, path)
        assert (answer.status, answer.json["reason"]) == (409, "key-in-use")
        assert answer.json["error"].startswith("Idempotency-Key: ")
    assert count(stage) == 1


async def test_a_key_belongs_to_its_caller() -> None:
    stage = Stage()
    ids = set()
    for owner in ("", "alice", "bob"):
        stage.state = {"owner": owner, "tenant": "t"}
        ids.add(await stage.submitted(keyed()))
    assert len(ids) == 3


async def test_without_a_key_every_request_is_a_job_of_its_own() -> None:
    stage = Stage()
    assert await stage.submitted() != await stage.submitted()


async def test_the_key_outlives_a_deleted_answer() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed())
    await stage.leased(job_id)
    await stage.ends(job_id)
    assert (await stage.ask("DELETE", f"/v1/jobs/{job_id}")).status == 204
    again = await stage.post(keyed())
    assert (again.status, again.json["status"], again.json["deleted"]) == (200, "completed", True)
    waiting = await stage.post(keyed(prefer="respond-async, wait=9"))
    assert (waiting.status, waiting.json["reason"]) == (410, "deleted")
    assert (await stage.post(keyed(), OTHER)).status == 409
    assert count(stage) == 0


async def test_a_key_is_free_when_its_time_is_over() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed(**{"relume-keep": "1h"}))
    await stage.leased(job_id)
    await stage.ends(job_id)
    await stage.clock.advance(lifetime_s(Limits(keep_s=3600)))
    again = await stage.post(keyed(), OTHER)
    assert (again.status, again.json["status"]) == (202, "queued")


async def test_a_settled_job_never_waits_again_though_its_request_outlives_its_answer() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed(**{"relume-keep": "1h"}))
    await stage.leased(job_id)
    await stage.ends(job_id)
    await stage.clock.advance(3601)
    assert (await stage.store.look(job_id)).job is not None
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}")).status == 404
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}/result")).status == 404
    assert (await stage.ask("POST", f"/v1/jobs/{job_id}/retry")).status == 404
    assert (await stage.ask("GET", "/v1/jobs")).json["data"] == []
    for prefer in ("respond-async", "respond-async, wait=9"):
        again = await stage.post(keyed(prefer=prefer))
        assert (again.status, again.json["reason"]) == (410, "gone")
        assert "Idempotency-Key" in again.json["error"]
    assert (await stage.post(keyed(), OTHER)).status == 409


async def test_a_retried_job_is_still_the_same_request() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed())
    await stage.happens(job_id, Cancelled(stage.clock.now()))
    await stage.ask("POST", f"/v1/jobs/{job_id}/retry")
    again = await stage.post(keyed())
    assert (again.status, again.json["status"], again.json["round"]) == (202, "queued", 2)


async def test_a_large_body_is_compared_and_not_stored_again() -> None:
    stage = Stage(settings=SMALL)
    headers = {**ASYNC, **keyed(), "content-type": "audio/wav"}
    first = await stage.ask("POST", AUDIO, headers, [b"a" * 1500, b"b"])
    kept = dict(stage.store._payloads)
    same = await stage.ask("POST", AUDIO, headers, [b"a" * 1000, b"a" * 500, b"b"])
    other = await stage.ask("POST", AUDIO, headers, [b"a" * 1500, b"c"])
    assert first.json["id"] == same.json["id"]
    assert (first.status, same.status, other.status) == (202, 202, 409)
    assert stage.store._payloads == kept


class Slow(MemoryJobs):
    """A store that lets others run between the look and the submission of a job."""

    def __init__(self, settings: JobSettings) -> None:
        super().__init__(settings, VirtualClock())
        self.looked = 0

    async def look(self, job_id: str) -> Seen:
        self.looked += 1
        try:
            return await super().look(job_id)
        finally:
            await settle()


@pytest.mark.parametrize("size", [10, 1500])
@pytest.mark.parametrize("kind", ["application/json", "audio/wav"])
async def test_of_equal_requests_at_once_one_is_stored_and_all_have_its_id(
    size: int, kind: str
) -> None:
    stage = Stage(settings=SMALL, store=Slow(SMALL))
    headers = {**ASYNC, **keyed(), "content-type": kind}
    calls = [stage.begin("POST", AUDIO, headers, b"1" * size) for _ in range(8)]
    answers = [await call.answer() for call in calls]
    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    job = await stored(stage, answers[0].json["id"])
    # The body of the job that won is its own, whatever the others have stored since.
    assert (job.body if size == 10 else await read(stage, job)) == b"1" * size


@pytest.mark.parametrize("size", [10, 1500])
@pytest.mark.parametrize("kind", ["application/json", "audio/wav"])
async def test_of_different_requests_at_once_with_one_key_one_is_stored(
    size: int, kind: str
) -> None:
    stage = Stage(settings=SMALL, store=Slow(SMALL))
    headers = {**ASYNC, **keyed(), "content-type": kind}
    bodies = [str(digit).encode() * size for digit in range(1, 9)]
    calls = [stage.begin("POST", AUDIO, headers, body) for body in bodies]
    answers = [await call.answer() for call in calls]
    statuses = [answer.status for answer in answers]
    assert sorted(statuses) == [202] + [409] * 7
    won = statuses.index(202)
    job = await stored(stage, answers[won].json["id"])
    assert (job.body if size == 10 else await read(stage, job)) == bodies[won]


@given(
    st.lists(
        st.tuples(st.text(st.characters(min_codepoint=1, max_codepoint=0xFF), max_size=20)),
        min_size=2,
        max_size=4,
    )
)
def test_any_key_is_one_job_or_refused_with_400(keys: list[tuple[str]]) -> None:
    async def ask() -> list[tuple[str, Answer]]:
        stage = Stage()
        return [(key, await stage.post(keyed(key))) for (key,) in keys]

    taken: dict[str, str] = {}
    for key, answer in asyncio.run(ask()):
        assert answer.status in (202, 400)
        if answer.status == 202:
            assert taken.setdefault(key, answer.json["id"]) == answer.json["id"]
    assert len(set(taken.values())) == len(taken)


@pytest.mark.parametrize("key", ["käse", "%00%2F", "a b", '"quoted"', "*", ">", "a.b.c", "x" * 512])
async def test_a_key_of_any_character_names_a_job_that_can_be_found(key: str) -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed(key))
    found = await stage.ask("GET", f"/v1/jobs/{job_id}")
    assert (found.status, found.json["id"]) == (200, job_id)
    assert await stage.submitted(keyed(key)) == job_id


@pytest.mark.parametrize("key", ["", " ", "k" * 513, "k" * 2**20, "a\tb\n"])
async def test_a_key_that_cannot_be_one_is_refused(key: str) -> None:
    stage = Stage()
    answer = await stage.post(keyed(key))
    assert (answer.status, answer.json["reason"]) == (400, "bad-header")
    assert count(stage) == 0


# Waiting for the answer.

WAIT = {"prefer": "respond-async, wait=10"}


async def test_with_wait_the_models_own_answer_is_given_when_it_comes_in_time() -> None:
    stage = Stage()
    call = stage.begin("POST", CHAT, {**WAIT, **JSON, **KEYED}, BODY)
    await settle()
    job_id = id_for("", "k")
    await stage.leased(job_id)
    await stage.clock.advance(9)
    assert not call.task.done()
    result = Result(201, "text/event-stream", b"data: [DONE]\n\n")
    await stage.ends(job_id, result=result)
    answer = await call.answer()
    assert (answer.status, answer.body) == (201, b"data: [DONE]\n\n")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["relume-job"] == job_id
    assert answer.headers["preference-applied"] == "respond-async, wait=10"
    assert stage.clock.sleeping == [] and stage.watches.count == 0


async def test_with_wait_the_job_is_told_when_the_answer_does_not_come_in_time() -> None:
    stage = Stage()
    call = stage.begin("POST", CHAT, {**WAIT, **JSON, **KEYED}, BODY)
    await settle()
    await stage.leased(id_for("", "k"))
    await stage.clock.advance(10)
    answer = await call.answer()
    assert (answer.status, answer.json["status"]) == (202, "leased")
    assert answer.headers["preference-applied"] == "respond-async"
    assert stage.clock.sleeping == [] and stage.watches.count == 0


async def test_a_settled_job_is_answered_at_once_only_with_wait() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed())
    await stage.leased(job_id)
    await stage.ends(job_id)
    at_once = await stage.post(keyed(prefer="respond-async, wait=0"))
    assert (at_once.status, at_once.body) == (200, ANSWER)
    assert at_once.headers["preference-applied"] == "respond-async, wait=0"
    assert (await stage.post(keyed())).json["object"] == "job"


async def test_a_long_wait_is_cut_and_the_answer_says_so() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed())
    await stage.leased(job_id)
    await stage.ends(job_id)
    answer = await stage.post(keyed(prefer="respond-async, wait=999999"))
    assert answer.headers["preference-applied"] == "respond-async, wait=300"


async def test_a_large_answer_comes_from_the_object_store() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed())
    await stage.leased(job_id)

    async def parts() -> AsyncIterator[bytes]:
        yield b"a" * 300_000

    payload = await stage.store.put_payload(job_id, "result", parts())
    await stage.ends(job_id, result=Result(200, "text/plain", payload=payload))
    answer = await stage.post(keyed(**WAIT))
    assert answer.body == b"a" * 300_000 and answer.headers["content-type"] == "text/plain"
    await stage.store.forget(job_id)
    gone = await stage.post(keyed(**WAIT))
    assert (gone.status, gone.json["reason"]) == (410, "no-such-payload")


async def test_a_job_that_ends_without_an_answer_says_why() -> None:
    stage = Stage()
    call = stage.begin("POST", CHAT, {**WAIT, **JSON, **KEYED}, BODY)
    await settle()
    await stage.happens(id_for("", "k"), Cancelled(stage.clock.now(), "not needed"))
    answer = await call.answer()
    assert (answer.status, answer.json["reason"]) == (409, "no-answer")
    assert "cancelled" in answer.json["error"] and "not needed" in answer.json["error"]


async def test_a_caller_that_leaves_while_it_waits_frees_everything_and_the_job_stays() -> None:
    stage = Stage()
    call = stage.begin("POST", CHAT, {**WAIT, **JSON, **KEYED}, BODY)
    await settle()
    call.leave()
    await call.task
    await settle()
    assert call.sent == []
    assert stage.clock.sleeping == [] and stage.watches.count == 0 and not stage.watches._ending
    assert count(stage) == 1


async def test_no_body_is_held_while_its_caller_waits() -> None:
    class Silent(MemoryJobs):
        async def watch(self, job_id: str) -> AsyncIterator[Record]:
            await asyncio.Event().wait()  # that of the double holds the job
            yield None  # type: ignore[misc]

    stage = Stage(store=Silent(JobSettings(), VirtualClock()))
    call = stage.begin("POST", CHAT, {**WAIT, **JSON, **keyed("not held")}, BODY)
    await settle()
    assert stage.door.intake.bytes == 0 and not call.task.done()
    gc.collect()
    # `isinstance` would ask every object of every module for its class, which takes seconds.
    jobs = [each for each in gc.get_objects() if type(each) is Job]
    mine = [each.body for each in jobs if each.id == id_for("", "not held")]
    assert set(mine) == {b""}  # the store holds bytes, not jobs
    call.leave()
    await call.task


# What the store and the quota refuse.


class Failing(MemoryJobs):
    def __init__(self, error: Exception) -> None:
        super().__init__(SMALL, VirtualClock())
        self.error = error

    async def submit(self, job: Job, patience_s: float) -> tuple[bool, Seen]:
        raise self.error

    async def put_payload(
        self, job_id: str, name: str, data: AsyncIterator[bytes], *, lasts_s: float | None = None
    ) -> str:
        raise self.error

    async def look(self, job_id: str) -> Seen:
        if isinstance(self.error, StoreUnavailable):
            raise self.error
        raise NoSuchJob("none")


@pytest.mark.parametrize(
    ("error", "status", "reason", "retry_after"),
    [
        (StoreUnavailable("away"), 503, "store-unavailable", "1"),
        (DiskFull("full"), 503, "disk-full", "30"),
        (JobTooLarge("large"), 413, "job-too-large", None),
    ],
)
@pytest.mark.parametrize("size", [10, 1500])
@pytest.mark.parametrize("headers", [{}, KEYED])
async def test_what_is_not_stored_is_never_accepted(
    error: Exception,
    status: int,
    reason: str,
    retry_after: str | None,
    size: int,
    headers: dict[str, str],
) -> None:
    stage = Stage(store=Failing(error), settings=SMALL)
    answer = await stage.post(headers, b"1" * size, AUDIO)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert answer.headers.get("retry-after") == retry_after


@dataclass(frozen=True)
class Full:
    reason: str = "tenant-full"
    retry_after_s: float = 2.2

    def __str__(self) -> str:
        return "10 jobs of tenant anonymous wait"


async def test_a_job_that_the_quota_refuses_is_not_stored_and_a_known_one_is_told_of() -> None:
    asked: list[Job] = []
    full = False

    async def admit(job: Job, _: object) -> Full | None:
        asked.append(job)
        return Full() if full else None

    stage = Stage(admit=admit, settings=SMALL)
    job_id = await stage.submitted(keyed())
    full = True
    for body in (BODY, b"1" * 1500):
        answer = await stage.post({}, body, AUDIO)
        assert (answer.status, answer.json["reason"]) == (429, "tenant-full")
        assert answer.headers["retry-after"] == "3"
    assert (await stage.post(keyed())).json["id"] == job_id
    assert len(asked) == 3 and asked[0].body == BODY
    assert count(stage) == 1 and not stage.store._payloads


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_body_that_is_not_json_counts_as_tokens_by_its_bytes(announced: bool) -> None:
    asked: list[Job] = []

    async def admit(job: Job, _: object) -> Full | None:
        asked.append(job)
        return None

    stage = Stage(admit=admit, settings=SMALL)
    headers = {**ASYNC, "content-type": "audio/wav"}
    if announced:
        headers["content-length"] = "5000"
    answer = await stage.ask("POST", AUDIO, headers, [b"1" * 1500, b"2" * 3500])
    assert answer.status == 202
    assert asked[0].body == b""
    assert asked[0].size == (5000 if announced else 1500)
    seen = await stage.store.look(answer.json["id"])
    assert seen.job is not None and seen.job.size == 5000  # what a retry counts


async def test_a_tombstone_does_not_free_the_key_of_a_job_without_an_answer() -> None:
    stage = Stage()
    job_id = await stage.submitted(keyed())
    await stage.happens(job_id, Cancelled(stage.clock.now()), Deleted(stage.clock.now()))
    assert (await stage.post(keyed())).status == 200
