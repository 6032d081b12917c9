"""`relume explain`: the parts of an event's time sum to the whole of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from relume.cli.machine.reports import ColdStartReport, EventRecord
from relume.cli.machine.time_spent import (
    AT_SUBSCRIBER,
    BETWEEN,
    IN_BROKER,
    NO_PHASE,
    STORING,
    time_spent,
    total_ms,
)
from relume.cli.main import run
from relume.cloudevents.event import CloudEvent
from relume.eventing.observer import Record

from .conftest import StandIn

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(when: float, stage: str, **more: object) -> EventRecord:
    at = (START + timedelta(milliseconds=when)).isoformat()
    event = {"id": "1", "type": "t", "source": "/s"}
    whole = {"at": at, "stage": stage, "broker": "ns/b", "trigger": "t", "event": event}
    return EventRecord.parse({**whole, **more})


def cold(at_ms: float, **phases: float) -> ColdStartReport:
    """A start whose process was asked for at `at_ms`; 100 ms of it are in no phase."""
    told = {"at": (START + timedelta(milliseconds=at_ms)).isoformat(), "service": "it"}
    total = sum(phases.values()) + 100
    return ColdStartReport.parse({**told, **phases, "total": total})


def starts(cold_start: ColdStartReport | None) -> list[ColdStartReport]:
    return [] if cold_start is None else [cold_start]


def test_a_long_answer_is_no_part_of_the_start() -> None:
    whole = {"queue": 2.0, "fork": 20.0, "weights": 480.0, "first_token": 100.0, "ready": 520.0}
    told = {"at": (START + timedelta(milliseconds=8)).isoformat(), "service": "it", "total": 9000.0}
    cold_start = ColdStartReport.parse({**told, **whole})
    assert cold_start.start_ms == 622
    records = [record(0, "accepted"), record(4, "delivering"), record(9004, "replied")]
    parts = time_spent(records, starts(cold_start))
    assert parts[NO_PHASE] == 20
    assert parts[AT_SUBSCRIBER] == 9000 - 622
    assert sum(parts.values()) == 9004


WARM = [record(0, "accepted"), record(4, "delivering"), record(30, "delivered")]
WARM.append(record(33, "replied"))
AT_ZERO = [record(0, "accepted"), record(4, "delivering"), record(2404, "delivered")]
AT_ZERO.append(record(2410, "replied"))
AGAIN = [
    *(record(0, "accepted"), record(2, "delivering"), record(1002, "retrying")),
    *(record(1202, "delivering"), record(3202, "delivered"), record(3210, "replied")),
]
LATER = [record(0, "accepted"), record(1, "delivering"), record(601, "delivered")]


@pytest.mark.parametrize(
    ("records", "cold_start", "parts"),
    [
        (WARM, None, {IN_BROKER: 4, AT_SUBSCRIBER: 26, STORING: 3}),
        (
            AT_ZERO,
            cold(8, queue=2, fork=20, weights=500, engine=1200, first_token=300),
            {
                IN_BROKER: 4,
                "start: queue": 2,
                "start: fork": 20,
                "start: weights": 500,
                "start: engine": 1200,
                "start: first token": 300,
                NO_PHASE: 100,
                AT_SUBSCRIBER: 278,
                STORING: 6,
            },
        ),
        (
            AGAIN,
            cold(4, queue=1, weights=1900),
            {
                IN_BROKER: 2,
                "start: queue": 1,
                "start: weights": 1700,  # 998 ms in the first attempt, 702 ms in the second
                NO_PHASE: 100,
                AT_SUBSCRIBER: 1199,
                BETWEEN: 200,
                STORING: 8,
            },
        ),
        (
            LATER,
            cold(-799, queue=0, weights=1000, engine=100),
            # The start was under way for 800 ms already.
            {IN_BROKER: 1, "start: weights": 200, "start: engine": 100, NO_PHASE: 100}
            | {AT_SUBSCRIBER: 200},
        ),
        (
            [record(0, "accepted"), record(900, "delivered", ms=700.0), record(905, "replied")],
            None,
            {IN_BROKER: 200, AT_SUBSCRIBER: 700, STORING: 5},
        ),
    ],
    ids=["warm", "from zero", "a second attempt", "a start of another request", "without a begin"],
)
def test_each_moment_belongs_to_one_part(
    records: list[EventRecord], cold_start: ColdStartReport | None, parts: dict[str, float]
) -> None:
    found = time_spent(records, starts(cold_start))
    assert {name: round(ms) for name, ms in found.items()} == parts
    assert sum(found.values()) == pytest.approx(total_ms(records))


def test_two_triggers_at_once_are_not_counted_twice() -> None:
    one, other = {"trigger": "one"}, {"trigger": "other"}
    records = [
        *(record(0, "accepted"), record(1, "delivering", **one), record(2, "delivering", **other)),
        *(record(50, "delivered", **one), record(80, "delivered", **other)),
    ]
    assert time_spent(records, []) == {IN_BROKER: 1, AT_SUBSCRIBER: 79}


def test_times_that_cannot_be_read_are_no_parts() -> None:
    assert time_spent([record(0, "accepted"), record(1, "replied", at="soon")], []) == {}


def test_the_command_shows_parts_that_sum_to_the_whole(
    plane: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    event = CloudEvent({"specversion": "1.0", "id": "event-1", "type": "t", "source": "/s"})

    async def happen() -> None:
        for each in AGAIN:
            attempt = Record(at=each.at, stage=each.stage, broker="ns/b", event=event, trigger="t")  # type: ignore[arg-type]
            plane.observer.publish(attempt)

    plane.do(happen())
    assert run(["explain", "event-1", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert sum(said["spent_ms"].values()) == pytest.approx(said["total_ms"]) == pytest.approx(3210)
    assert run(["explain", "event-1"]) == 0
    shown = capsys.readouterr().out
    assert "where the time went" in shown and "between attempts" in shown
