"""A trial that comes to no rest says what it waits for."""

import json
from pathlib import Path

from nats.js.api import AckPolicy, ConsumerConfig

from tests.jobs_outside.checker import JOBS, WORK, Accepted
from tests.jobs_outside.nats_cluster import NatsCluster
from tests.jobs_outside.unrest import UNSENT, unrest

SUBJECTS = {WORK: "relume.work.>", JOBS: "relume.job.*", UNSENT: "relume.unsent.>"}


async def test_it_tells_of_each_job_that_is_left_and_of_who_should_bring_it_on(
    tmp_path: Path,
) -> None:
    async with NatsCluster(tmp_path, 1) as cluster:
        async with cluster.client() as client:
            jetstream = client.jetstream()
            for stream, subject in SUBJECTS.items():
                await jetstream.add_stream(name=stream, subjects=[subject], allow_direct=True)
            lane = ConsumerConfig(durable_name="a_lane", ack_policy=AckPolicy.EXPLICIT)
            await jetstream.add_consumer(WORK, lane)
            for job in ("waits", "runs", "done"):
                await jetstream.publish(f"relume.work.s.normal.t.{job}", b"{}")
            for job, state in (("runs", "streaming"), ("done", "completed")):
                record = {"id": job, "state": state, "generation": 3, "worker": "w1"}
                await jetstream.publish(f"relume.job.{job}", json.dumps(record).encode() + b"\n")
            pulled = await jetstream.pull_subscribe_bind("a_lane", WORK)
            await pulled.fetch(1)
        told = await unrest(
            cluster.urls, [Accepted(each, "") for each in ("waits", "runs", "done")]
        )
        cluster.nodes[0].kill()
        silent = await unrest(cluster.urls, [Accepted("waits", "")])
    assert "consumer a_lane of relume_work: 2 were never given out, 1 are on lease" in told
    assert "waits: its work message lies at 1, and nobody has leased it" in told
    assert "runs: its work message lies at 2; state streaming, " in told
    assert "generation 3, " in told and "worker w1" in told
    assert "done" not in told and "2 accepted jobs have not settled" in told
    assert "nats-server does not answer" in silent
