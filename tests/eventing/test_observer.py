"""The in-process bus of records."""

import asyncio
import json

from relume.cloudevents.event import CloudEvent
from relume.eventing.envelope import identity
from relume.eventing.observer import WHOLE_BYTES, Observer, Record

from .stage import event


def record(number: int, data: bytes = b"x") -> Record:
    return Record("2026-01-01T00:00:00.000Z", "accepted", "default/b", event(str(number), data))


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


LONG = b"a" * (WHOLE_BYTES + 1)


def test_a_record_with_long_data_keeps_its_beginning_its_size_and_where_the_rest_is() -> None:
    observer = Observer()
    long = event("1", LONG, subject="s")
    observer.publish(Record("2026-01-01T00:00:00.000Z", "replied", "d/b", long, via="t"))
    [kept] = observer.recent(1)
    assert kept.event == CloudEvent(long.attributes)
    assert json.loads(kept.to_json()) | {"event": None} == {
        "at": "2026-01-01T00:00:00.000Z",
        "stage": "replied",
        "broker": "d/b",
        "trigger": None,
        "attempt": None,
        "status": None,
        "ms": None,
        "detail": None,
        "bytes": len(LONG),
        "begins": "a" * 1024,
        "key": identity(long, "t"),
        "event": None,
    }


def test_data_that_is_not_text_begins_with_replacement_characters() -> None:
    long = Record("", "accepted", "d/b", event("1", b"\xff" + LONG))
    assert long.shortened().begins == "\ufffd" + "a" * 1023


def test_a_record_with_short_data_is_kept_as_it_is() -> None:
    short = Record("", "accepted", "d/b", event("1", LONG[1:]))
    assert short.shortened() is short


def test_the_ring_is_bounded_by_bytes_and_the_newest_record_stays() -> None:
    observer = Observer(remember_bytes=100_000)
    for number in range(50):
        observer.publish(record(number, LONG[1:]))
    kept = observer.recent(1000)
    assert [each.event.id for each in kept] == [str(n) for n in range(50 - len(kept), 50)]
    assert 1 < len(kept) < 7
    observer.publish(Record("", "accepted", "d/b", event("x", subject="s" * 200_000)))
    assert [each.event.id for each in observer.recent(1000)] == ["x"]


async def test_a_listener_that_falls_behind_holds_no_more_than_its_bytes() -> None:
    observer = Observer()
    with observer.subscribe(room_bytes=100_000) as records:
        for number in range(50):
            observer.publish(record(number, LONG[1:]))
        assert records.lost > 40
        assert (await anext(records)).event.id == str(records.lost)
