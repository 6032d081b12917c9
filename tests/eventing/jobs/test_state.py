"""The settle matrix is the one that eventing/JOBS.md shows, and what a cell does to a record."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.jobs.job import Job, Limits, ServiceName
from relume.eventing.jobs.state import (
    SETTLED,
    AlreadySettled,
    Answering,
    Attempted,
    Cancelled,
    Deleted,
    Ended,
    Happening,
    JobConflict,
    Leased,
    LeaseLost,
    QueueExpired,
    Record,
    Result,
    Settled,
    Usage,
    fence,
    is_shown,
    may_be_attempted,
    may_be_retried,
    next_round,
    round_of,
    step,
)

DOCUMENT = Path(__file__).parents[3] / "eventing" / "JOBS.md"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=5)
JOB = Job(
    id="job_a",
    service=ServiceName("default", "smollm2"),
    route="/v1/chat/completions?secret=1",
    tenant="t",
    owner="o",
    priority="normal",
    limits=Limits(max_attempts=3),
    accepted_at=NOW,
    digest="d",
    event={"id": "1"},
    reply_to="default/default",
)
OF_WORKERS = (Leased, Attempted, Answering, Ended)


def lived(*happenings: Happening, job: Job = JOB) -> Record | None:
    record = None
    for happening in happenings:
        record = step(record, job, happening)
    return record


LEASED = Leased(2, "w", NOW)
TRIED = (LEASED, Attempted(2))
STREAMING = (*TRIED, Answering(2, NOW, 40))
COMPLETED = Ended(2, NOW, "completed", result=Result(200, "text/plain", b"hi"), reply=b"r")


def records(state: str) -> list[tuple[Record | None, Job]]:
    """Every kind of record that a column of the table stands for, with the job of the asker."""
    unanswered = [Ended(2, NOW, each, "why", "said") for each in SETTLED if each != "completed"]
    ends = [lived(*STREAMING, end) for end in (COMPLETED, *unanswered)]
    match state:
        case "queued":
            waiting = [(end, replace(JOB, round=2)) for end in ends if end and may_be_retried(end)]
            return [(None, JOB), *waiting]
        case "leased":
            return [(lived(LEASED), JOB)]
        case "tried":
            taken_over = lived(*STREAMING, Leased(3, "x", NOW))
            assert taken_over is not None
            return [(lived(*TRIED), JOB), (replace(taken_over, generation=2), JOB)]
        case "streaming":
            return [(lived(*STREAMING), JOB)]
        case "completed":
            return [(ends[0], JOB)]
        case "unanswered":
            return [(end, JOB) for end in ends[1:]]
        case "deleted":
            tombs = [step(end, JOB, Deleted(NOW)) for end in ends]
            return [*((tomb, JOB) for tomb in tombs), (tombs[-1], replace(JOB, round=2))]
        case "later round":
            rounds = [lived(*each, job=replace(JOB, round=2)) for each in (TRIED, STREAMING)]
            return [(each, JOB) for each in (*rounds, replace(ends[1] or _never(), round=2))]
    raise ValueError(f"the table has an unknown state {state!r}")


def _never() -> Record:
    raise AssertionError


def leases(name: str, held: int) -> list[Happening]:
    newer, stale = ((held + 1, "x"), (held + 7, "w")), ((held, "w"), (held, "x"), (held - 1, "x"))
    match name:
        case "Leased, newer generation":
            return [Leased(*each, LATER) for each in newer]
        case "Leased and begun at once, newer generation":
            return [Leased(*each, LATER, begins=True) for each in newer]
        case "Leased, same or older generation":
            return [Leased(*each, LATER, begins) for each in stale for begins in (False, True)]
    raise ValueError(f"the table has an unknown row {name!r}")


def happenings(name: str, generation: int) -> list[Happening]:
    """What a row of the table stands for; `generation` is the record's."""
    held, other = generation, (generation - 1, generation + 1)
    otherwise: list[Settled] = [each for each in SETTLED if each != "completed"]
    if name.startswith("Leased"):
        return leases(name, held)
    match name:
        case "Attempted by the holder" | "Attempted by the holder, no attempts left":
            return [Attempted(held)]
        case "Answering, to the holder":
            return [Answering(held, LATER, 3)]
        case "Ended as completed, by the holder":
            return [replace(COMPLETED, generation=held)]
        case "Ended otherwise, by the holder":
            return [Ended(held, LATER, each) for each in otherwise]
        case "Attempted, Answering or Ended, by another":
            return [
                *(Attempted(each) for each in other),
                *(Answering(each, LATER) for each in other),
                *(Ended(each, LATER, state) for each in other for state in SETTLED),
            ]
        case "Cancelled":
            return [Cancelled(LATER, "why")]
        case "QueueExpired, with a newer lease":
            return [QueueExpired(LATER, held + 1)]
        case "QueueExpired, without a lease":
            return [QueueExpired(LATER), *([QueueExpired(LATER, held)] if held else [])]
        case "Deleted":
            return [Deleted(LATER)]
    raise ValueError(f"the table has an unknown row {name!r}")


def outcome(record: Record | None, job: Job, name: str, happening: Happening | None) -> str:
    """What a cell of the table says: the next state, or the name of the error."""
    if name.endswith("no attempts left"):
        job = replace(job, limits=Limits(max_attempts=record.attempt if record else 0))
    try:
        if happening is None:
            assert next_round(record, job, LATER).round == (record.round if record else 0) + 1
            return "queued"
        after = step(record, job, happening)
    except (LeaseLost, JobConflict) as error:
        return f"`{type(error).__name__}`"
    if after.deleted:
        return "deleted"
    if after.settled:
        return "completed" if after.state == "completed" else "unanswered"
    return "tried" if after.state == "leased" and after.attempt else after.state


def table() -> dict[tuple[str, str], str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = re.findall(r"^\| (.*) \|$", text.partition("## The settle matrix")[2], re.MULTILINE)
    rows = [line.split(" | ") for line in lines]
    width = len(rows[0])
    rows = [row for row in rows if len(row) == width]
    return {
        (row[0], state): cell
        for row in rows[1:]
        for state, cell in zip(rows[0][1:], row[1:], strict=True)
    }


CELLS = table()


def test_the_table_has_every_happening_and_every_state() -> None:
    rows = {row for row, _ in CELLS}
    kinds = {type(each) for row in rows - {"Retried"} for each in happenings(row, 2)}
    assert kinds == {*OF_WORKERS, Cancelled, QueueExpired, Deleted}
    states = [record.state for _, name in CELLS for record, _ in records(name) if record]
    assert {*states} == {"leased", "streaming", *SETTLED}
    assert len(CELLS) == len(rows) * 8 == 14 * 8


@pytest.mark.parametrize(("row", "state"), CELLS)
def test_the_table_is_what_the_machine_does(row: str, state: str) -> None:
    for record, job in records(state):
        # A job that waits has no generation yet, whatever its earlier round had.
        generation = record.generation if record and record.round >= job.round else 0
        for happening in [None] if row == "Retried" else happenings(row, generation):
            assert outcome(record, job, row, happening) == CELLS[row, state], (happening, record)


def test_a_worker_is_told_that_it_stops_and_everybody_else_that_it_cannot_be() -> None:
    for row, state in CELLS:
        for record, job in records(state):
            for happening in [] if row == "Retried" else happenings(row, 2):
                try:
                    step(record, job, happening)
                except LeaseLost:
                    assert isinstance(happening, OF_WORKERS)
                except JobConflict as error:
                    # A worker is at fault itself, and its lease is as it was.
                    if isinstance(happening, OF_WORKERS):
                        assert record is not None and not record.settled
                    assert "job_a" in str(error)


def test_the_first_lease_makes_the_record() -> None:
    record = step(None, JOB, Leased(1, "w", LATER))
    assert record == Record(
        id="job_a",
        service=JOB.service,
        route=JOB.route,
        tenant="t",
        owner="o",
        priority="normal",
        digest="d",
        accepted_at=NOW,
        state="leased",
        generation=1,
        worker="w",
        leased_at=LATER,
        request_s=86_400 + 3 * (4_500 + 300) + 86_400 + 7 * 86_400,
        reply_to="default/default",
        event={"id": "1"},
    )


@pytest.mark.parametrize("state", ["queued", "leased", "tried", "streaming"])
def test_a_lease_that_begins_is_a_lease_and_an_attempt(state: str) -> None:
    for record, job in records(state):
        begun = step(record, job, Leased(9, "x", LATER, begins=True))
        assert begun == step(step(record, job, Leased(9, "x", LATER)), job, Attempted(9))
        if record is not None and record.round == job.round and record.attempt:
            once = replace(job, limits=Limits(max_attempts=record.attempt))
            with pytest.raises(JobConflict, match="has no more"):
                step(record, once, Leased(9, "x", LATER, begins=True))


def test_an_answer_its_usage_and_its_reply_are_settled_in_one_record() -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=4, queue_ms=5, run_ms=6)
    record = step(lived(*STREAMING), JOB, replace(COMPLETED, usage=usage, position=9))
    assert (record.result, record.reply, record.position) == (COMPLETED.result, b"r", 9)
    assert record.usage == replace(usage, cold_start_ms=40)
    assert record.settled_at == NOW


def test_no_figure_of_the_usage_goes_down_and_no_position() -> None:
    waited = lived(*STREAMING, Leased(3, "x", NOW), Attempted(3), Answering(3, LATER, 2))
    assert waited is not None
    assert (waited.usage.cold_start_ms, waited.streaming_at) == (42, LATER)
    record = step(replace(waited, position=7), JOB, Ended(3, LATER, "dead", position=5))
    assert (record.usage.cold_start_ms, record.position) == (42, 7)


def test_attempts_are_counted_over_all_workers_of_a_round() -> None:
    record = lived(*STREAMING, Leased(3, "x", NOW), Attempted(3), Attempted(3))
    assert record is not None
    assert (record.attempt, record.state) == (3, "leased")
    assert not may_be_attempted(record, JOB)
    with pytest.raises(JobConflict, match="tried 3 times"):
        step(record, JOB, Attempted(3))


def test_a_retry_waits_and_begins_anew_behind_what_readers_have_seen() -> None:
    cancelled = step(lived(*STREAMING), JOB, Cancelled(NOW, "no", position=6))
    assert cancelled.position == 6
    job = next_round(cancelled, JOB, LATER)
    assert (job.round, job.accepted_at) == (2, LATER)
    assert replace(job, round=1, accepted_at=NOW) == JOB
    record = step(cancelled, job, Leased(1, "x", LATER))
    assert (record.round, record.attempt, record.generation, record.usage) == (2, 0, 1, Usage())
    # The terminal event of round 1 was number 7.
    assert record.position == 7
    assert record.settled_at is None


def test_two_retries_at_once_are_one() -> None:
    failed = lived(*STREAMING, Ended(2, NOW, "failed"))
    job = next_round(failed, JOB, LATER)
    with pytest.raises(JobConflict, match="queued"):
        next_round(failed, job, LATER)


def test_what_was_never_leased_is_not_retried() -> None:
    with pytest.raises(JobConflict, match="queued"):
        next_round(None, JOB, LATER)


def test_an_expired_job_says_whether_it_had_started() -> None:
    waited = lived(QueueExpired(LATER))
    tried = lived(*TRIED, Ended(2, LATER, "expired", "start"))
    assert waited is not None and tried is not None
    assert (waited.reason, waited.started) == ("queue", False)
    assert (tried.reason, tried.started) == ("start", True)


def test_a_tombstone_keeps_the_key_and_the_usage_and_nothing_that_was_said() -> None:
    usage = Usage(3, 4, 5, 6, 7, 8)
    end = replace(COMPLETED, usage=usage, detail="said")
    job = replace(JOB, event={"id": "1", "source": "/s", "subject": "said"})
    settled = lived(*TRIED, end, job=job)
    tomb = step(settled, job, Deleted(LATER))
    assert settled is not None
    assert tomb == replace(
        settled,
        result=None,
        reply=None,
        reply_to=None,
        detail="",
        event={"id": "1", "source": "/s"},
        deleted=True,
    )
    assert tomb.usage == usage
    assert step(tomb, job, Deleted(LATER)) == tomb
    failed = step(lived(*TRIED), JOB, Cancelled(LATER))
    assert may_be_retried(failed)
    assert not may_be_retried(step(failed, JOB, Deleted(LATER)))


def test_a_record_says_how_long_it_is_shown_and_must_be_stored() -> None:
    job = replace(JOB, limits=Limits(10, 20, 30, keep_s=5, max_attempts=2))
    record = lived(*TRIED, Ended(2, NOW, "failed"), job=job)
    assert record is not None
    assert (record.keep_s, record.request_s) == (5, 10 + 2 * (50 + 300) + 5 + 7 * 86_400)
    assert is_shown(record, NOW + timedelta(seconds=4.9))
    assert not is_shown(record, NOW + timedelta(seconds=5))
    assert is_shown(replace(record, settled_at=None), NOW + timedelta(days=999))


@given(*[st.integers(1, 1000)] * 4)
def test_fences_grow_with_rounds_and_with_leases(one: int, two: int, a: int, b: int) -> None:
    first, second = (fence(replace(JOB, round=each), g) for each, g in ((one, a), (two, b)))
    assert (first < second) == ((one, a) < (two, b))
    assert (round_of(first), round_of(second)) == (one, two)


def test_what_is_settled_can_be_deleted_when_its_work_message_is_gone() -> None:
    record = lived(*STREAMING, COMPLETED)
    assert step(record, None, Deleted(LATER)).deleted
    with pytest.raises(JobConflict, match="completed already"):
        step(record, None, Cancelled(LATER))
    with pytest.raises(ValueError, match="neither"):
        step(None, None, Cancelled(LATER))


def test_an_error_names_who_holds_the_job() -> None:
    with pytest.raises(LeaseLost, match="leased to w since") as lost:
        step(lived(LEASED), JOB, Ended(1, NOW, "completed"))
    assert not isinstance(lost.value, AlreadySettled)


figures = st.integers(0, 9)
usages = st.builds(Usage, figures, figures, figures, figures, figures, figures)


@given(usages, usages)
def test_usage_is_never_below_what_was_known(now: Usage, before: Usage) -> None:
    both = now.at_least(before)
    assert both.at_least(now) == both.at_least(before) == both == before.at_least(now)
