"""The plane of jobs whole: real servers on loopback, a predictor, and a store in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Scope

from relume.base.clock import SystemClock
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.door import Target
from relume.eventing.jobs.front import JobsFront
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.plane import ClosableJobs, JobsPlane, Neighbours
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.testing import MemoryJobs
from tests.eventing.jobs.loopback import WORDS, Predictor, client, served

IT = ServiceName("ns", "it")
ASYNC = {"Prefer": "respond-async"}
CHAT = {"messages": [{"role": "user", "content": "What?"}]}
ROUTE = "/serving/ns/it/v1/chat/completions"


def resolve(scope: Scope, body: bytes | None) -> Target | None:
    path = scope["path"].removeprefix("/serving/ns/it")
    return None if path == scope["path"] else Target(IT, path)


@dataclass
class Stage:
    """A plane over a store, and what was noticed."""

    url: str
    jobs: JobsPlane
    predictor: Predictor
    http: httpx.AsyncClient
    records: list[Record] = field(default_factory=list)

    async def submit(self, body: object = CHAT, **headers: str) -> dict[str, object]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http.post(ROUTE, json=body, headers=ASYNC | named)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        return dict(answer.json())

    async def job(self, job_id: object, query: str = "") -> dict[str, object]:
        return dict((await self.http.get(f"/v1/jobs/{job_id}{query}")).json())


@asynccontextmanager
async def stage(
    store: ClosableJobs | None = None,
    sinks: Callable[[str], Sinks] | None = None,
    predictor: Predictor | None = None,
    settings: JobSettings | None = None,
) -> AsyncIterator[Stage]:
    clock, settings = SystemClock(), settings or JobSettings()
    store = store or MemoryJobs(settings, clock)
    predictor = predictor or Predictor()
    records: list[Record] = []
    front = JobsFront(PlainTextResponse("behind"))

    async def opened() -> ClosableJobs:
        return store

    async with served(predictor.app) as predictor_url, served(front) as url:
        neighbours = Neighbours(
            service_url=lambda _: predictor_url,
            resolve=resolve,
            result_url=lambda job_id: f"{url}/v1/jobs/{job_id}/result",
        )
        jobs = JobsPlane(
            [IT],
            opened,
            neighbours,
            sinks(predictor_url) if sinks else Sinks(clock),
            front,
            settings=settings,
            clock=clock,
            noticed=records.append,
        )
        await jobs.start()
        try:
            async with client(url) as http:
                yield Stage(url, jobs, predictor, http, records)
        finally:
            predictor.gate.set()
            await jobs.stop(5)


async def test_a_job_is_accepted_run_and_its_answer_is_kept() -> None:
    async with stage() as it:
        job = await it.submit()
        assert (job["status"], job["service"], job["tenant"]) == ("queued", "ns/it", "anonymous")
        it.predictor.gate.set()
        done = await it.job(job["id"], "?wait=60")
        assert (done["status"], done["attempts"]) == ("completed", 1)
        answer = await it.http.get(f"/v1/jobs/{job['id']}/result")
        assert answer.json()["choices"][0]["message"]["content"] == "".join(WORDS)
        assert {record.state for record in it.records} >= {"leased", "streaming", "completed"}
        assert it.jobs.status()["queues"] == [
            {
                "service": "ns/it",
                "waiting": 0,
                "running": 0,
                "paused": False,
                "completed": 1,
                "retried": 0,
                "ended_without_answer": 0,
            }
        ]


async def test_who_waits_is_told_its_place_and_when_it_starts() -> None:
    async with stage(settings=JobSettings(in_flight=1)) as it:
        it.predictor.gate.set()
        first = await it.submit()
        assert (await it.job(first["id"], "?wait=60"))["status"] == "completed"
        it.predictor.gate.clear()
        running, held, *waiting = [await it.submit() for _ in range(5)]
        async with asyncio.timeout(60):
            while (await it.job(running["id"]))["status"] != "streaming":
                await asyncio.sleep(0.02)

        async def counted() -> tuple[int, int]:
            [queue] = (await it.http.get("/v1/queues")).json()["data"]
            return queue["running"], queue["waiting"]

        async with asyncio.timeout(60):  # until one runs, and one is held beside it
            while await counted() != (2, 3):
                await asyncio.sleep(0.02)
        async with asyncio.timeout(60):  # until the plane has noticed how long the first job took
            while (await it.job(waiting[0]["id"]))["predicted_start_s"] is None:
                await asyncio.sleep(0.02)
        shown = [await it.job(each["id"]) for each in (held, *waiting)]
        assert [each["status"] for each in shown] == ["queued"] * 4
        assert [each["position"] for each in shown] == [1, 1, 2, 3]
        starts = [each["predicted_start_s"] for each in shown[1:]]
        assert all(isinstance(each, float) for each in starts) and starts == sorted(starts)  # type: ignore[type-var]
        # The first comment of a stream says the same.
        async with it.http.stream("GET", f"/v1/jobs/{waiting[2]['id']}/events") as stream:
            line = await anext(stream.aiter_lines())
        assert line.startswith(": queued position=3 starts_in=")
        it.predictor.gate.set()
        for each in waiting:
            assert (await it.job(each["id"], "?wait=60"))["status"] == "completed"
        async with asyncio.timeout(60):
            while (await it.http.get("/v1/queues")).json()["data"][0]["running"]:
                await asyncio.sleep(0.02)


async def test_a_store_with_small_messages_keeps_bodies_apart() -> None:
    class Small(MemoryJobs):
        inline_bytes = 100

    store = Small(JobSettings(), SystemClock())
    async with stage(store) as it:
        job = await it.submit({**CHAT, "user": "u" * 200})
        found = (await store.look(str(job["id"]))).job
        assert found is not None and (found.body, bool(found.payload)) == (b"", True)
        it.predictor.gate.set()
        assert (await it.job(job["id"], "?wait=60"))["status"] == "completed"
        record = (await store.look(str(job["id"]))).record
        assert record is not None and record.result is not None and record.result.payload
        answer = await it.http.get(f"/v1/jobs/{job['id']}/result")
        assert answer.json()["choices"][0]["message"]["content"] == "".join(WORDS)


async def test_what_asks_for_no_job_passes() -> None:
    async with stage() as it:
        assert (await it.http.post(ROUTE, json=CHAT)).text == "behind"
        assert (await it.http.get("/serving/ns/it")).text == "behind"


async def test_the_same_key_twice_is_one_generation() -> None:
    async with stage() as it:
        it.predictor.gate.set()
        first = await it.submit(idempotency_key="order-17")
        await it.job(first["id"], "?wait=60")
        headers = {"Prefer": "respond-async, wait=5", "Idempotency-Key": "order-17"}
        again = await it.http.post(ROUTE, json=CHAT, headers=headers)
        assert again.headers["relume-job"] == first["id"]
        assert again.json()["choices"][0]["message"]["content"] == "".join(WORDS)
        other = await it.http.post(ROUTE, json={"messages": []}, headers=headers)
        assert (other.status_code, other.json()["reason"]) == (409, "key-in-use")
        assert len(it.predictor.asked) == 1


async def test_a_stream_shows_every_part_and_ends() -> None:
    async with stage() as it:
        job = await it.submit(CHAT | {"stream": True})
        it.predictor.gate.set()
        events = (await it.http.get(f"/v1/jobs/{job['id']}/events")).text.split("\n\n")
        parts = [each.partition("data: ")[2] for each in events if each.startswith("id: ")]
        words = [json.loads(part)["choices"][0]["delta"].get("content", "") for part in parts]
        assert "".join(words) == "".join(WORDS)
        assert any(each.startswith("event: completed") for each in events)


async def test_a_failure_is_tried_again() -> None:
    async with stage(predictor=Predictor(failures=[503])) as it:
        it.predictor.gate.set()
        job = await it.submit()
        done = await it.job(job["id"], "?wait=60")
        assert (done["status"], done["attempts"]) == ("completed", 2)


async def test_a_running_job_is_cancelled_at_the_predictor() -> None:
    async with stage() as it:
        job = await it.submit(CHAT | {"stream": True})
        while not it.predictor.asked:
            await asyncio.sleep(0.01)
        cancelled = await it.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert cancelled.json()["status"] == "cancelled"
        async with asyncio.timeout(60):
            while not it.predictor.closed:
                await asyncio.sleep(0.01)
        assert it.predictor.closed == 1
        again = await it.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert again.status_code == 409


async def test_a_paused_queue_runs_nothing_until_it_is_resumed() -> None:
    async with stage() as it:
        it.predictor.gate.set()
        assert (await it.http.post("/v1/queues/ns/it/pause")).json()["paused"] is True
        # The process that was asked leases nothing from then on.
        assert it.jobs.status()["queues"][0]["paused"] is True  # type: ignore[index]
        job = await it.submit()
        await asyncio.sleep(0.5)
        shown = await it.job(job["id"])
        assert (shown["status"], shown["position"]) == ("queued", 1)
        await it.http.post("/v1/queues/ns/it/resume")
        assert (await it.job(job["id"], "?wait=60"))["status"] == "completed"


async def test_an_event_is_answered_once_at_the_sink() -> None:
    async with stage(sinks=lambda url: Sinks(SystemClock(), default=f"{url}/sink")) as it:
        it.predictor.gate.set()
        headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/me", "ce-type": "t"}
        for _ in range(2):
            answer = await it.http.post(
                "/events/ns/it/v1/chat/completions", json=CHAT, headers=headers
            )
            assert answer.status_code == 202
            job_id = answer.headers["location"].rpartition("/")[2]
            assert (await it.job(job_id, "?wait=60"))["status"] == "completed"
        async with asyncio.timeout(60):
            while len(it.predictor.asked) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert len(it.predictor.asked) == 2, "the request, and one reply event at the sink"


async def test_a_tenant_that_has_enough_waiting_is_told() -> None:
    async with stage(settings=JobSettings(tenant_jobs=2, in_flight=1)) as it:
        answers = [await it.http.post(ROUTE, json=CHAT, headers=ASYNC) for _ in range(6)]
        refused = [each for each in answers if each.status_code == 429]
        assert refused and refused[0].json()["reason"] == "too-many-jobs"
        assert int(refused[0].headers["retry-after"]) >= 1


async def test_a_job_that_runs_is_ended_within_the_grace_and_the_next_plane_does_the_rest() -> None:
    clock = SystemClock()
    store = MemoryJobs(JobSettings(in_flight=1), clock)
    async with stage(store, settings=JobSettings(in_flight=1)) as it:
        first, second = await it.submit(), await it.submit()
        while not it.predictor.asked:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(it.jobs.stop(5))
        await asyncio.sleep(0.1)
        refused = await it.http.post(ROUTE, json=CHAT, headers=ASYNC)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await it.http.get("/v1/jobs")).status_code == 503
        assert (await it.http.post(ROUTE, json=CHAT)).text == "behind"
        it.predictor.gate.set()
        await stopping
    assert (await store.look(str(first["id"]))).state == "completed"
    assert (await store.look(str(second["id"]))).state == "queued"
    async with stage(store) as it:
        it.predictor.gate.set()
        assert (await it.job(second["id"], "?wait=60"))["status"] == "completed"


async def test_before_the_start_and_without_a_store_nothing_is_accepted() -> None:
    front = JobsFront(PlainTextResponse("behind"))

    async def away() -> ClosableJobs:
        raise StoreUnavailable("nats-server does not answer")

    neighbours = Neighbours(lambda _: "", resolve, lambda _: "")
    jobs = JobsPlane([IT], away, neighbours, Sinks(SystemClock()), front)
    with pytest.raises(StoreUnavailable):
        await jobs.start()
    assert not await jobs.ready()
    async with served(front) as url, client(url) as http:
        answer = await http.post(ROUTE, json=CHAT, headers=ASYNC)
        assert (answer.status_code, answer.json()["reason"]) == (503, "jobs-not-served")
        for path in ("/v1/jobs", "/v1/queues", "/events/ns/it/"):
            assert (await http.get(path)).status_code == 503
        assert (await http.get("/v1/jobsearch")).text == "behind"
    assert jobs.status() == {"queues": [], "unpublished": 0}
