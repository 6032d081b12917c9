"""Jobs over real sockets: what only a server and a client together show."""

import asyncio
import gzip
import json
import socket
from collections.abc import Callable

import httpx

from relume.base.clock import SystemClock
from relume.eventing.jobs.state import Answering, Attempted, Ended, Leased, step
from relume.serving.cross_origin import CrossOrigin
from tests.eventing.jobs.door_stage import BODY, CHAT, Stage
from tests.eventing.jobs.test_job_stream import Counting, events
from tests.web.served import serving

HEADERS = {"prefer": "respond-async", "content-type": "application/json"}


class Served(Stage):
    """A stage on the machine's clock, whose store counts readers."""

    def __init__(self) -> None:
        self.counting = Counting()
        super().__init__(store=self.counting)
        self.clock = self.watches._clock = SystemClock()  # type: ignore[assignment]

    async def finish(self, job_id: str, position: int) -> None:
        seen = await self.store.look(job_id)
        assert seen.job is not None
        record, now = seen.record, self.clock.now()
        for happening in (
            Leased(1, "w", now),
            Attempted(1),
            Answering(1, now),
            Ended(1, now, "completed", position=position),
        ):
            record = step(record, seen.job, happening)
        assert record is not None
        await self.store.write(record, seen.revision)


async def until(holds: Callable[[], bool]) -> None:
    """Let everything run until it holds; the timeout of the test is the bound."""
    while not holds():
        await asyncio.sleep(0.001)


async def quiet(count: Callable[[], int]) -> int:
    """What a number is when it has not changed for a while."""
    before = -1
    while count() != before:
        before = count()
        for _ in range(50):
            await asyncio.sleep(0.001)
    return before


async def test_a_job_over_http_from_the_request_to_the_end_of_its_stream() -> None:
    stage = Served()
    async with (
        serving(stage.app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        accepted = await client.post(CHAT, content=BODY, headers=HEADERS)
        assert accepted.status_code == 202
        location = accepted.headers["location"]
        job_id = accepted.json()["id"]
        async with client.stream("GET", f"{location}/events") as stream:
            pieces, text = stream.aiter_text(), ""
            for number in range(3):
                await stage.append(job_id, f"t{number}")
                while f"data: t{number}\n\n" not in text:  # each part comes by itself
                    text += await anext(pieces)
        await until(lambda: stage.counting.follows == 0)
        await stage.finish(job_id, 3)
        rest = await client.get(f"{location}/events", headers={"last-event-id": "1"})
        assert [each[:2] for each in events(rest.text)] == [
            ("message", 2),
            ("message", 3),
            ("completed", 4),
        ]


async def test_a_client_that_does_not_read_holds_little_and_its_leaving_frees_it() -> None:
    stage = Served()
    async with serving(stage.app) as port:
        job_id = await stage.submitted()
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(
            client, f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        await until(lambda: stage.counting.follows == 1)
        size, parts = 100_000, 300
        for _ in range(parts):
            await stage.append(job_id, "x" * size)
        held = await quiet(lambda: stage.counting.read)
        assert 0 < held < parts / 2
        client.close()
        await until(lambda: stage.counting.follows == 0 and stage.watches.count == 0)
        assert stage.api.streams.open == 0


async def test_a_large_body_comes_in_over_http() -> None:
    stage = Served()
    body = json.dumps({"model": "m", "pad": "x" * 3_000_000}).encode()
    async with (
        serving(stage.app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        headers = {**HEADERS, "idempotency-key": "k"}
        accepted = await client.post(CHAT, content=body, headers=headers)
        job = (await stage.store.look(accepted.json()["id"])).job
        assert job is not None and job.payload is not None
        assert b"".join([part async for part in stage.store.payload(job.payload)]) == body
        # The same in gzip is the same request: it is decoded before the door sees it.
        coded = {**headers, "content-encoding": "gzip"}
        again = await client.post(CHAT, content=gzip.compress(body), headers=coded)
        assert (again.status_code, again.json()["id"]) == (202, job.id)


async def test_pages_of_allowed_origins_may_use_the_api() -> None:
    stage = Served()
    app = CrossOrigin(stage.app, (), ["https://page.example"])
    async with (
        serving(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        origin = {"origin": "https://page.example"}
        preflight = {
            **origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "prefer, idempotency-key",
        }
        allowed = await client.options("/v1/jobs", headers=preflight)
        assert allowed.status_code == 200
        accepted = await client.post(CHAT, content=BODY, headers={**HEADERS, **origin})
        assert accepted.status_code == 202
        for answer in (accepted, await client.get("/v1/jobs", headers=origin)):
            assert answer.headers["access-control-allow-origin"] == "https://page.example"
        other = await client.get("/v1/jobs", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
        cancel = f"/v1/jobs/{accepted.json()['id']}/cancel"
        page = {"origin": "https://other.example", "sec-fetch-site": "cross-site"}
        assert (await client.post(cancel, headers=page)).status_code == 403
        page = {**origin, "sec-fetch-site": "cross-site"}
        assert (await client.post(cancel, headers=page)).json()["status"] == "cancelled"
