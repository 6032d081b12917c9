"""The stream of records of the control API: bounded, and never in the way of other requests."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx

from relume.cloudevents.event import CloudEvent
from relume.eventing.envelope import Envelope, identity
from relume.eventing.event_log import BrokerKey
from relume.eventing.observer import WHOLE_BYTES, Observer, Record
from relume.plane.control import MOST_STREAMS, Control

LONG = CloudEvent.create({"id": "1", "source": "/s", "type": "t"}, b"x" * 1_000_000)


def control(observer: Observer, stored: dict[str, Envelope] | None = None) -> Control:
    async def recall(broker: BrokerKey, key: str) -> Envelope | None:
        return (stored or {}).get(f"{broker} {key}")

    return Control(status=dict, cold_starts=list, observer=observer, recall=recall)


class Reader:
    """Reads the stream of records in process, as fast as it is written."""

    def __init__(self, plane: Control, query: str) -> None:
        self.written: list[bytes] = []
        self.status = 0
        self._left = asyncio.Event()
        path = "/relume/events"
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        scope |= {"query_string": query.encode(), "http_version": "1.1"}
        self.task = asyncio.create_task(plane.app(scope, self._receive, self._send))

    async def leave(self) -> None:
        self._left.set()
        await self.task

    async def _receive(self) -> MutableMapping[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.written.append(message.get("body", b""))


async def turns_until(reader: Reader, text: bytes) -> int:
    """How many turns of the event loop others had before the reader had `text`."""
    turns = 0
    while text not in reader.written[-1:]:
        turns += 1
        assert turns < 5000
        await asyncio.sleep(0)
    return turns


async def test_others_have_a_turn_between_the_records_of_a_replay() -> None:
    observer = Observer()
    for _ in range(1000):
        observer.publish(Record("", "accepted", "d/b", LONG))
    for query, lines in (("replay=1000", 1000), ("replay=1000&filter=type = 'other'", 0)):
        reader = Reader(control(observer), query)
        assert await turns_until(reader, b": live\n\n") >= 1000
        assert sum(each.startswith(b"data: ") for each in reader.written) == lines
        assert max(map(len, reader.written)) < WHOLE_BYTES
        await reader.leave()


async def test_others_have_a_turn_between_the_records_of_a_listener_that_has_fallen_behind() -> (
    None
):
    observer = Observer()
    reader = Reader(control(observer), "filter=type = 'other'")
    await turns_until(reader, b": live\n\n")
    last = CloudEvent.create({"id": "last", "source": "/s", "type": "other"})
    for _ in range(500):
        observer.publish(Record("", "accepted", "d/b", LONG))
    observer.publish(Record("", "accepted", "d/b", last))
    turns = 0
    while not reader.written[-1].startswith(b"data: "):
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 500
    await reader.leave()


async def test_there_is_a_bound_for_open_streams_and_a_place_is_free_again() -> None:
    plane = control(Observer())
    readers = [Reader(plane, "") for _ in range(MOST_STREAMS)]
    for reader in readers:
        await turns_until(reader, b": live\n\n")
    one_more = Reader(plane, "")
    await one_more.task
    assert one_more.status == 503
    await readers[0].leave()
    another = Reader(plane, "")
    await turns_until(another, b": live\n\n")
    for reader in [another, *readers[1:]]:
        await reader.leave()


async def test_a_whole_event_is_fetched_by_the_key_of_its_record() -> None:
    key = identity(LONG)
    plane = control(Observer(), {f"default/b {key}": Envelope(LONG, {"x-request-id": "7"})})
    transport = httpx.ASGITransport(plane.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://plane") as client:
        found = await client.get(f"/relume/events/default/b/{key}")
        assert Envelope.unpack(found.content) == Envelope(LONG)
        gone = await client.get("/relume/events/default/b/another")
        assert (gone.status_code, gone.json()["reason"]) == (404, "not-kept")
