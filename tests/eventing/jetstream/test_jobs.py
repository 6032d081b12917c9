"""What only the durable store of jobs has: a restart, a cluster, and lanes that are removed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from relume.base.clock import SystemClock
from relume.base.testing import VirtualClock
from relume.base.vocabulary import Json
from relume.eventing.event_log import DiskFull, StoreUnavailable
from relume.eventing.jetstream.job_api import Message
from relume.eventing.jetstream.job_chunks import JobChunks
from relume.eventing.jetstream.job_streams import PAYLOADS
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.server import Disk, NatsServer
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Leased, step
from relume.eventing.jobs.store import Filter, JobTooLarge
from tests.contract.test_job_store import (
    LANE,
    NOW,
    fetch,
    job,
    jobs_of,
    lease,
    nothing_more,
    parts,
    take,
)
from tests.eventing.jetstream.nats_accounts import credentials
from tests.eventing.jetstream.nats_cluster import NatsCluster, Node
from tests.ports import own_port

SETTINGS = JobSettings(lease_s=1.0)


@contextlib.asynccontextmanager
async def opened(
    servers: list[str], settings: JobSettings = SETTINGS, **given: object
) -> AsyncIterator[JetStreamJobs]:
    store = await JetStreamJobs.connect(servers, settings, SystemClock(), **given)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


def kill(server: NatsServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


async def test_reading_an_answer_that_is_removed_meanwhile_comes_to_an_end(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server, opened([server.url]) as store:
        api, page = store._api, store._api.page
        await store.append("job_1", parts(1, 2), 0)

        async def removed_before(stream: str, which: Json) -> Sequence[Message]:
            await store.forget("job_1")
            return await page(stream, which)

        api.page = removed_before  # type: ignore[method-assign]
        # Of a cluster the leader is asked which part is the last one.
        chunks = JobChunks(api, replace(SETTINGS, replicas=3))
        async with asyncio.timeout(60):
            assert await chunks.chunks("job_1") == ([], 0)


async def test_everything_waits_for_a_server_that_was_killed(tmp_path: Path) -> None:
    made = job("1")
    async with NatsServer(tmp_path) as server, opened([server.url]) as store:
        await store.submit(made, 5.0)
        _, record, revision = await lease(store, made)
        place = await store.append(made.id, parts(1), 0)
        kill(server)
        new, _ = await store.submit(job("2"), 60.0)
        assert new
        kill(server)
        revision = await store.write(replace(record, worker="b"), revision)
        kill(server)
        place = await store.append(made.id, parts(2), place)
        kill(server)
        assert (await store.look(made.id)).revision == revision
        kill(server)
        assert await store.chunks(made.id) == (parts(1, 2), place)
        kill(server)
        assert len([each async for each in store.listed(Filter())]) == 2
        assert server.restarts == 6


async def test_followers_and_watchers_go_on_after_the_server_was_killed(tmp_path: Path) -> None:
    made = job("1")
    async with NatsServer(tmp_path) as server, opened([server.url]) as store:
        await store.submit(made, 5.0)
        _, record, revision = await lease(store, made)
        followed, watched = store.follow(made.id), store.watch(made.id)
        place = await store.append(made.id, parts(1), 0)
        assert await take(followed, 1) == parts(1)
        assert await take(watched, 1) == [record]
        for position in range(2, 8):
            kill(server)
            reading = asyncio.ensure_future(take(followed, 1))
            changing = asyncio.ensure_future(take(watched, 1))
            place = await store.append(made.id, parts(position), place)
            record = replace(record, position=position)
            revision = await store.write(record, revision)
            assert await reading == parts(position)
            assert await changing == [record]


async def test_a_follower_beside_the_worker_gets_parts_without_a_way_over_nats_server(
    tmp_path: Path,
) -> None:
    made = job("1")
    async with (
        NatsServer(tmp_path) as server,
        opened([server.url]) as here,
        opened([server.url]) as there,
    ):
        followed = here.follow(made.id)
        with here.readers.of(made.id, lambda: None):
            place = await here.append(made.id, parts(1), 0)
            assert await take(followed, 1) == parts(1)
            listening = len(here._api.client._subs)
            for position in range(2, 6):
                place = await here.append(made.id, parts(position), place)
                assert await take(followed, 1) == parts(position)
            assert len(here._api.client._subs) == listening - 1
            # What somebody else has stored in between is not missed.
            place = await there.append(made.id, parts(6), place)
            place = await here.append(made.id, parts(7), place)
            assert await take(followed, 2) == parts(6, 7)
        place = await there.append(made.id, parts(8), place)
        assert await take(followed, 1) == parts(8)
        waiting = asyncio.ensure_future(take(followed, 1))
        await asyncio.sleep(0.1)
        assert len(here._api.client._subs) == listening
        place = await there.append(made.id, parts(9), place)
        assert await waiting == parts(9)
        with there.readers.of(made.id, lambda: None):  # it is no worker of this process
            await there.append(made.id, parts(10), place)
        assert await take(followed, 1) == parts(10)
        await followed.aclose()  # type: ignore[attr-defined]
        assert not here._chunks._followers


async def test_a_submit_that_nobody_answers_says_so(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server, opened([server.url]) as store:
        await store.submit(job("1"), 5.0)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)  # all its threads stand still
        with pytest.raises(StoreUnavailable):
            await store.submit(job("2"), 0.5)
        os.kill(server.pid, signal.SIGCONT)
        # It may have been stored all the same: it is stored once.
        await store.submit(job("2"), 5.0)
        assert len([each async for each in store.listed(Filter())]) == 2


async def test_a_full_disk_takes_no_new_job(tmp_path: Path) -> None:
    full = Disk(tmp_path, reserve_bytes=1 << 60)
    async with NatsServer(tmp_path) as server, opened([server.url], disk=full) as store:
        with pytest.raises(DiskFull):
            await store.submit(job("1"), 5.0)


async def test_a_large_job_needs_a_server_that_takes_it(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server, opened([server.url]) as store:
        assert store.inline_bytes == SETTINGS.inline_bytes
        assert (await store.submit(job("1", body=bytes(store.inline_bytes)), 5.0))[0]


async def test_nothing_is_left_of_a_large_body_that_breaks_off(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(SETTINGS.payload_part_bytes * 3)
        raise ConnectionError

    async with NatsServer(tmp_path) as server, opened([server.url]) as store:
        with pytest.raises(ConnectionError):
            await store.put_payload("job_1", "request", broken())
        assert await store._api.last_at_leader(PAYLOADS, "$O.relume_payloads.>") is None


async def test_lanes_that_nobody_uses_are_removed_and_come_again(tmp_path: Path) -> None:
    settings = replace(SETTINGS, lane_idle_s=0.5, lane_trusted_s=0.1, lanes_listed_s=0.2)
    async with (
        NatsServer(tmp_path) as server,
        opened([server.url], settings) as one,
        opened([server.url], settings) as two,
    ):
        for key in ("1", "2"):
            await one.submit(job(key), 5.0)
        cursor = await two.open_lane(LANE)
        for held in await fetch(cursor, 2):
            await held.settle()
        async with asyncio.timeout(60):
            while await one.lanes(LANE.service) or await two.lanes(LANE.service):
                await asyncio.sleep(0.1)
        # What was done long ago does not come again, and the cursor is still good.
        await asyncio.sleep(0.5)
        await one.submit(job("3"), 5.0)
        assert jobs_of(await fetch(cursor, 1)) == [job("3")]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await cursor.fetch(1)


async def test_the_bound_of_lanes_is_ours_and_a_job_beyond_it_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relume.eventing.jetstream.job_streams.MOST_LANES", 2)
    async with NatsServer(tmp_path) as server, opened([server.url]) as store:
        for number in range(2):
            await store.submit(job(str(number), lane=LANE._replace(tenant=str(number))), 5.0)
        with pytest.raises(StoreUnavailable, match="lanes of tenants") as refused:
            await store.submit(job("2", lane=LANE._replace(tenant="2")), 5.0)
        assert refused.value.reason == "too-many-lanes"
        assert (await store.submit(job("3", lane=LANE._replace(tenant="1")), 5.0))[0]


async def test_a_lane_with_a_job_is_not_removed(tmp_path: Path) -> None:
    settings = replace(SETTINGS, lane_idle_s=0.3, lane_trusted_s=0.1, lanes_listed_s=0.1)
    other = LANE._replace(tenant="b")
    async with NatsServer(tmp_path) as server, opened([server.url], settings) as store:
        await store.submit(job("1"), 5.0)
        await store.submit(job("2", lane=other), 5.0)
        await fetch(await store.open_lane(other), 1)
        await asyncio.sleep(0.9)
        assert await store.lanes(LANE.service) == {LANE: 1, other: 0}


async def test_a_credentials_file_opens_a_server_with_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, file = credentials(tmp_path)
    port = own_port()
    node = Node(tmp_path, "n", port)
    store = f'jetstream {{ store_dir: "{tmp_path}/store" }}'
    node.config.write_text(f'listen: "127.0.0.1:{port}"\n{store}\n{accounts}')
    await node.start()
    try:
        async with opened([node.url], credentials=file) as jobs:
            assert (await jobs.submit(job("1"), 5.0))[0]
            # Such a server takes 1 MiB for a message, where a large body has no room.
            assert jobs.inline_bytes < SETTINGS.inline_bytes
            assert (await jobs.submit(job("2", body=bytes(jobs.inline_bytes)), 5.0))[0]
            with pytest.raises(JobTooLarge):
                await jobs.submit(job("3", body=bytes(SETTINGS.inline_bytes)), 5.0)
        monkeypatch.setattr("relume.eventing.jetstream.jobs._CONNECT_WITHIN_S", 1.0)
        with pytest.raises(StoreUnavailable):
            async with opened([node.url], token="wrong"):
                pass
    finally:
        node.kill()


@pytest.mark.timeout(400)
async def test_a_cluster_loses_one_node_and_then_its_majority(tmp_path: Path) -> None:
    settings = replace(SETTINGS, replicas=3)
    made = job("1")
    async with (
        NatsCluster(tmp_path) as cluster,
        opened(cluster.urls, settings, token=cluster.token) as one,
        opened(cluster.urls[::-1], settings, token=cluster.token) as two,
    ):
        await one.submit(made, 60.0)
        _, record, revision = await lease(one, made)
        place = await one.append(made.id, parts(1), 0)
        followed = two.follow(made.id)
        assert await take(followed, 1) == parts(1)
        for round_, node in enumerate(cluster.nodes, 2):
            node.kill()
            new, _ = await one.submit(job(f"of round {round_}"), 60.0)
            assert new
            place = await one.append(made.id, parts(round_), place)
            record = replace(record, position=round_)
            revision = await one.write(record, revision)
            assert await take(followed, 1) == parts(round_)
            assert (await two.chunks(made.id))[1] == place
            await node.start()
            await cluster.healthy()
        cluster.nodes[0].pause()
        new, _ = await one.submit(job("one node is silent"), 60.0)
        assert new
        cluster.nodes[1].pause()
        with pytest.raises(StoreUnavailable):
            await one.submit(job("two nodes are silent"), 3.0)
        for node in cluster.nodes[:2]:
            node.go_on()
        await cluster.healthy()
        new, _ = await one.submit(job("all are back"), 60.0)
        assert new
        again = step(record, made, Leased(2, "zombie", NOW))
        await two.write(again, revision)
        async with asyncio.timeout(60):
            while (await two.look(made.id)).record != again:
                await asyncio.sleep(0.05)


async def test_a_worker_that_lost_its_lease_does_not_take_the_job_from_the_next(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    async with NatsServer(tmp_path) as server, opened([server.url]) as two:
        one = await JetStreamJobs.connect([server.url], SETTINGS, clock)
        try:
            await one.submit(job("1"), 5.0)
            [old] = await fetch(await one.open_lane(LANE), 1)
            cursor = await two.open_lane(LANE)
            [new] = await fetch(cursor, 1)  # the lease of the first worker ran out
            assert (old.generation, new.generation) == (1, 2)
            await clock.advance(SETTINGS.lease_s)
            await old.extend()  # too late
            await new.extend()
            await old.give_back()
            assert await nothing_more(cursor.fetch(1), 0.5)
            await new.settle()
        finally:
            await one.close()


@pytest.mark.parametrize("late", [False, True])
async def test_what_is_given_back_without_a_connection_is_said_while_the_lease_lasts(
    tmp_path: Path, late: bool
) -> None:
    clock = VirtualClock()
    async with NatsServer(tmp_path) as server, opened([server.url]) as two:
        one = await JetStreamJobs.connect([server.url], SETTINGS, clock)
        try:
            await one.submit(job("1"), 5.0)
            [old] = await fetch(await one.open_lane(LANE), 1)
            client = one._api.client
            client._status = Client.RECONNECTING
            await old.give_back()
            cursor = await two.open_lane(LANE)
            if late:
                [new] = await fetch(cursor, 1)  # the lease of the first worker ran out
                await clock.advance(SETTINGS.lease_s)
            client._status = Client.CONNECTED
            one._lanes._connection_changed()
            await client.flush()
            if late:
                await new.extend()
                assert await nothing_more(cursor.fetch(1), 0.5)
            else:
                [new] = await fetch(cursor, 1)
            await new.settle()
        finally:
            await one.close()


@pytest.mark.parametrize("alone", [False, True])
async def test_what_was_given_back_is_said_again_only_where_nobody_else_may_have_it(
    tmp_path: Path, alone: bool
) -> None:
    async with NatsServer(tmp_path) as server, opened([server.url], alone=alone) as store:
        await store.submit(job("1"), 5.0)
        told: list[bytes] = []

        async def note(message: Msg) -> None:
            told.append(message.data)

        await store._api.client.subscribe("$JS.ACK.>", cb=note)
        cursor = await store.open_lane(LANE)
        [held] = await fetch(cursor, 1)
        await held.give_back()
        await cursor.stop()
        await cursor.confirm()
        await store._api.client.flush()
        assert [each.split()[0] for each in told] == [b"-NAK"] * (2 if alone else 1)
        async with opened([server.url]) as other:
            [again] = await fetch(await other.open_lane(LANE), 1)
            assert again.generation == 2
            await again.settle()
