"""The in-process bus of records."""

import asyncio
import json

from relume.eventing.observer import Observer, Record

from .stage import event


def record(number: int) -> Record:
    return Record("2026-01-01T00:00:00.000Z", "accepted", "default/b", event(str(number), b"x"))


async def test_a_listener_gets_what_happens_from_now_on() -> None:
    observer = Observer()
    observer.publish(record(1))
    with observer.subscribe() as records:
        observer.publish(record(2))
        assert (await anext(records)).event.id == "2"
        waiting = asyncio.ensure_future(anext(records))
        await asyncio.sleep(0)
        observer.publish(record(3))
        assert (await waiting).event.id == "3"


async def test_a_replay_comes_first() -> None:
    observer = Observer()
    for number in range(5):
        observer.publish(record(number))
    with observer.subscribe(replay=2) as records:
        observer.publish(record(5))
        assert [(await anext(records)).event.id for _ in range(3)] == ["3", "4", "5"]


async def test_only_the_last_records_are_remembered() -> None:
    observer = Observer(remember=3)
    for number in range(5):
        observer.publish(record(number))
    assert [each.event.id for each in observer.recent(10)] == ["2", "3", "4"]
    assert observer.recent(0) == ()


async def test_a_listener_that_falls_behind_loses_the_oldest_and_holds_nobody_up() -> None:
    observer = Observer()
    with observer.subscribe(room=2) as records:
        for number in range(5):
            observer.publish(record(number))
        assert records.lost == 3
        assert [(await anext(records)).event.id for _ in range(2)] == ["3", "4"]


async def test_closing_ends_the_iteration_of_whoever_waits() -> None:
    observer = Observer()
    records = observer.subscribe()

    async def listen() -> list[Record]:
        return [each async for each in records]

    listening = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    observer.publish(record(1))
    records.close()
    observer.publish(record(2))
    assert [each.event.id for each in await listening] == ["1"]


def test_a_record_is_json_with_the_event_in_its_json_format() -> None:
    full = Record(
        "2026-01-01T00:00:00.000Z",
        "retrying",
        "default/b",
        event("1", b'{"a":1}', datacontenttype="application/json"),
        trigger="t",
        attempt=2,
        status=503,
        ms=1.5,
        detail="status 503",
    )
    assert json.loads(full.to_json()) == {
        "at": "2026-01-01T00:00:00.000Z",
        "stage": "retrying",
        "broker": "default/b",
        "trigger": "t",
        "attempt": 2,
        "status": 503,
        "ms": 1.5,
        "detail": "status 503",
        "event": {
            "specversion": "1.0",
            "id": "1",
            "source": "/test",
            "type": "ask",
            "datacontenttype": "application/json",
            "data": {"a": 1},
        },
    }
