"""The cold-start clock: one page that all processes of a predictor share."""

import json
import os

import pytest

from relume.base.vocabulary import PREDICTOR_PHASES as PHASES
from relume.runtimes.phases import STATES, Phases


def in_a_fork(act: object) -> None:
    """Run `act` in a forked child and wait for it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()  # type: ignore[operator]
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_new_clock_is_loading_and_has_timed_nothing() -> None:
    phases = Phases()
    assert phases.snapshot() == {"state": "loading", "phase": PHASES[0], "phases_ms": {}}


def test_what_a_fork_records_is_seen_by_its_parent() -> None:
    phases = Phases()
    in_a_fork(lambda: (phases.record("weights", 12.34), phases.enter("engine")))
    assert json.loads(phases.to_json()) == {
        "state": "loading",
        "phase": "engine",
        "phases_ms": {"weights": 12.3},
    }


def test_the_steps_of_the_engine_are_counted_from_the_start_of_each_predictor() -> None:
    phases = Phases()
    phases.stepped()
    phases.stepped()
    assert phases.steps == 2
    phases.renew()
    assert phases.steps == 0


def test_what_the_parent_records_is_seen_by_a_fork() -> None:
    phases = Phases()
    read, write = os.pipe()
    done, go = os.pipe()

    def tell() -> None:
        os.read(done, 1)
        os.write(write, phases.state.encode())

    pid = os.fork()
    if pid == 0:
        try:
            tell()
        finally:
            os._exit(0)
    phases.state = "ready"
    os.write(go, b"1")
    assert os.read(read, 100) == b"ready"
    os.waitpid(pid, 0)
    for descriptor in (read, write, done, go):
        os.close(descriptor)


def test_a_fork_that_renews_its_clock_shares_it_no_more() -> None:
    phases = Phases()
    phases.record("import", 5.0)

    def another_predictor() -> None:
        phases.renew()
        assert phases.snapshot() == {"state": "loading", "phase": PHASES[0], "phases_ms": {}}
        phases.state = "draining"
        phases.record("first_token", 1.0)

    in_a_fork(another_predictor)
    assert phases.state == "loading"
    assert phases.get("first_token") is None
    assert phases.get("import") == 5.0


def test_every_phase_and_state_has_its_own_place() -> None:
    phases = Phases()
    for number, name in enumerate(PHASES):
        phases.record(name, float(number))
    for state in STATES:
        phases.state = state
        for name in PHASES:
            phases.enter(name)
            assert (phases.state, phases.snapshot()["phase"]) == (state, name)
    assert [phases.get(name) for name in PHASES] == list(map(float, range(len(PHASES))))


def test_entering_a_phase_never_takes_a_state_back() -> None:
    """The engine core enters phases while the server says ready: neither may undo the other."""
    phases = Phases()
    phases.state = "ready"
    in_a_fork(lambda: [phases.enter(name) for name in PHASES for _ in range(1000)])
    assert phases.state == "ready"


def test_a_phase_that_fails_has_no_duration() -> None:
    phases = Phases()
    with phases.measure("config"):
        pass
    with pytest.raises(RuntimeError), phases.measure("weights"):
        raise RuntimeError
    assert phases.get("config") is not None
    assert phases.get("weights") is None


def test_a_clock_that_runs_backwards_gives_no_negative_duration() -> None:
    phases = Phases()
    phases.record("fork", -3.0)
    assert phases.get("fork") == 0.0
