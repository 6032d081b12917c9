"""What the door holds of requests on their way in is bounded, all producers together."""

import asyncio

import httpx

from relume.cloudevents.http import Mode, encode
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import BrokerStage, event

SETTINGS = EventingSettings(intake_bytes=100_000, small_bytes=1000)


class Half:
    """A body of which the second half comes when the test says so."""

    def __init__(self, half: bytes) -> None:
        self._half = half
        self.half_read, self.go = asyncio.Event(), asyncio.Event()

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        yield self._half
        self.half_read.set()
        await self.go.wait()
        yield self._half


async def test_a_large_request_is_turned_away_while_others_fill_the_door() -> None:
    async with BrokerStage([], settings=SETTINGS) as stage:
        transport = httpx.ASGITransport(stage.plane.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
            slow = Half(bytes(45_000))
            headers, _ = encode(event("slow"), Mode.BINARY)
            posting = asyncio.create_task(
                client.post("/default/b", headers=dict(headers), content=slow)
            )
            await slow.half_read.wait()
            large = await stage.post(event("large", bytes(60_000)))
            assert (large.status_code, large.json()["reason"]) == (503, "too-much-at-once")
            assert large.headers["retry-after"] == "1"
            assert (await stage.post(event("small", bytes(900)))).status_code == 202
            slow.go.set()
            assert (await posting).status_code == 202
            assert (await stage.post(event("large", bytes(60_000)))).status_code == 202
        assert stage.accepted() == 3


async def test_the_door_forgets_what_it_refused() -> None:
    async with BrokerStage([], settings=SETTINGS) as stage:
        for _ in range(3):
            refused = await stage.request("POST", "/default/b", [], bytes(90_000))
            assert refused.status_code == 400
        assert (await stage.post(event("1", bytes(90_000)))).status_code == 202
