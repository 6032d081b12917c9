"""A retry or a delete that is faster than the publisher loses no event and changes none."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relume.base.clock import SystemClock
from relume.base.testing import settle
from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.outcome import Answered, Outcome, Unanswered
from relume.eventing.envelope import Envelope
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.answers import NotPublished
from relume.eventing.jobs.changes import Changes
from relume.eventing.jobs.job import Job, Limits, ServiceName, digest_of, id_for
from relume.eventing.jobs.outbox import Outbox
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.jobs.state import Attempted, Ended, Leased, Settled, Usage, step
from relume.eventing.jobs.store import JobStore
from relume.eventing.jobs.testing import MemoryJobs
from relume.eventing.settings import EventingSettings
from tests.eventing.jobs.door_stage import Stage

from .test_settled_events import result_url

REPLIES, USAGE = "http://replies/", "http://usage/"
EVENT = {"specversion": "1.0", "id": "1", "source": "/test", "type": "question"}


@pytest.fixture(params=["memory", "jetstream"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[JobStore]:
    # A busy machine may take longer to publish an event than people like to wait for a change.
    monkeypatch.setattr("relume.eventing.jobs.changes.PUBLISHED_WITHIN_S", 60.0)
    settings, clock = JobSettings(lease_s=60.0), SystemClock()
    if request.param == "memory":
        yield MemoryJobs(settings, clock)
        return
    async with NatsServer(tmp_path) as nats:
        opened = await JetStreamJobs.connect([nats.url], settings, clock)
        try:
            yield opened
        finally:
            await opened.close()


class Published:
    """An outbox, and the sinks that it posts to; those in `away` take nothing."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.clock = store, SystemClock()
        self.changes = Changes(store, self.clock)
        self.away: set[str] = set()
        self.events: list[tuple[str, CloudEvent]] = []

    async def post(
        self, url: str, envelope: Envelope, *, namespace: str, timeout_s: float | None
    ) -> Outcome:
        if url in self.away:
            return Unanswered("refused")
        self.events.append((url, envelope.event))
        return Answered(202)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        sinks, settings = Sinks(self.clock, usage=USAGE), EventingSettings()
        outbox = Outbox(self.store, sinks, None, self.post, result_url, self.clock, settings)
        await outbox.open()
        task = asyncio.create_task(outbox.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def settled(
        self, state: Settled = "failed", *, event: bool = True, reply_to: str = REPLIES
    ) -> str:
        """The id of a job that has ended; one that came as an event has a reply to send."""
        service, route, body = ServiceName("default", "m"), "/v1/x", b"{}"
        made = Job(
            id=id_for("", None),
            service=service,
            route=route,
            tenant="t",
            owner="",
            priority="normal",
            limits=Limits(),
            accepted_at=self.clock.now(),
            digest=digest_of(service, route, "application/json", body),
            content_type="application/json",
            body=body,
        )
        if event:
            made = replace(made, event=EVENT, reply_to=reply_to)
        await self.store.submit(made, 5.0)
        await self.ends(made, state)
        return made.id

    async def ends(self, job: Job, state: Settled) -> None:
        now = self.clock.now()
        seen = await self.store.look(job.id)
        record, revision = seen.record, seen.revision
        usage = Usage(3, 4, 1, 1000, 20, 980)
        for happening in (Leased(1, "w", now), Attempted(1), Ended(1, now, state, usage=usage)):
            record = step(record, job, happening)
            revision = await self.store.write(record, revision)

    async def came(self, count: int) -> list[tuple[str, CloudEvent]]:
        """So many events, and no more of them a little later."""
        async with asyncio.timeout(60):
            while len(self.events) < count:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert len(self.events) == count
        return self.events


def usage_of(events: list[tuple[str, CloudEvent]]) -> list[CloudEvent]:
    return [event for url, event in events if url == USAGE]


async def test_a_delete_after_publishing_repeats_the_same_usage_event(store: JobStore) -> None:
    outside = Published(store)
    async with outside.running():
        job_id = await outside.settled()
        await outside.came(2)
        await outside.changes.delete(job_id, "")
        first, second = usage_of(await outside.came(3))
        assert first == second and json.loads(first.data or b"")["route"] == "/v1/x"
        await outside.changes.delete(job_id, "")  # again: nobody is kept waiting for a tombstone


@pytest.mark.parametrize("change", ["retry", "delete"])
async def test_a_change_waits_for_the_publisher(store: JobStore, change: str) -> None:
    outside = Published(store)
    job_id = await outside.settled()
    changing = asyncio.create_task(getattr(outside.changes, change)(job_id, ""))
    await asyncio.sleep(0.3)
    assert not changing.done()
    async with outside.running():
        await changing
        urls = {url for url, _ in outside.events}
        assert urls == {REPLIES, USAGE}


@pytest.mark.parametrize("change", ["retry", "delete"])
async def test_a_change_is_refused_while_a_sink_is_away_and_loses_nothing(
    store: JobStore, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relume.eventing.jobs.changes.PUBLISHED_WITHIN_S", 0.3)
    outside = Published(store)
    outside.away = {REPLIES}
    async with outside.running():
        job_id = await outside.settled()
        before = await store.look(job_id)
        with pytest.raises(NotPublished, match="not published yet"):
            await getattr(outside.changes, change)(job_id, "")
        assert await store.look(job_id) == before
        outside.away = set()
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(NotPublished):
                    await getattr(outside.changes, change)(job_id, "")
                    break
        replies = [event for url, event in outside.events if url == REPLIES]
        assert [event.type for event in replies] == ["relume.inference.error"]


async def test_a_sink_that_is_away_holds_up_no_other_job(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Published(store)
    outside.away = {REPLIES}
    async with outside.running():
        stuck = await outside.settled()
        changed = [await outside.settled(reply_to="http://other/") for _ in range(3)]
        await outside.came(7)  # all but the one reply
        await outside.changes.retry(changed[0], "")
        await outside.changes.delete(changed[1], "")
        assert (await store.look(changed[0])).state == "queued"
        record = (await store.look(changed[1])).record
        assert record is not None and record.deleted
        monkeypatch.setattr("relume.eventing.jobs.changes.PUBLISHED_WITHIN_S", 0.3)
        with pytest.raises(NotPublished):
            await outside.changes.retry(stuck, "")


async def test_each_round_has_its_own_usage_event(store: JobStore) -> None:
    outside = Published(store)
    async with outside.running():
        job_id = await outside.settled()
        seen = await outside.changes.retry(job_id, "")
        assert seen.job is not None and seen.state == "queued"
        await outside.ends(seen.job, "dead")
        events = usage_of(await outside.came(4))
        told: list[Any] = [json.loads(event.data or b"") for event in events]
        assert [(each["round"], each["state"]) for each in told] == [(1, "failed"), (2, "dead")]
        assert len({event.id for event in events}) == 2


async def test_a_delete_of_a_job_without_a_reply_does_not_wait(store: JobStore) -> None:
    outside = Published(store)
    job_id = await outside.settled(event=False)
    await outside.changes.delete(job_id, "")
    async with outside.running():
        [(_, event)] = await outside.came(1)
        told = json.loads(event.data or b"")
        assert (told["state"], told["completiontokens"], told["route"]) == ("failed", 4, "/v1/x")


async def test_the_api_says_why_and_when_to_try_again() -> None:
    stage = Stage()
    job_id = await stage.submitted()
    await stage.leased(job_id)
    await stage.ends(job_id, "failed")
    stage.publishes = True  # and no publisher runs
    call = stage.begin("POST", f"/v1/jobs/{job_id}/retry")
    await settle()
    await stage.clock.advance(3)
    answer = await call.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.json["reason"] == "not-published"
    assert (await stage.ask("GET", f"/v1/jobs/{job_id}")).json["status"] == "failed"
