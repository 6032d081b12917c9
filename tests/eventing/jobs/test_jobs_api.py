"""The API: what callers see of their jobs, and may do to them."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.base.testing import VirtualClock, settle
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs import api
from relume.eventing.jobs.job import Job
from relume.eventing.jobs.outlook import Outlook
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.shapes import is_job_id
from relume.eventing.jobs.state import Leased, Record, Result, Usage
from relume.eventing.jobs.store import Filter, Outrun, Seen
from relume.eventing.jobs.testing import MemoryJobs
from tests.eventing.jobs.door_stage import ANSWER, SERVICE, Stage

NOBODY = "job_" + "a" * 24


async def settled(stage: Stage, state: Any = "completed", **told: Any) -> str:
    job_id = await stage.submitted()
    await stage.leased(job_id)
    await stage.ends(job_id, state, **told)
    return job_id


# One job.


async def test_a_job_is_told_through_its_life() -> None:
    stage = Stage(outlook=Outlook(starts_in=lambda service, ahead: 6.04 * (ahead + 1)))
    await stage.submitted()
    job_id = await stage.submitted()
    path = f"/v1/jobs/{job_id}"
    queued = (await stage.ask("GET", path)).json
    assert (queued["status"], queued["position"], queued["predicted_start_s"]) == (
        "queued",
        2,
        12.1,
    )
    await stage.clock.advance(1)
    await stage.streaming(job_id)
    running = (await stage.ask("GET", path)).json
    assert (running["status"], running["position"], running["attempts"]) == ("streaming", None, 1)
    assert running["started_at"] == "2026-01-01T00:00:01.000Z" and running["usage"] is None
    await stage.clock.advance(1)
    await stage.ends(job_id, usage=Usage(3, 4, 1, 1000, 20, 980))
    ended = (await stage.ask("GET", path)).json
    assert (ended["status"], ended["settled_at"]) == ("completed", "2026-01-01T00:00:02.000Z")
    assert ended["expires_at"] == "2026-01-02T00:00:02.000Z"
    assert ended["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "cached_tokens": 1,
        "queue_ms": 1000,
        "cold_start_ms": 20,
        "run_ms": 980,
    }


@pytest.mark.parametrize(
    "job_id", [NOBODY, "job_", "x", "*", "%3E", "job_" + "a" * 25, "job_" + "A" * 24, "job_a.b"]
)
@pytest.mark.parametrize(
    ("method", "below"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/result"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ],
)
async def test_a_job_that_is_not_there_is_404(job_id: str, method: str, below: str) -> None:
    answer = await Stage().ask(method, f"/v1/jobs/{job_id}{below}")
    assert (answer.status, answer.json["reason"]) == (404, "no-such-job")


@given(st.text(max_size=40))
def test_only_ids_of_ours_reach_the_store(text: str) -> None:
    assert not is_job_id(text) or text.isascii()


@pytest.mark.parametrize(
    ("method", "below"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/result"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ],
)
async def test_a_job_of_somebody_else_does_not_exist(method: str, below: str) -> None:
    stage = Stage()
    stage.state = {"owner": "alice", "tenant": "t"}
    job_id = await settled(stage, "failed")
    for owner in ("bob", ""):
        stage.state = {"owner": owner, "tenant": "t"}
        answer = await stage.ask(method, f"/v1/jobs/{job_id}{below}")
        assert (answer.status, answer.json["reason"]) == (404, "no-such-job")
        assert (await stage.ask("GET", "/v1/jobs")).json["data"] == []
    stage.state = {"owner": "alice", "tenant": "t"}
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}")).status == 200
    assert len((await stage.ask("GET", "/v1/jobs")).json["data"]) == 1


async def test_a_job_without_an_owner_is_everybodys() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    stage.state = {"owner": "bob", "tenant": "t"}
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/v1/jobs/x/y", 404, "not-found"),
        ("GET", "/v1/jobs/x/cancel", 405, "method-not-allowed"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("POST", "/v1/queues", 405, "method-not-allowed"),
        ("GET", "/v1/jobs/", 404, "not-found"),
    ],
)
async def test_another_path_or_method_is_refused_as_json(
    method: str, path: str, status: int, reason: str
) -> None:
    answer = await Stage().ask(method, path)
    assert (answer.status, answer.json["reason"]) == (status, reason)


@pytest.mark.parametrize("path", ["/v1/jobsx", "/v1/job", "/v1/queue", "/v1", "/"])
async def test_the_api_takes_only_its_own_paths(path: str) -> None:
    assert (await Stage().ask("GET", path)).body == b"answered at once"


# The long poll.


async def test_a_long_poll_is_answered_when_the_job_settles() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    calls = [stage.begin("GET", f"/v1/jobs/{job_id}?wait=30") for _ in range(50)]
    await settle()
    assert stage.watches.count == 1
    await stage.leased(job_id)
    await stage.clock.advance(29)
    assert not any(call.task.done() for call in calls)
    await stage.ends(job_id)
    for call in calls:
        assert (await call.answer()).json["status"] == "completed"
    await settle()
    assert stage.clock.sleeping == [] and stage.watches.count == 0 and not stage.watches._ending


async def test_a_long_poll_ends_with_the_state_when_its_time_is_over() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = stage.begin("GET", f"/v1/jobs/{job_id}?wait=30")
    await stage.clock.advance(30)
    assert (await call.answer()).json["status"] == "queued"
    assert stage.clock.sleeping == [] and stage.watches.count == 0


async def test_a_client_that_leaves_its_long_poll_frees_everything() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = stage.begin("GET", f"/v1/jobs/{job_id}?wait=30")
    await settle()
    call.leave()
    await call.task
    assert stage.clock.sleeping == [] and stage.watches.count == 0


async def test_a_long_poll_ends_when_the_process_stops() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    call = stage.begin("GET", f"/v1/jobs/{job_id}?wait=30")
    await settle()
    stage.watches.close()
    assert (await call.answer()).json["status"] == "queued"


async def test_a_long_poll_of_a_retried_job_waits_for_the_new_round() -> None:
    stage = Stage()
    job_id = await settled(stage, "failed")
    assert (await stage.ask("POST", f"/v1/jobs/{job_id}/retry")).status == 202
    call = stage.begin("GET", f"/v1/jobs/{job_id}?wait=30")
    await settle()
    assert not call.task.done()
    await stage.leased(job_id)
    await stage.ends(job_id)
    assert (await call.answer()).json["status"] == "completed"


class Flaky(MemoryJobs):
    """A store whose watch breaks at first."""

    broken = 1

    async def watch(self, job_id: str) -> AsyncIterator[Record]:
        if self.broken:
            self.broken -= 1
            raise StoreUnavailable("away")
        async for record in super().watch(job_id):
            yield record


async def test_a_watch_that_breaks_is_begun_again() -> None:
    stage = Stage(store=Flaky(JobSettings(), VirtualClock()))
    job_id = await stage.submitted()
    call = stage.begin("GET", f"/v1/jobs/{job_id}?wait=30")
    await settle()
    await stage.leased(job_id)
    await stage.ends(job_id)
    await stage.clock.advance(1)
    assert (await call.answer()).json["status"] == "completed"


@pytest.mark.parametrize("wait", ["301", "-1", "x", "1.5", "1e3", "9" * 5000])
async def test_a_wait_that_is_no_number_of_seconds_is_refused(wait: str) -> None:
    stage = Stage()
    job_id = await stage.submitted()
    answer = await stage.ask("GET", f"/v1/jobs/{job_id}?wait={wait}")
    assert (answer.status, answer.json["reason"]) == (400, "bad-query")
    assert answer.json["error"] == "wait: write a number from 0 to 300"


# The result.


async def test_the_result_is_the_models_answer_as_it_was() -> None:
    stage = Stage()
    result = Result(422, "application/problem+json", b'{"no":1}')
    job_id = await settled(stage, "failed", result=result)
    answer = await stage.ask("GET", f"/v1/jobs/{job_id}/result")
    assert (answer.status, answer.body) == (422, b'{"no":1}')
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["relume-job"] == job_id


async def test_there_is_no_result_before_the_job_settles() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    answer = await stage.ask("GET", f"/v1/jobs/{job_id}/result")
    assert (answer.status, answer.json["reason"]) == (409, "not-settled")
    assert answer.headers["retry-after"] == "1"


async def test_there_is_no_result_of_a_job_that_is_tried_again() -> None:
    stage = Stage()
    job_id = await settled(stage, "failed", result=Result(422, "text/plain", b"no"))
    await stage.ask("POST", f"/v1/jobs/{job_id}/retry")
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}/result")).json["reason"] == "not-settled"


# Cancel, retry, delete.


async def test_a_queued_and_a_running_job_are_cancelled_and_a_settled_one_is_not() -> None:
    stage = Stage()
    queued, running, done = await stage.submitted(), await stage.submitted(), await settled(stage)
    await stage.leased(running)
    for job_id in (queued, running):
        answer = await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")
        assert (answer.status, answer.json["status"]) == (200, "cancelled")
        assert answer.json["settled_at"] is not None
    for job_id in (queued, done):
        answer = await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")
        assert (answer.status, answer.json["reason"]) == (409, "job-conflict")
        assert (await stage.store.look(job_id)).state in answer.json["error"]


@pytest.mark.parametrize("state", ["failed", "dead", "expired", "cancelled"])
async def test_a_job_without_an_answer_is_retried_in_a_new_round(state: str) -> None:
    stage = Stage()
    job_id = await settled(stage, state, detail="x")
    await stage.clock.advance(5)
    answer = await stage.ask("POST", f"/v1/jobs/{job_id}/retry")
    assert (answer.status, answer.json["status"], answer.json["round"]) == (202, "queued", 2)
    assert (answer.json["attempts"], answer.json["detail"]) == (0, "")
    assert answer.json["created_at"] == "2026-01-01T00:00:05.000Z"
    assert (await stage.ask("POST", f"/v1/jobs/{job_id}/retry")).status == 409
    await stage.leased(job_id)
    await stage.ends(job_id)
    found = await stage.ask("GET", f"/v1/jobs/{job_id}/result")
    assert (found.status, found.body) == (200, ANSWER)


async def test_what_is_not_retried() -> None:
    stage = Stage()
    queued, done, gone = await stage.submitted(), await settled(stage), await settled(stage, "dead")
    await stage.store.withdraw(gone)
    for job_id, status in ((queued, 409), (done, 409), (gone, 410)):
        assert (await stage.ask("POST", f"/v1/jobs/{job_id}/retry")).status == status


async def test_a_retry_asks_the_quota() -> None:
    class Full:
        reason, retry_after_s = "tenant-full", 5.0

    full: list[Full] = []

    async def admit(_: Job, value: object) -> Any:
        return full[0] if full else None

    stage = Stage(admit=admit)
    job_id = await settled(stage, "failed")
    full.append(Full())
    answer = await stage.ask("POST", f"/v1/jobs/{job_id}/retry")
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")
    assert (await stage.store.look(job_id)).state == "failed"


async def test_a_deleted_job_leaves_its_key_and_nothing_else() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.streaming(job_id)
    await stage.append(job_id, "secret")
    await stage.ends(job_id, detail="secret")
    for _ in range(2):  # it may be repeated
        answer = await stage.ask("DELETE", f"/v1/jobs/{job_id}")
        assert (answer.status, answer.body) == (204, b"")
    seen = await stage.store.look(job_id)
    assert (seen.job, seen.record and seen.record.result) == (None, None)
    assert (await stage.store.chunks(job_id))[0] == []
    told = await stage.ask("GET", f"/v1/jobs/{job_id}")
    assert told.json["deleted"] is True and b"secret" not in told.body
    result = await stage.ask("GET", f"/v1/jobs/{job_id}/result")
    assert (result.status, result.json["reason"]) == (410, "deleted")
    assert (await stage.ask("POST", f"/v1/jobs/{job_id}/retry")).status == 409
    assert (await stage.ask("GET", "/v1/jobs")).json["data"] == []


async def test_a_job_that_has_not_settled_is_not_deleted() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    answer = await stage.ask("DELETE", f"/v1/jobs/{job_id}")
    assert (answer.status, answer.json["reason"]) == (409, "job-conflict")
    assert "cancel it before" in answer.json["error"]


class Racing(MemoryJobs):
    """A store in which something happens just before the next write, requeue or withdrawal."""

    def __init__(self) -> None:
        super().__init__(JobSettings(), VirtualClock())
        self.before: dict[str, Any] = {}

    async def _happen(self, name: str) -> None:
        if (happens := self.before.pop(name, None)) is not None:
            await happens()

    async def write(self, record: Record, revision: int) -> int:
        await self._happen("write")
        return await super().write(record, revision)

    async def requeue(self, job: Job, place: int) -> None:
        await self._happen("requeue")
        await super().requeue(job, place)

    async def look(self, job_id: str) -> Seen:
        await self._happen("look")
        return await super().look(job_id)


async def test_a_cancel_that_is_outrun_by_a_lease_cancels_the_running_job() -> None:
    store = Racing()
    stage = Stage(store=store)
    job_id = await stage.submitted()
    store.before["write"] = lambda: stage.leased(job_id)
    answer = await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert (answer.status, answer.json["status"], answer.json["attempts"]) == (200, "cancelled", 1)


async def test_a_cancel_that_is_outrun_by_the_end_is_a_conflict() -> None:
    store = Racing()
    stage = Stage(store=store)
    job_id = await stage.submitted()
    await stage.leased(job_id)
    store.before["write"] = lambda: stage.ends(job_id)
    answer = await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert answer.status == 409 and "completed" in answer.json["error"]
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}/result")).body == ANSWER


async def test_of_two_retries_at_once_one_queues_the_job() -> None:
    store = Racing()
    stage = Stage(store=store)
    job_id = await settled(stage, "failed")
    path = f"/v1/jobs/{job_id}/retry"
    other: list[int] = []

    async def retried() -> None:
        other.append((await stage.ask("POST", path)).status)

    store.before["requeue"] = retried
    assert (await stage.ask("POST", path)).status == 409
    assert other == [202] and (await store.look(job_id)).job.round == 2  # type: ignore[union-attr]


async def test_a_job_that_is_deleted_while_it_is_retried_is_deleted() -> None:
    store = Racing()
    stage = Stage(store=store)
    job_id = await settled(stage, "failed")

    async def deleted() -> None:
        assert (await stage.ask("DELETE", f"/v1/jobs/{job_id}")).status == 204

    store.before["requeue"] = deleted
    answer = await stage.ask("POST", f"/v1/jobs/{job_id}/retry")
    assert answer.status == 409 and "deleted" in answer.json["error"]
    assert (await store.look(job_id)).job is None


async def test_a_job_that_is_retried_while_it_is_deleted_is_deleted() -> None:
    store = Racing()
    stage = Stage(store=store)
    job_id = await settled(stage, "failed")

    async def retried() -> None:
        assert (await stage.ask("POST", f"/v1/jobs/{job_id}/retry")).status == 202

    store.before["write"] = retried
    assert (await stage.ask("DELETE", f"/v1/jobs/{job_id}")).status == 204
    assert (await store.look(job_id)).job is None
    told = (await stage.ask("GET", f"/v1/jobs/{job_id}")).json
    assert (told["status"], told["deleted"]) == ("failed", True)


async def test_a_tombstone_ends_the_round_that_a_retry_has_queued() -> None:
    """The process that deletes is killed behind its tombstone, and a retry was faster than it."""
    stage = Stage()
    job_id = await settled(stage, "failed")
    seen = await stage.store.look(job_id)
    assert seen.record is not None
    assert (await stage.ask("POST", f"/v1/jobs/{job_id}/retry")).status == 202
    await stage.store.write(replace(seen.record, deleted=True), seen.revision)
    told = (await stage.ask("GET", f"/v1/jobs/{job_id}")).json
    assert (told["status"], told["deleted"], told["position"]) == ("failed", True, None)
    assert (await stage.ask("DELETE", f"/v1/jobs/{job_id}")).status == 204
    assert (await stage.store.look(job_id)).job is None


async def test_a_retry_notices_a_tombstone_that_was_written_after_it_had_looked() -> None:
    store = Racing()
    stage = Stage(store=store)
    job_id = await settled(stage, "failed")

    async def tombstone() -> None:
        record = (await MemoryJobs.look(store, job_id)).record
        assert record is not None
        revision = (await MemoryJobs.look(store, job_id)).revision
        await MemoryJobs.write(store, replace(record, deleted=True), revision)

    store.before["requeue"] = tombstone
    answer = await stage.ask("POST", f"/v1/jobs/{job_id}/retry")
    assert (answer.status, answer.json["reason"]) == (410, "deleted")
    assert (await store.look(job_id)).job is None


class Restless(MemoryJobs):
    async def write(self, record: Record, revision: int) -> int:
        raise Outrun("always")


async def test_a_job_that_changes_all_the_time_is_asked_for_again_later() -> None:
    stage = Stage(store=Restless(JobSettings(), VirtualClock()))
    job_id = await stage.submitted()
    answer = await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


# Lists.


async def test_a_list_is_read_page_by_page_newest_first() -> None:
    stage = Stage()
    ids = [await stage.submitted() for _ in range(7)][::-1]
    found: list[str] = []
    after = ""
    while True:
        page = (await stage.ask("GET", f"/v1/jobs?limit=3&after={after}")).json
        assert page["object"] == "list" and len(page["data"]) <= 3
        found += [job["id"] for job in page["data"]]
        after = page["last_id"]
        assert after == found[-1]
        if not page["has_more"]:
            break
    assert found == ids
    assert (await stage.ask("GET", "/v1/jobs?limit=7")).json["has_more"] is False
    empty = (await stage.ask("GET", f"/v1/jobs?after={ids[-1]}")).json
    assert empty == {"object": "list", "data": [], "has_more": False, "last_id": None}


async def test_a_page_ends_when_enough_was_read_and_names_nobody_elses_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api, "MOST_READ", 4)
    stage = Stage()
    stage.state = {"owner": "alice", "tenant": "t"}
    mine = [await stage.submitted() for _ in range(2)]
    stage.state = {"owner": "bob", "tenant": "t"}
    for _ in range(7):
        await stage.submitted()
    stage.state = {"owner": "alice", "tenant": "t"}
    pages = [(await stage.ask("GET", "/v1/jobs")).json]
    while pages[-1]["has_more"]:
        assert len(pages) < 5
        after = pages[-1]["last_id"]
        assert re.fullmatch("read-[0-9]+", after)
        pages.append((await stage.ask("GET", f"/v1/jobs?after={after}")).json)
    assert [[job["id"] for job in page["data"]] for page in pages] == [[], [mine[1]], [mine[0]]]
    assert pages[-1]["last_id"] == mine[0]


async def test_a_mark_beyond_all_jobs_lists_from_the_newest_and_shows_nobody_elses() -> None:
    stage = Stage()
    stage.state = {"owner": "alice", "tenant": "t"}
    job_id = await stage.submitted()
    query = f"/v1/jobs?after=read-{'9' * 18}"
    assert [job["id"] for job in (await stage.ask("GET", query)).json["data"]] == [job_id]
    stage.state = {"owner": "bob", "tenant": "t"}
    assert (await stage.ask("GET", query)).json["data"] == []


async def test_a_list_is_filtered_by_status_and_service() -> None:
    stage = Stage()
    queued, failed, done = (
        await stage.submitted(),
        await settled(stage, "failed"),
        await settled(stage),
    )

    async def ids(query: str) -> set[str]:
        return {job["id"] for job in (await stage.ask("GET", f"/v1/jobs?{query}")).json["data"]}

    assert await ids("status=failed") == {failed}
    assert await ids("status=failed,queued") == {failed, queued}
    assert await ids("status=failed&status=completed") == {failed, done}
    assert await ids("service=default/m") == {queued, failed, done}
    assert await ids("service=default/other") == set()


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("status=running", "status"),
        ("service=m", "service"),
        ("service=a/b/c", "service"),
        ("after=5", "after"),
        ("after=read-0", "after"),
        (f"after=read-{'9' * 19}", "after"),
        ("state=failed", "state"),
        ("status=failed&order=asc", "order"),
    ],
)
async def test_a_query_that_cannot_be_read_is_refused_by_name(query: str, name: str) -> None:
    answer = await Stage().ask("GET", f"/v1/jobs?{query}")
    assert (answer.status, answer.json["reason"]) == (400, "bad-query")
    assert answer.json["error"].startswith(f"{name}: write ")


async def test_a_page_after_a_job_that_is_gone_is_404() -> None:
    assert (await Stage().ask("GET", f"/v1/jobs?after={NOBODY}")).status == 404


async def test_a_page_after_the_job_of_somebody_else_does_not_tell_that_it_is_there() -> None:
    stage = Stage()
    stage.state = {"owner": "alice", "tenant": "t"}
    job_id = await stage.submitted()
    assert (await stage.ask("GET", f"/v1/jobs?after={job_id}")).status == 200
    stage.state = {"owner": "bob", "tenant": "t"}
    assert (await stage.ask("GET", f"/v1/jobs?after={job_id}")).status == 404


async def test_a_client_that_leaves_a_long_list_ends_it() -> None:
    ended: list[str] = []

    class Endless(MemoryJobs):
        async def listed(
            self, wanted: Filter, after: str | int | None = None, *, most: int | None = None
        ) -> AsyncIterator[Seen]:
            try:
                while True:
                    await asyncio.sleep(0)
                yield Seen(None, 0, None, 0)
            finally:
                ended.append("listed")

    stage = Stage(store=Endless(JobSettings(), VirtualClock()))
    call = stage.begin("GET", "/v1/jobs?status=dead")
    await settle()
    assert not call.task.done()
    call.leave()
    await call.task
    assert ended == ["listed"]


# Queues.


async def test_the_queues_say_who_waits_and_who_runs() -> None:
    stage = Stage()
    await stage.submitted({"relume-priority": "low"})
    await stage.submitted()
    await stage.leased(await stage.submitted({"relume-priority": "high"}))
    queues = (await stage.ask("GET", "/v1/queues")).json
    lanes = [
        {"priority": "high", "tenant": "anonymous", "waiting": 1},  # the double sees no lease
        {"priority": "low", "tenant": "anonymous", "waiting": 1},
        {"priority": "normal", "tenant": "anonymous", "waiting": 1},
    ]
    one = {"service": "default/m", "waiting": 3, "running": 1, "paused": False, "lanes": lanes}
    assert queues == {"object": "list", "data": [one]}


async def test_others_see_only_their_own_lanes_and_change_no_queue() -> None:
    stage = Stage()
    for tenant in ("red", "blue"):
        stage.state = {"owner": tenant, "tenant": tenant}
        await stage.submitted()
    queue = (await stage.ask("GET", "/v1/queues")).json["data"][0]
    assert queue["waiting"] == 2 and [lane["tenant"] for lane in queue["lanes"]] == ["blue"]
    for verb in ("pause", "resume", "purge"):
        answer = await stage.ask("POST", f"/v1/queues/default/m/{verb}")
        assert (answer.status, answer.json["reason"]) == (403, "not-allowed")
    assert await stage.store.paused() == frozenset()


async def test_a_queue_is_paused_and_resumed() -> None:
    stage = Stage()
    paused = await stage.ask("POST", "/v1/queues/default/m/pause")
    assert paused.json["paused"] is True and await stage.store.paused() == {SERVICE}
    assert (await stage.ask("GET", "/v1/queues")).json["data"][0]["paused"] is True
    resumed = await stage.ask("POST", "/v1/queues/default/m/resume")
    assert resumed.json["paused"] is False and await stage.store.paused() == frozenset()
    unknown = await stage.ask("POST", "/v1/queues/default/other/pause")
    assert (unknown.status, unknown.json["reason"]) == (404, "service-unknown")


async def test_a_purge_cancels_what_waits_and_nothing_else() -> None:
    store = Racing()
    stage = Stage(store=store)
    waiting = [await stage.submitted() for _ in range(3)]
    running, done = await stage.submitted(), await settled(stage)
    await stage.leased(running)
    # One of them is leased while the queue is purged: the newest comes first.
    lease = Leased(1, "w", stage.clock.now())
    store.before["write"] = lambda: stage.happens(waiting[2], lease)
    answer = await stage.ask("POST", "/v1/queues/default/m/purge")
    assert answer.json == {"object": "queue.purge", "service": "default/m", "cancelled": 2}
    states = [(await store.look(each)).state for each in (*waiting, running, done)]
    assert states == ["cancelled", "cancelled", "leased", "leased", "completed"]
    left = store.listed(Filter(states=("queued",)))
    assert [each async for each in left] == []


async def test_a_store_that_is_away_is_503() -> None:
    class Away(MemoryJobs):
        async def look(self, job_id: str) -> Seen:
            raise StoreUnavailable("away")

    stage = Stage(store=Away(JobSettings(), VirtualClock()))
    for below in ("", "/result", "/events"):
        answer = await stage.ask("GET", f"/v1/jobs/{NOBODY}{below}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_a_queued_job_whose_cancel_came_first_is_never_started() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")
    told = (await stage.ask("GET", f"/v1/jobs/{job_id}")).json
    assert (told["started_at"], told["attempts"], told["reason"]) == (None, 0, "cancelled")
    again = await stage.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert again.json["reason"] == "job-conflict"


# Pages in a browser.

OWN = "127.0.0.1:8080"
FOREIGN_PAGES = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site", "origin": f"http://{OWN}"},
    {"origin": "https://page.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://[bad"},
]
OWN_PAGES = [
    {},
    {"origin": f"http://{OWN}"},
    {"origin": f"http://{OWN}", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]
CHANGES = [
    ("POST", "/v1/jobs/{}/cancel"),
    ("POST", "/v1/jobs/{}/retry"),
    ("DELETE", "/v1/jobs/{}"),
    ("POST", f"/v1/queues/{SERVICE}/pause"),
    ("POST", f"/v1/queues/{SERVICE}/resume"),
    ("POST", f"/v1/queues/{SERVICE}/purge"),
]


@pytest.mark.parametrize("headers", FOREIGN_PAGES)
@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_a_page_of_another_origin_changes_nothing(
    method: str, path: str, headers: dict[str, str]
) -> None:
    stage = Stage()
    job_id = await stage.submitted()
    answer = await stage.ask(method, path.format(job_id), {"host": OWN, **headers})
    assert (answer.status, answer.json["reason"]) == (403, "not-allowed")
    assert (await stage.store.look(job_id)).state == "queued"
    assert not await stage.store.paused()
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}", headers)).status == 200


@pytest.mark.parametrize("headers", OWN_PAGES)
@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_programs_and_pages_of_this_host_change_jobs(
    method: str, path: str, headers: dict[str, str]
) -> None:
    stage = Stage()
    job_id = await settled(stage, "failed")
    answer = await stage.ask(method, path.format(job_id), {"host": OWN, **headers})
    assert answer.status != 403


async def test_the_usual_port_may_be_left_out_of_an_origin_and_of_a_host() -> None:
    for origin, host in (
        ("https://a.example", "a.example:443"),
        ("http://A.example:80", "a.example"),
    ):
        answer = await Stage().ask(
            "POST", f"/v1/queues/{SERVICE}/pause", {"host": host, "origin": origin}
        )
        assert answer.status == 200


async def test_a_caller_with_a_key_may_be_a_page_of_any_origin() -> None:
    stage = Stage()
    stage.state = {"owner": "alice", "tenant": "t"}
    job_id = await stage.submitted()
    headers = {"origin": "https://page.example", "host": OWN, "sec-fetch-site": "cross-site"}
    assert (await stage.ask("POST", f"/v1/jobs/{job_id}/cancel", headers)).status == 200
