"""Very many equal jobs put into the queue at once: for tests and measurements of long queues.

What is stored is what a gateway stores of jobs that it has accepted. Only the last message of each
batch is acknowledged, because nats-server stores the messages of one connection in their order. So
a million jobs take a minute or two.
"""

import asyncio
from collections.abc import Sequence

from relume.base.clock import SystemClock
from relume.eventing.jetstream.connection import connect
from relume.eventing.jetstream.job_api import JobApi
from relume.eventing.jetstream.job_streams import WORK, ttl, work_subject
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.store import stored_by
from relume.eventing.jobs.job import Job, Limits, ServiceName, digest_of, id_for
from relume.eventing.jobs.settings import JobSettings, lifetime_s
from relume.eventing.jobs.store import Lane

_BATCH = 250
# So many batches are under way at a time.
_AT_ONCE = 4
_CONNECT_WITHIN_S = 10.0
_STORED_WITHIN_S = 60.0


async def fill(
    servers: Sequence[str], count: int, service: ServiceName, route: str, tenant: str, body: bytes
) -> None:
    """Store `count` jobs with this body, each with an id of its own.

    Raises StoreUnavailable, and AssertionError where nats-server has not stored all of them.
    """
    clock, settings = SystemClock(), JobSettings()
    job = Job(
        id=id_for("", None),
        service=service,
        route=route,
        tenant=tenant,
        owner="",
        priority="normal",
        limits=Limits(),
        accepted_at=clock.now(),
        digest=digest_of(service, route, "application/json", body),
        body=body,
    )
    store = await JetStreamJobs.connect(servers, settings, clock)  # makes streams and the lane
    await store.submit(job, _STORED_WITHIN_S)
    await store.close()
    api = JobApi(clock, settings.store_patience_s)
    await connect(api.store, servers, within_s=_CONNECT_WITHIN_S, listeners=api.listeners)
    try:
        before = await api.last_sequence(WORK)
        starts = iter(range(1, count, _BATCH))

        async def some() -> None:
            for start in starts:
                await _store_batch(api, job, min(_BATCH, count - start))

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(some())
        stored = 1 + await api.last_sequence(WORK) - before
        assert stored >= count, f"{stored} of {count} jobs were stored"
    finally:
        await api.client.close()


async def _store_batch(api: JobApi, job: Job, count: int) -> None:
    lane = Lane(job.service, job.priority, job.tenant)
    like, own = job.to_envelope().pack(), job.id.encode()
    head = {"Nats-Expected-Stream": WORK, **ttl(lifetime_s(job.limits))}
    for left in range(count - 1, -1, -1):
        id_ = id_for("", None)
        subject, payload = work_subject(lane, id_), like.replace(own, id_.encode())
        headers = head | {"Nats-Msg-Id": f"{id_}.1"}
        if left:
            await api.client.publish(subject, payload, headers=headers)
        else:
            [answer] = await api.requests.send_all(
                subject, [(payload, headers)], timeout_s=_STORED_WITHIN_S
            )
            stored_by(answer, len(payload))
