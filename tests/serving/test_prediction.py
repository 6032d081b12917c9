"""Ready times from the ledger's history."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.serving.ledger import ColdStart, Ledger, read
from relume.serving.prediction import NEWEST, Progress, Subject, first_byte_ms, left_ms, told_ms

SUMMARIZE = Subject("default", "summarize")
PHASES = {"fork": 100.0, "weights": 500.0, "engine": 900.0, "warmup": 400.0}


def start(**changes: object) -> ColdStart:
    """A start by fork that took 2 s until it was ready, 100 ms of them in no phase."""
    whole = ColdStart(
        namespace="default",
        service="summarize",
        revision="summarize-predictor-00001",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        queue=0.0,
        started="template",
        phases=PHASES,
        ready=2000.0,
        total=2100.0,
        outcome="ready",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_without_a_start_to_remember_nothing_is_predicted() -> None:
    assert left_ms([], SUMMARIZE) is None
    assert left_ms([start(outcome="failed"), start(ready=None)], SUMMARIZE) is None
    assert first_byte_ms([], SUMMARIZE) is None


def test_the_median_of_the_own_starts_of_the_same_kind_counts() -> None:
    history = [
        *(start(ready=ready, total=ready + 100) for ready in (1000.0, 2000.0, 9000.0)),
        *(start(service="other", ready=70.0) for _ in range(9)),
        start(started="fresh", ready=8000.0),
    ]
    assert left_ms(history, SUMMARIZE, Progress("template")) == 2000
    assert left_ms(history, SUMMARIZE, Progress("fresh")) == 8000
    assert left_ms(history[:-1], SUMMARIZE) == 2000
    assert first_byte_ms(history[:-1], SUMMARIZE) == 2100


def test_the_newest_start_tells_the_kind_of_the_next_one() -> None:
    history = [start(), start(), start(started="fresh", ready=8000.0)]
    assert left_ms(history, SUMMARIZE) == 8000


def test_a_service_without_starts_is_predicted_from_the_others_of_its_sort() -> None:
    function = start(service="redact", phases={"process": 300.0}, ready=300.0)
    history = [start(service="one"), start(service="two", ready=4000.0), function]
    assert left_ms(history, SUMMARIZE) == 3000
    assert left_ms(history, Subject("default", "prompt", is_model=False)) == 300
    assert left_ms(history, SUMMARIZE, Progress("fresh")) is None


def test_only_the_newest_starts_count() -> None:
    history = [*(start(ready=9000.0) for _ in range(50)), *(start() for _ in range(NEWEST))]
    assert left_ms(history, SUMMARIZE) == 2000


def test_a_phase_that_is_over_counts_as_it_was_and_the_rest_as_it_used_to_be() -> None:
    # The weights took 1,500 ms instead of 500: everything after them is as late.
    progress = Progress("template", 1700.0, "engine", {"fork": 100.0, "weights": 1500.0})
    assert left_ms([start()], SUMMARIZE, progress) == 1300


def test_a_phase_that_takes_longer_than_ever_leaves_what_comes_after_it() -> None:
    progress = Progress("template", 60_000.0, "engine", {"fork": 100.0, "weights": 500.0})
    assert left_ms([start()], SUMMARIZE, progress) == 400
    assert left_ms([start()], SUMMARIZE, replace(progress, phase="first_token")) == 0


def test_a_wait_before_the_process_began_is_no_part_of_a_start() -> None:
    waited = start(ready=9000.0, phases={**PHASES, "memory": 7000.0})
    assert left_ms([waited], SUMMARIZE) == 2000
    assert left_ms([start()], SUMMARIZE, Progress(None, 5000.0, "memory")) == 2000
    assert left_ms([start()], SUMMARIZE, Progress(None, 5500.0, "", {"memory": 5000.0})) == 1500


def test_the_length_of_the_first_answer_is_no_part_of_a_start() -> None:
    long = start(phases={**PHASES, "answer": 1500.0})
    assert left_ms([long], SUMMARIZE) == 2000


def test_the_history_goes_on_where_the_plane_before_has_stopped(tmp_path: Path) -> None:
    path = tmp_path / "coldstarts.jsonl"
    Ledger(path).append(start())
    with path.open("ab") as file:
        file.write(b'{"at": "2026-01-01T0\n[]\n{"namespace": "x"}\n')
    after = Ledger(path)
    after.append(start(ready=4000.0, phases={"process": 3.0}, started=None))
    assert after.entries == after.history[1:]
    assert [entry.ready for entry in after.history] == [2000, 4000]
    assert after.history[0] == start()
    assert [entry.ready for entry in read(path)] == [2000, 4000]


def test_a_change_of_the_model_is_followed_after_two_starts() -> None:
    history = [start() for _ in range(10)]
    history += [start(ready=30_000.0), start(ready=29_000.0)]
    # One start alone may have been an exception: the template was loading, or a disk was slow.
    assert left_ms(history[:-1], SUMMARIZE) == 2000
    assert left_ms(history, SUMMARIZE) == 29_500
    assert left_ms([*history, start(), start()], SUMMARIZE) == 2000


def test_one_start_that_took_long_changes_nothing() -> None:
    history = [*(start() for _ in range(5)), start(ready=12_000.0), *(start() for _ in range(2))]
    assert left_ms(history, SUMMARIZE) == left_ms(history[:-1], SUMMARIZE) == 2000


def test_who_waits_for_memory_is_not_told_a_time() -> None:
    assert told_ms([start()], SUMMARIZE, Progress(None, 5000.0, "memory")) is None
    assert told_ms([start()], SUMMARIZE, Progress(None, 5500.0, "", {"memory": 5000.0})) == 1500


def test_a_template_that_has_to_load_first_is_not_said_to_be_a_moment_away() -> None:
    """The fork waits for it, and no process tells a phase yet."""
    told = [told_ms([start()], SUMMARIZE, Progress(None, s * 1000.0)) for s in range(20)]
    assert told[:4] == [2000, 1000, 0, 0] and set(told[4:]) == {None}
    forked = Progress("template", 20_100.0, "weights", {"fork": 20_000.0})
    assert told_ms([start()], SUMMARIZE, forked) == 1800


@given(
    st.sampled_from(("", "fork", "weights", "engine", "warmup")),
    st.lists(st.floats(0, 60_000), min_size=1, max_size=4),
    st.floats(0, 120_000),
    st.lists(st.floats(1, 10_000), min_size=1, max_size=30),
)
def test_within_a_phase_a_time_only_becomes_less_and_is_not_repeated_for_ever(
    phase: str, took: list[float], elapsed: float, steps: list[float]
) -> None:
    history = [start(ready=ms, phases={**PHASES, "weights": ms / 2}) for ms in took]
    names = list(PHASES)
    before = names[: names.index(phase)] if phase in names else []
    over = {name: PHASES[name] for name in before}
    last, since = told_ms(history, SUMMARIZE, Progress("template", elapsed, phase, over)), elapsed
    for step in steps:
        elapsed += step
        told = told_ms(history, SUMMARIZE, Progress("template", elapsed, phase, over))
        if told is None:
            last = None
            continue
        assert last is not None and 0 <= told <= last
        if told < last:
            last, since = told, elapsed
        else:
            assert elapsed - since <= max(told, 1000.0) + 1 + step


@pytest.fixture
def ready_times(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The benchmark that replays recorded starts."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2] / "loadtests")])
    import ready_times

    return ready_times


def test_recorded_starts_are_predicted_within_fifteen_percent(ready_times) -> None:  # type: ignore[no-untyped-def]
    """Each of them from all the others, before it begins and after each of its phases."""
    entries = read(ready_times.RECORDED)
    found = ready_times.errors(entries)
    assert len(found[ready_times.BEFORE]) >= 30
    print({name: f"{median(errors):.1%}" for name, errors in found.items()})
    for name, errors in found.items():
        assert median(errors) < ready_times.TARGET, name
