"""Jobs in `relume up`, without a model: what is accepted, shown, cancelled, told and kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx
import pytest

from relume.base.errors import InvalidInput
from relume.base.testing import VirtualClock
from relume.config import Broker, InferenceService, Plan
from relume.eventing.jobs.job import Job, Limits, ServiceName
from relume.eventing.jobs.state import Answering, Attempted, Ended, Leased, step
from relume.eventing.observer import Observer
from relume.plane.local import LocalPlane, PlaneSettings
from relume.plane.local_jobs import _Serving, _Telling
from relume.runtimes.models.store import ModelStore
from tests.eventing.jobs.loopback import client

if TYPE_CHECKING:
    from relume.serving.plane import ServingPlane

PLAN = Plan(
    services=(InferenceService("ns", "it", model_format="vLLM", storage_uri="hf://org/it"),),
    brokers=(Broker("ns", "b"),),
)
ROUTE = "/serving/ns/it/v1/chat/completions"
CHAT = {"messages": [{"role": "user", "content": "What?"}]}
ASYNC = {"Prefer": "respond-async"}


@asynccontextmanager
async def up(state: Path, plan: Plan = PLAN, usage: str | None = None) -> AsyncIterator[LocalPlane]:
    settings = PlaneSettings(
        state, port=0, broker_port=0, template=False, grace_s=5.0, usage_broker=usage
    )
    async with LocalPlane(plan, settings, ModelStore(state / "models")).running() as plane:
        yield plane


async def paused(http: httpx.AsyncClient) -> None:
    """Let no job be run: there is no model."""
    assert (await http.post("/v1/queues/ns/it/pause")).status_code == 200
    await queue_is(http, paused=True)  # it notices within a second


async def queue_is(http: httpx.AsyncClient, **wanted: object) -> dict[str, object]:
    """The only queue of the plane, once its status says this of it."""
    async with asyncio.timeout(60):
        while True:
            queue: dict[str, object]
            (queue,) = (await http.get("/relume/status")).json()["jobs"]["queues"]
            if queue | wanted == queue:
                return queue
            await asyncio.sleep(0.05)


async def records(http: httpx.AsyncClient) -> list[dict[str, object]]:
    found = []
    async with http.stream("GET", "/relume/events?replay=100") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                found.append(json.loads(line.removeprefix("data:")))
            elif line == ": live":
                break
    return found


async def test_jobs_survive_the_plane_and_are_shown_in_its_status(tmp_path: Path) -> None:
    async with up(tmp_path) as plane, client(plane.http) as http:
        await paused(http)
        job = (await http.post(ROUTE, json=CHAT, headers=ASYNC)).json()
        queue = await queue_is(http, waiting=1)  # queues are counted once a second
        assert (queue["service"], queue["waiting"], queue["paused"]) == ("ns/it", 1, True)
        (listed,) = (await http.get("/v1/queues")).json()["data"]
        assert (listed["service"], listed["waiting"], listed["running"]) == ("ns/it", 1, 0)
    async with up(tmp_path) as plane, client(plane.http) as http:
        again = (await http.get(f"/v1/jobs/{job['id']}")).json()
        assert (again["status"], again["position"]) == ("queued", 1)
        cancelled = await http.post(f"/v1/jobs/{job['id']}/cancel")
        assert cancelled.json()["status"] == "cancelled"


async def test_the_broker_for_usage_gets_one_event_for_a_settled_job(tmp_path: Path) -> None:
    async with up(tmp_path, usage="ns/b") as plane, client(plane.http) as http:
        await paused(http)
        job = (await http.post(ROUTE, json=CHAT, headers=ASYNC)).json()
        await http.post(f"/v1/jobs/{job['id']}/cancel")
        usage: list[dict[str, object]] = []
        async with asyncio.timeout(60):
            while not usage:
                told = [record["event"] for record in await records(http)]
                usage = [e for e in told if e["type"] == "relume.inference.usage"]  # type: ignore[index]
                await asyncio.sleep(0.05)
        (event,) = usage
        assert event["subject"] == job["id"]
        assert event["data"]["billable"] is False  # type: ignore[index]


async def test_other_requests_pass_and_a_plan_without_models_has_no_queues(tmp_path: Path) -> None:
    plan = Plan(brokers=(Broker("ns", "b"),))
    async with up(tmp_path, plan) as plane, client(plane.http) as http:
        assert (await http.get("/v1/queues")).json()["data"] == []
        assert (await http.get("/openai/v1/models")).json()["data"] == []
        refused = await http.post(ROUTE, json=CHAT, headers=ASYNC)
        assert refused.status_code == 404


async def test_a_broker_for_usage_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as failed:
        async with up(tmp_path, usage="ns/none"):
            pass
    assert failed.group_contains(InvalidInput, match="--usage-broker ns/none: no such Broker")


def test_each_attempt_of_a_job_is_told_once_and_names_the_event_that_it_answers() -> None:
    clock, observer = VirtualClock(), Observer()
    telling = _Telling(observer, clock)
    now = clock.now()
    made = Job(
        id="job_1",
        service=ServiceName("ns", "it"),
        route="/",
        tenant="t",
        owner="",
        priority="normal",
        limits=Limits(),
        accepted_at=now,
        digest="d",
        event={"id": "order-1", "source": "/shop", "type": "ask"},
    )
    record = None
    for happening in (
        Leased(1, "w", now),
        Attempted(1),
        Answering(1, now),
        Attempted(1),  # the stream broke off
        Leased(2, "x", now),  # and its worker died
        Attempted(2),
        Answering(2, now),
        Ended(2, now, "completed"),
    ):
        record = step(record, made, happening)
        telling.tell(record)
    told = observer.recent(100)
    assert [(each.stage, each.attempt) for each in told] == [
        ("leased", 1),
        ("streaming", 1),
        ("leased", 2),
        ("leased", 3),
        ("streaming", 3),
        ("completed", 3),
    ]
    assert {each.event.attributes["causationid"] for each in told} == {"order-1"}


class _Cold:
    """A serving plane whose service is in a cold start, as its status says."""

    def __init__(self, phase: str | None, ready_in_s: float | None) -> None:
        name = {"namespace": "ns", "name": "it"}
        self._status = name | {"phase": phase, "ready_in_s": ready_in_s}

    def status(self) -> dict[str, object]:
        return {"services": [self._status]}

    def first_byte_ms(self, namespace: str, name: str) -> float | None:
        return 2200.0 if (namespace, name) == ("ns", "it") else None


@pytest.mark.parametrize(
    "phase, ready_in_s, left_s",
    [
        ("weights", 11.0, 11),
        ("weights", 0.0, 0),
        ("", 11.0, 11),
        ("weights", None, None),
        (None, 11.0, None),
    ],
    ids=["as predicted", "longer than predicted", "no phase yet", "the first one", "none runs"],
)
def test_what_is_left_of_a_cold_start_is_what_serving_predicts(
    phase: str | None, ready_in_s: float | None, left_s: float | None
) -> None:
    serving = cast("ServingPlane", _Cold(phase, ready_in_s))
    name = ServiceName("ns", "it")
    seen = _Serving(serving, {name: PLAN.services[0]})
    assert seen.ready_in_s(name) == left_s
    assert seen.cold_start_ms(name) == 2200
