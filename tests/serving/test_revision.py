"""The revision's state machine: events in, effects out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.serving.revision import (
    MOST_STARTING,
    Abandoned,
    Backoff,
    BecameReady,
    Cancel,
    Drain,
    Evicted,
    Exited,
    FailHeld,
    Forget,
    NoRoom,
    Renewed,
    Revision,
    RevisionEffect,
    RevisionEvent,
    ScaleTo,
    Start,
    State,
    Stopping,
    WakeAt,
    Woke,
)


class Life:
    """A revision and its time."""

    def __init__(self, min_scale: int = 0) -> None:
        self.revision = Revision(min_scale, Backoff())
        self.now = 100.0

    def on(self, *events: RevisionEvent) -> list[RevisionEffect]:
        """Send events; return the effects of the last."""
        effects: list[RevisionEffect] = []
        for event in events:
            effects = self.revision.on(event, self.now)
        return effects

    @property
    def state(self) -> State:
        return self.revision.state


def ready_life(replicas: int = 1, min_scale: int = 0) -> Life:
    life = Life(min_scale)
    life.on(ScaleTo(replicas))
    for number in range(1, replicas + 1):
        life.on(BecameReady(number))
    return life


def test_it_begins_at_zero() -> None:
    assert Life().state is State.ZERO


def test_the_way_up_and_down() -> None:
    life = Life()
    assert life.on(ScaleTo(1)) == [Start(1)]
    assert life.state is State.STARTING
    life.on(BecameReady(1))
    assert life.state is State.READY
    assert life.on(ScaleTo(0)) == [Drain(1, "scaled-down")]
    assert life.state is State.DRAINING
    assert life.on(Exited(1, "drained", 0)) == []
    assert life.state is State.ZERO


def test_the_same_scale_twice_starts_nothing_twice() -> None:
    life = Life()
    life.on(ScaleTo(2))
    assert life.on(ScaleTo(2)) == []


def test_scaling_down_takes_what_loads_before_what_answers_and_the_newest_first() -> None:
    life = ready_life(2)
    life.on(ScaleTo(4))
    assert life.on(ScaleTo(1)) == [
        Cancel(4, "scaled-down"),
        Cancel(3, "scaled-down"),
        Drain(2, "scaled-down"),
    ]


def test_a_request_while_draining_starts_another_replica_at_once() -> None:
    life = ready_life()
    life.on(ScaleTo(0))
    assert life.on(ScaleTo(1)) == [Start(2)]
    assert life.on(Exited(1, "drained", 1)) == []
    assert life.state is State.STARTING


def test_a_predictor_that_dies_while_loading_fails_what_is_held() -> None:
    life = Life()
    life.on(ScaleTo(1))
    assert life.on(Exited(1, "exit 3", 5)) == [FailHeld("exit 3", 1.0), Forget()]
    assert (life.state, life.revision.failure) == (State.FAILED, "exit 3")
    assert life.revision.target == 0


def test_the_next_request_is_held_until_the_back_off_is_over_and_then_tries_again() -> None:
    life = Life()
    life.on(ScaleTo(1), Exited(1, "exit 3", 1))
    assert life.on(ScaleTo(1)) == [WakeAt(101.0)]
    assert life.state is State.FAILED
    life.now = 101.0
    assert life.on(Woke()) == [Start(2)]
    assert life.state is State.STARTING
    assert life.revision.failure is None


def test_the_back_off_doubles_from_one_second_to_sixty() -> None:
    life = Life()
    waits = []
    for number in range(1, 10):
        life.on(ScaleTo(1))
        (failed, _) = life.on(Exited(number, "exit 3", 1))
        assert isinstance(failed, FailHeld)
        waits.append(failed.retry_after_s)
        life.now += failed.retry_after_s
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_one_loading_replica_less_fails_nobody_while_another_may_answer() -> None:
    life = Life()
    life.on(ScaleTo(2))
    assert life.on(Exited(1, "exit 3", 5)) == [WakeAt(101.0)]
    life.on(BecameReady(2))
    assert life.state is State.READY


def test_a_crash_with_nobody_waiting_leaves_the_service_at_zero_with_the_reason() -> None:
    life = ready_life()
    assert life.on(Exited(1, "killed by SIGKILL", 0)) == [Forget()]
    assert (life.state, life.revision.failure) == (State.FAILED, "killed by SIGKILL")
    assert life.on(ScaleTo(1)) == [Start(2)]


def test_a_crash_with_requests_waiting_starts_another_at_once() -> None:
    life = ready_life()
    assert life.on(Exited(1, "killed by SIGKILL", 3)) == [Start(2)]


def test_a_failure_is_forgotten_once_another_replica_became_ready() -> None:
    life = Life()
    life.on(ScaleTo(1), Exited(1, "exit 3", 1), ScaleTo(1))
    life.now += 1
    life.on(Woke(), BecameReady(2), ScaleTo(0), Exited(2, "drained", 0))
    assert life.state is State.ZERO


def test_a_second_crash_soon_after_waits() -> None:
    life = ready_life()
    life.on(Exited(1, "killed", 1), BecameReady(2))
    assert life.on(Exited(2, "killed", 1)) == [WakeAt(101.0)]


def test_a_replica_that_was_ready_for_a_while_ends_the_row_of_failures() -> None:
    life = ready_life()
    life.on(Exited(1, "killed", 1), BecameReady(2))
    life.now += 10
    assert life.on(Exited(2, "killed", 1)) == [Start(3)]


def test_with_a_minimum_the_plane_itself_tries_again() -> None:
    life = Life(min_scale=1)
    life.on(ScaleTo(1, on_demand=False))
    assert life.on(Exited(1, "exit 3", 0)) == [WakeAt(101.0)]
    life.now = 101.0
    assert life.on(Woke()) == [Start(2)]


def test_an_abandoned_load_is_cancelled() -> None:
    life = Life()
    life.on(ScaleTo(2))
    assert life.on(Abandoned()) == [Cancel(2, "abandoned"), Cancel(1, "abandoned"), Forget()]
    assert life.state is State.DRAINING
    assert life.on(Exited(1, "abandoned", 0), Exited(2, "abandoned", 0)) == []
    assert life.state is State.ZERO


@pytest.mark.parametrize("life", [ready_life(), ready_life(min_scale=1)])
def test_what_is_ready_is_not_abandoned(life: Life) -> None:
    assert life.on(Abandoned()) == []


def test_a_load_that_no_request_began_is_not_abandoned() -> None:
    life = Life()
    life.on(ScaleTo(1, on_demand=False))
    assert life.on(Abandoned()) == []


def test_with_a_minimum_nothing_is_abandoned() -> None:
    life = Life(min_scale=1)
    life.on(ScaleTo(3))
    assert life.on(Abandoned()) == []


def test_an_abandoned_back_off_starts_nothing() -> None:
    life = Life()
    life.on(ScaleTo(1), Exited(1, "exit 3", 1), ScaleTo(1))
    assert life.on(Abandoned()) == [Forget()]
    life.now += 10
    assert life.on(Woke()) == []


def test_a_load_that_missed_its_deadline_is_a_failure() -> None:
    life = Life()
    life.on(ScaleTo(1))
    assert life.on(ScaleTo(0, why="timed-out")) == [Cancel(1, "timed-out")]
    life.on(Exited(1, "timed-out", 0))
    assert life.state is State.FAILED


def test_nothing_starts_while_stopping() -> None:
    life = ready_life(min_scale=1)
    assert life.on(Stopping()) == [Drain(1, "shutting-down")]
    for event in (Exited(1, "drained", 4), ScaleTo(1), Woke()):
        assert life.on(event) == []


steps = st.lists(
    st.tuples(
        st.sampled_from(["scale", "ready", "exit", "abandon", "wake", "wait"]), st.integers(0, 4)
    ),
    max_size=60,
)


@given(steps, st.integers(0, 1))
def test_whatever_happens_no_replica_is_started_or_stopped_twice(
    script: list[tuple[str, int]], min_scale: int
) -> None:
    life = Life(min_scale)
    running: dict[int, bool] = {}  # replica: told to stop
    for word, value in script:
        alive = list(running)
        event: RevisionEvent = Woke()
        if word == "scale":
            event = ScaleTo(max(value, min_scale))
        elif word == "ready" and alive:
            event = BecameReady(alive[value % len(alive)])
        elif word == "exit" and alive:
            event = Exited(alive[value % len(alive)], "gone", value)
            del running[event.replica]
        elif word == "abandon":
            event = Abandoned()
        elif word == "wait":
            life.now += value * 10
        for effect in life.on(event):
            if isinstance(effect, Start):
                assert effect.replica not in running
                running[effect.replica] = False
            elif isinstance(effect, Drain | Cancel):
                assert running[effect.replica] is False
                running[effect.replica] = True
        wanted = [n for n, told in running.items() if not told]
        assert len(wanted) <= life.revision.target


def test_an_idle_revision_that_is_evicted_is_at_zero_until_a_request_comes() -> None:
    life = ready_life()
    assert life.on(Evicted((1,), "room", held=0)) == [Drain(1, "room", evicted=True), Forget()]
    assert life.on(Exited(1, "room", 0)) == []
    assert (life.state, life.revision.target) == (State.ZERO, 0)


def test_a_revision_that_is_evicted_with_requests_waiting_asks_for_its_place_again() -> None:
    life = ready_life()
    assert life.on(Evicted((1,), "room", held=3)) == [Drain(1, "room", evicted=True), Start(2)]


def test_one_of_two_replicas_that_is_evicted_is_asked_for_again() -> None:
    life = ready_life(2)
    assert life.on(Evicted((2,), "room", held=0)) == [Drain(2, "room", evicted=True), Start(3)]
    assert life.on(BecameReady(1)) == []


def test_an_end_that_fails_who_waits_is_not_repaired_at_once() -> None:
    life = ready_life()
    effects = life.on(Exited(1, "out of memory", held=2, fails_held=True))
    assert effects == [FailHeld("out of memory", 1.0), Forget()]
    assert life.on(ScaleTo(1)) == [WakeAt(101.0)]


def test_in_a_rollout_a_smaller_scale_takes_the_old_replicas_too() -> None:
    life = ready_life(2)
    life.on(Renewed(), BecameReady(3))  # 3 and 4 are new, and 2 has gone for 3
    assert life.revision.count(State.READY) == 2
    assert life.on(ScaleTo(1)) == [Cancel(4, "scaled-down"), Drain(1, "scaled-down")]


def test_where_there_is_no_room_for_both_the_old_replicas_go() -> None:
    life = ready_life()
    assert life.on(Renewed()) == [Start(2)]
    assert life.on(NoRoom()) == [Drain(1, "replaced")]
    assert life.on(Exited(1, "room", 0)) == []  # the new one waits already
    assert life.on(BecameReady(2)) == []
    assert life.state is State.READY


def test_a_scale_without_measure_starts_so_many_at_once_and_the_others_as_these_are_ready() -> None:
    life = Life()
    assert len(life.on(ScaleTo(1_000_000))) == MOST_STARTING
    assert life.on(BecameReady(1)) == [Start(MOST_STARTING + 1)]
