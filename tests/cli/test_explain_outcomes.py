"""`relume explain` of every outcome: what each moment is called, and that nothing is missing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.base.vocabulary import ARRIVAL_TIME
from relume.cli.machine import time_spent as parts
from relume.cli.machine.reports import ColdStartReport, EventRecord, Status
from relume.cli.machine.starts import waited_for
from relume.cli.machine.still import still
from relume.cli.machine.time_spent import answered_ms, hints, time_spent, total_ms

START = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = (f"http://127.0.0.1:8080/serving/ns/{name}/v1/chat/completions" for name in "ab")
HOOK = "http://127.0.0.1:9000/"


def at(ms: float) -> str:
    return (START + timedelta(milliseconds=ms)).isoformat()


def record(ms: float, stage: str, id_: str = "1", **more: object) -> EventRecord:
    event = {"id": id_, "type": "t", "source": "/s", **more.pop("event", {})}  # type: ignore[dict-item]
    whole = {"at": at(ms), "stage": stage, "broker": "ns/b", "trigger": "t", "event": event}
    return EventRecord.parse({**whole, **more})


def sent(
    ms: float, to: str = ONE, id_: str = "1", *, came: float = 0, **more: object
) -> EventRecord:
    """A delivery begins of an event that came to its Broker at `came`."""
    return record(ms, "delivering", id_, detail=to, event={ARRIVAL_TIME: at(came)}, **more)


def replied(ms: float, id_: str = "r", to: str = "1", **more: object) -> EventRecord:
    """A delivery ends with an answer; `more` are its attributes."""
    event = {"type": "relume.inference.response", **more}
    return record(ms, "replied", id_, detail=f"to {to}", event=event)


def started(ms: float, service: str = "a", **told: object) -> ColdStartReport:
    """A start whose process was asked for at `ms`."""
    return ColdStartReport.parse({"at": at(ms), "namespace": "ns", "service": service, **told})


FIRST = {"queue": 0.0, "weights": 400.0, "first_token": 50.0, "ready": 500.0, "total": 550.0}
NO_PHASE, WEIGHTS, TOKEN = parts.NO_PHASE, "start: weights", "start: first token"


@pytest.mark.parametrize(
    ("records", "ledger", "spent"),
    [
        pytest.param(
            [record(3, "accepted"), sent(5), replied(905, queuems=0)],
            [],
            {parts.STORING_EVENT: 3, parts.IN_BROKER: 2, parts.AT_SUBSCRIBER: 900},
            id="warm: also the time that the Broker took to store it",
        ),
        pytest.param(
            [record(0, "accepted"), sent(0), replied(900, queuems=300)],
            [],
            {parts.NO_ROOM: 300, parts.AT_SUBSCRIBER: 600},
            id="all replicas were busy",
        ),
        pytest.param(
            [sent(9000), replied(9700, queuems=0)],
            [],
            {parts.EARLIER: 9000, parts.AT_SUBSCRIBER: 700},
            id="the plane was killed: the records of the first attempt are gone",
        ),
        pytest.param(
            [record(0, "accepted"), sent(0), replied(1000, queuems=500, coldstartms=500)],
            [started(-100, **{**FIRST, "ready": 600.0, "weights": 500.0, "total": 650.0})],
            {WEIGHTS: 400, NO_PHASE: 100, TOKEN: 50, parts.AT_SUBSCRIBER: 450},
            id="it joined the start of another request",
        ),
        pytest.param(
            [record(0, "accepted"), sent(0), replied(1000, queuems=0)],
            [started(100, **FIRST)],
            {parts.AT_SUBSCRIBER: 1000},
            id="another replica started while the first one answered",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0, attempt=1), record(200, "retrying", attempt=1)),
                *(sent(1200, attempt=2), replied(1800, queuems=550, coldstartms=500)),
            ],
            [
                started(0, ready=None, ended=200.0, outcome="failed"),
                started(1250, **FIRST),
            ],
            {parts.FAILED_START: 200, parts.BETWEEN: 1000, WEIGHTS: 400, NO_PHASE: 100, TOKEN: 50}
            | {parts.NO_ROOM: 50},
            id="the first start failed, and a second one succeeded",
        ),
        pytest.param(
            [record(0, "accepted"), sent(0), replied(9000, queuems=8600, coldstartms=8500)],
            # The first process was told to stop before its first answer, which it then finished.
            [
                started(-600, ready=500.0, total=8000.0, weights=500.0),
                started(100, memory=8000.0, **{**FIRST, "ready": 8500.0, "total": 8550.0}),
            ],
            {"start: memory": 8000, WEIGHTS: 400, NO_PHASE: 100, TOKEN: 50}
            | {parts.NO_ROOM: 100, parts.AT_SUBSCRIBER: 350},
            id="the first replica drained, and held the memory until then",
        ),
        pytest.param(
            [record(0, "accepted"), sent(0), replied(9000, queuems=8500, coldstartms=8500)],
            [started(0, memory=8000.0, **{**FIRST, "ready": 8500.0, "total": 8550.0})],
            {"start: memory": 8000, WEIGHTS: 400, NO_PHASE: 100, TOKEN: 50}
            | {parts.AT_SUBSCRIBER: 450},
            id="it waited for memory",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0), replied(1000, queuems=500, coldstartms=500)),
                sent(1002, TWO, "r", came=1000),
                replied(2002, "r2", "r", queuems=550, coldstartms=500),
            ],
            [started(0, **FIRST), started(1052, "b", triggered_by="r", **FIRST)],
            {WEIGHTS: 800, NO_PHASE: 200, TOKEN: 100, parts.NO_ROOM: 50, parts.IN_BROKER: 2}
            | {parts.AT_SUBSCRIBER: 850},
            id="a Sequence of two models, and a start of each",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0), record(0, "delivering", trigger="u", detail=TWO)),
                replied(600, queuems=500, coldstartms=500),
                record(700, "replied", "q", trigger="u", detail="to 1", event={"queuems": 600}),
            ],
            [started(0, **FIRST), started(100, "b", **FIRST)],
            {WEIGHTS: 400, NO_PHASE: 150, TOKEN: 100, parts.AT_SUBSCRIBER: 50},
            id="a Parallel whose branches start at the same time",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0), replied(500, queuems=0)),
                *(sent(500, HOOK, "r", attempt=1), record(510, "retrying", "r", attempt=1)),
                *(sent(1510, HOOK, "r", attempt=2), record(1520, "delivered", "r", attempt=2)),
            ],
            [],
            {parts.AT_SUBSCRIBER: 520, parts.BETWEEN: 1000},
            id="the hook that gets the answer was away",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0), record(1000, "dead-lettered", status=504)),
                *(record(61_000, "redriven"), sent(61_002), replied(61_500, queuems=0)),
            ],
            [],
            {parts.AT_SUBSCRIBER: 1498, parts.DEAD: 60_000, parts.IN_BROKER: 2},
            id="a dead letter that was sent again",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0), sent(0, trigger="u")),
                *(record(50, "dead-lettered"), record(100, "delivered", trigger="u")),
                *(record(3000, "redriven"), sent(3000), record(3100, "delivered")),
            ],
            [],
            {parts.AT_SUBSCRIBER: 200, parts.DEAD: 2900},
            id="a dead letter of one of two Triggers, of which the other one ended later",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0), replied(100), record(103, "accepted", "r")),
                record(9000, "duplicate"),
            ],
            [],
            {parts.AT_SUBSCRIBER: 100, parts.IN_BROKER: 3, parts.AGAIN: 8897},
            id="its sender sent it once more when it was answered",
        ),
        pytest.param(
            [record(0, "accepted"), sent(0), replied(900, queuems="1e300")],
            [],
            {parts.AT_SUBSCRIBER: 900},
            id="a subscriber's attribute is no time",
        ),
        pytest.param(
            [record(0, "accepted"), sent(0), replied(900, queuems=500)],
            [started(0, **{**FIRST, "engine": -100.0})],
            {WEIGHTS: 400, NO_PHASE: 100, TOKEN: 50, parts.AT_SUBSCRIBER: 350},
            id="a phase that took less than nothing",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(0, attempt=1)),
                record(400, "delivering", detail="not acknowledged for 0.4 s", attempt=1),
                replied(900, queuems=700),
            ],
            [],
            {parts.NO_ROOM: 700, parts.AT_SUBSCRIBER: 200},
            id="the same attempt is told a second time",
        ),
        pytest.param(
            [
                *(record(0, "accepted"), sent(1), record(3, "delivered")),
                *(
                    record(ms, stage, "job_1", broker="ns/a", trigger=None)
                    for ms, stage in ((3, "queued"), (53, "leased"), (553, "streaming"))
                ),
                record(900, "completed", "job_1", broker="ns/a", trigger=None),
                record(904, "accepted", "r", trigger=None),
            ],
            [started(53, **{**FIRST, "total": 550.0})],
            {parts.IN_BROKER: 1, parts.JOB_QUEUE: 50, WEIGHTS: 400, NO_PHASE: 100, TOKEN: 50}
            | {parts.AT_SUBSCRIBER: 299, parts.STORING: 4},
            id="it became a job",
        ),
    ],
)
def test_each_moment_has_its_name(
    records: list[EventRecord], ledger: list[ColdStartReport], spent: dict[str, float]
) -> None:
    found = time_spent(records, waited_for(records, ledger, None))
    assert {name: round(ms) for name, ms in found.items()} == spent
    assert sum(found.values()) == pytest.approx(total_ms(records))


def test_a_start_that_its_answer_names_is_none_that_came_later() -> None:
    records = [record(0, "accepted"), sent(0, HOOK), replied(900)]
    answer = {"coldstartms": 500, "source": "/namespaces/ns/inferenceservices/a"}
    ledger = [started(10, **FIRST), started(60_000, **FIRST)]
    assert waited_for(records, ledger, answer) == ledger[:1]


STAGES = ("accepted", "delivering", "retrying", "replied", "delivered", "dead-lettered", "redriven")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5000),
            st.sampled_from(STAGES),
            st.sampled_from("tu"),
            st.integers(0, 3000) | st.none(),
        ),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.tuples(st.integers(-2000, 5000), st.integers(0, 3000), st.booleans()), max_size=4),
)
def test_whatever_happened_the_parts_sum_to_the_whole(
    told: Sequence[tuple[int, str, str, int | None]], starts: Sequence[tuple[int, int, bool]]
) -> None:
    records = [
        record(
            ms,
            stage,
            trigger=trigger,
            detail="to 1" if stage == "replied" else ONE,
            event={"queuems": queue_ms, ARRIVAL_TIME: at(-7)},
        )
        for ms, stage, trigger, queue_ms in told
    ]
    ledger = [
        started(ms, weights=took / 2, ended=took)
        if failed
        else started(ms, weights=took / 2, first_token=9.0, ready=took, total=took + 9.0)
        for ms, took, failed in starts
    ]
    found = time_spent(records, ledger)
    assert all(ms > 0 for ms in found.values())
    assert sum(found.values()) == pytest.approx(total_ms(records))


def test_parts_come_in_the_order_in_which_they_were() -> None:
    """The request needs a moment to get to the service, before the start begins."""
    records = [record(0, "accepted"), sent(0), replied(1000, coldstartms=500)]
    found = time_spent(records, [started(4, **FIRST)])
    assert list(found) == [WEIGHTS, NO_PHASE, TOKEN, parts.AT_SUBSCRIBER]


def test_the_time_to_the_first_answer_is_told_beside_the_whole() -> None:
    records = [sent(5), replied(905), sent(906, HOOK, "r"), record(9000, "retrying", "r")]
    assert (answered_ms(records), total_ms(records)) == (905, 9000)
    assert answered_ms(records[::-1]) == 905  # whatever the order in which they were told
    assert answered_ms(records[:1]) is None


def test_what_took_long_and_does_not_explain_itself_is_explained() -> None:
    (hint,) = hints({parts.IN_BROKER: 900.0, parts.BETWEEN: 10.0, parts.AT_SUBSCRIBER: 90.0})
    assert "containerConcurrency" in hint


def status(**service: object) -> Status:
    """A plane with the service a."""
    whole = {"namespace": "ns", "name": "a", **service}
    head = {"version": "1", "pid": 1, "started_at": at(0), "http": "", "broker": ""}
    serving = {"services": [whole]}
    return Status.parse({**head, "state_dir": "", "serving": serving, "eventing": {}})


@pytest.mark.parametrize(
    ("records", "service", "words"),
    [
        (
            [sent(0)],
            {"state": "starting", "phase": "weights", "ready_in_s": 7.2},
            "ready in 7 s",
        ),
        (
            [sent(0)],
            {"state": "starting", "memory": {"waiting_s": 3.0, "waits_for": ["ns/b"]}},
            "waiting for memory that ns/b hold",
        ),
        ([sent(0)], {"state": "ready", "in_flight": 4, "held": 9}, "answers: 4, that wait: 9"),
        ([sent(0)], {"state": "failed", "reason": "no weights"}, "(failed: no weights)"),
        (
            [sent(0), record(1, "retrying"), record(9, "delivered", trigger="u")],
            {"state": "zero"},
            "before its next attempt, for 499 ms",
        ),
        ([sent(0, HOOK)], {"state": "zero"}, "still at the subscriber, for 500 ms"),
        ([sent(0), record(1, "retrying")], {"state": "zero"}, "before its next attempt"),
        ([sent(0), replied(9)], {"state": "ready"}, None),
        ([sent(0), record(9, "dead-lettered")], {"state": "zero"}, None),
        ([sent(0), record(9, "retrying", at="soon")], {"state": "zero"}, None),
    ],
)
def test_an_event_without_an_end_says_what_it_waits_for(
    records: list[EventRecord], service: dict[str, object], words: str | None
) -> None:
    said = still(records, status(**service), START + timedelta(milliseconds=500))
    assert said is None if words is None else said is not None and words in said
