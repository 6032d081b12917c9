"""An event from the door through the runner to the sink of its answer, as one."""

import asyncio
import json

import httpx

from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode
from relume.eventing.delivery.outcome import Answered, Outcome
from relume.eventing.envelope import Envelope
from relume.eventing.jobs.events_door import EventsDoor
from relume.eventing.jobs.outbox import Outbox
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.settings import EventingSettings

from .job_stage import SERVICE, JobStage, Predictor
from .test_event_jobs import replying


async def test_an_event_is_answered_once_however_often_it_comes() -> None:
    data = {"text": "x" * 2_000_000}
    posted: list[tuple[str, CloudEvent]] = []

    async def post(
        url: str, envelope: Envelope, *, namespace: str, timeout_s: float | None
    ) -> Outcome:
        posted.append((url, envelope.event))
        return Answered(202)

    async with (
        Predictor(replying("relume.inference.response", data)) as predictor,
        JobStage(predictor) as stage,
    ):
        sinks = Sinks(stage.clock, default="http://sink/", usage="http://usage/")
        door = EventsDoor(
            stage.store,
            lambda service: service == SERVICE,
            sinks.reply_to,
            stage.clock,
            settings=stage.settings,
        )
        outbox = Outbox(
            stage.store,
            sinks,
            None,
            post,
            lambda job_id: f"https://gateway/v1/jobs/{job_id}/result",
            stage.clock,
            EventingSettings(),
        )
        await outbox.open()
        publishing = asyncio.create_task(outbox.run())
        # The tenant is the source, and the stage works for the tenant "t".
        event = CloudEvent.create({"id": "1", "source": "t", "type": "ask"}, b'{"prompt": "Hi"}')
        headers, body = encode(event, Mode.BINARY)
        transport = httpx.ASGITransport(door)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            url = f"/events/{SERVICE}/v1/completions"
            first = await client.post(url, headers=headers, content=body)
            job_id = first.headers["location"].removeprefix("/v1/jobs/")
            await stage.ended(job_id)
            again = await client.post(url, headers=headers, content=body)
        assert (first.status_code, again.status_code) == (202, 202)
        async with asyncio.timeout(60):
            while len(posted) < 2:
                await asyncio.sleep(0.01)
        await stage.passes(60)
        assert len(predictor.calls) == 1
        sent = dict(posted)
        assert len(posted) == 2
        assert sent["http://usage/"].subject == job_id
        reply = sent["http://sink/"]
        assert (reply.id, reply.data) == ("r1", None)
        assert reply.attributes["dataref"] == f"https://gateway/v1/jobs/{job_id}/result"
        record = (await stage.store.look(job_id)).record
        assert record is not None and record.result is not None
        parts = [part async for part in stage.store.payload(record.result.payload or "")]
        assert json.loads(b"".join(parts)) == data
        publishing.cancel()
        await asyncio.wait([publishing])
