"""The weighted round robin over the lanes of a service."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.jobs.fair_share import WEIGHTS, FairShare, served_before
from relume.eventing.jobs.job import PRIORITIES, Priority, ServiceName
from relume.eventing.jobs.store import Lane

SERVICE = ServiceName("default", "smollm2")
MANY = 1_000_000


def lane(tenant: str, priority: Priority = "normal") -> Lane:
    return Lane(SERVICE, priority, tenant)


def share_of(waiting: dict[Lane, int]) -> FairShare:
    share = FairShare()
    for each, count in waiting.items():
        share.waits(each, count)
    return share


def taken(share: FairShare, turns: int) -> list[Lane]:
    return [each for _ in range(turns) if (each := share.take()) is not None]


def test_priorities_share_by_their_weights() -> None:
    share = share_of({lane("a", each): MANY for each in PRIORITIES})
    counts = Counter(each.priority for each in taken(share, 2100))
    assert counts == {"high": 1600, "normal": 400, "low": 100}


def test_a_low_priority_waits_no_longer_than_one_round() -> None:
    share = share_of({lane("a", "high"): MANY, lane("a", "normal"): MANY, lane("b", "low"): 1})
    assert lane("b", "low") in taken(share, sum(WEIGHTS.values()))


def test_tenants_of_one_priority_are_equal_however_much_they_have() -> None:
    share = share_of({lane("flood"): MANY, **{lane(f"t{n}"): 50 for n in range(10)}})
    counts = Counter(each.tenant for each in taken(share, 550))
    assert set(counts.values()) == {50}
    assert len(counts) == 11


def test_what_waits_alone_gets_every_turn() -> None:
    share = share_of({lane("a", "low"): 3})
    assert taken(share, 5) == [lane("a", "low")] * 3
    assert share.take() is None
    assert share.waiting == 0


def test_a_lane_that_was_empty_has_no_credit() -> None:
    share = share_of({lane("a"): MANY, lane("b"): MANY})
    taken(share, 10)
    share.waits(lane("b"), 0)
    assert set(taken(share, 100)) == {lane("a")}
    share.waits(lane("b"), MANY)
    assert Counter(taken(share, 100)) == {lane("a"): 50, lane("b"): 50}


def test_a_priority_that_was_empty_has_no_credit_and_no_debt() -> None:
    share = share_of({lane("a", "low"): MANY, lane("b", "normal"): MANY})
    taken(share, 2)
    share.waits(lane("b", "normal"), 0)
    taken(share, 100)
    share.waits(lane("b", "normal"), MANY)
    counts = Counter(each.priority for each in taken(share, 50))
    assert counts == {"normal": 40, "low": 10}


def test_to_hear_the_same_count_again_changes_no_turn() -> None:
    told, untold = share_of({lane("a"): 9, lane("b"): 9}), share_of({lane("a"): 9, lane("b"): 9})
    assert told.take() == untold.take() == lane("a")
    told.waits(lane("a"), 8)
    told.waits(lane("b"), 9)
    assert taken(told, 8) == taken(untold, 8)


lanes = st.builds(lane, st.sampled_from("abcd"), st.sampled_from(PRIORITIES))


@given(st.dictionaries(lanes, st.integers(1, 30)))
def test_every_waiting_job_has_one_turn(waiting: dict[Lane, int]) -> None:
    share = share_of(waiting)
    assert share.waiting == sum(waiting.values())
    assert Counter(taken(share, 1000)) == waiting


@given(st.dictionaries(lanes, st.just(MANY), min_size=1), st.integers(1, 300))
def test_no_lane_is_ever_far_from_its_share(waiting: dict[Lane, int], turns: int) -> None:
    counts = Counter(taken(share_of(waiting), turns))
    tenants = Counter(each.priority for each in waiting)
    weights = sum(WEIGHTS[priority] for priority in tenants)
    for each in waiting:
        share = turns * WEIGHTS[each.priority] / weights / tenants[each.priority]
        assert abs(counts[each] - share) <= 2


@given(
    st.lists(st.tuples(lanes, st.integers(0, 3)), max_size=40),
    st.lists(st.booleans(), max_size=40),
)
def test_the_same_history_gives_the_same_turns(
    told: list[tuple[Lane, int]], turns: list[bool]
) -> None:
    histories = []
    for _ in range(2):
        share, history = FairShare(), []
        for (each, count), take in zip(told, turns, strict=False):
            share.waits(each, count)
            history.append(share.take() if take else None)
        histories.append(history)
    assert histories[0] == histories[1]


@given(st.dictionaries(lanes, st.integers(1, 40), min_size=1), st.data())
def test_the_predicted_place_is_where_the_job_is_served(
    waiting: dict[Lane, int], data: st.DataObject
) -> None:
    mine = data.draw(st.sampled_from(sorted(waiting)))
    ahead = data.draw(st.integers(0, waiting[mine] - 1))
    order = taken(share_of(waiting), 1000)
    places = [place for place, each in enumerate(order) if each == mine]
    # Off by what a round is uneven: one job for each lane, and one turn of each other weight.
    slack = len(waiting) + sum(WEIGHTS[each] / WEIGHTS[mine.priority] for each in PRIORITIES) * (
        1 + len([each for each in waiting if each.priority == mine.priority])
    )
    assert abs(places[ahead] - served_before(mine, ahead, waiting)) <= slack


def test_the_place_of_a_job_counts_what_is_served_before_it() -> None:
    waiting = {lane("a"): 100, lane("b"): 3, lane("c", "high"): 1000, lane("d", "low"): 1000}
    # 10 of its own lane, 3 of b, four times as many of high, a quarter of low.
    assert served_before(lane("a"), 10, waiting) == 10 + 3 + 56 + 3
    assert served_before(lane("a"), 0, waiting) == 4 + 0
    assert served_before(lane("d", "low"), 0, waiting) == 16 + 4
    assert served_before(lane("new"), 2, {}) == 2
