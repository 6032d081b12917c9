"""What one tenant may have waiting, in jobs and in tokens."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.jobs.admission import Admission
from relume.eventing.jobs.estimates import Estimates
from relume.eventing.jobs.job import Job, Limits, Priority, ServiceName
from relume.eventing.jobs.queues import Queue
from relume.eventing.jobs.quotas import Full, Quotas, tokens_of
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import Lane

SERVICE = ServiceName("default", "smollm2")
RECORD = Record(
    id="job_a",
    service=SERVICE,
    route="/",
    tenant="t",
    owner="",
    priority="normal",
    digest="d",
    accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
    state="completed",
    attempt=1,
)


def lane(tenant: str = "t", priority: Priority = "normal") -> Lane:
    return Lane(SERVICE, priority, tenant)


class Door:
    """Quotas over counts that a test changes; two jobs are settled in a second."""

    def __init__(self, jobs: int = 10, tokens: int = 1000) -> None:
        self.counts: dict[Lane, int] = {}
        estimates = Estimates()
        for number in range(10):
            estimates.settled(RECORD, number / 2, waiting=9)
        self.quotas = Quotas(
            lambda service: {each: n for each, n in self.counts.items() if each.service == service},
            estimates,
            tenant_jobs=jobs,
            tenant_tokens=tokens,
        )

    def accept(self, where: Lane, tokens: int, count: int = 1) -> None:
        for _ in range(count):
            assert self.quotas.check(where, tokens) is None
            self.counts[where] = self.counts.get(where, 0) + 1
            self.quotas.accepted(where, tokens)


def test_a_tenant_may_have_as_many_jobs_waiting_as_the_bound_says() -> None:
    door = Door(jobs=10)
    door.accept(lane(), 1, count=10)
    assert door.quotas.check(lane(), 1) == Full("jobs", 10, 10, 1)
    door.counts[lane()] -= 1
    assert door.quotas.check(lane(), 1) is None


def test_all_priorities_of_a_tenant_at_one_service_count_together_and_nothing_else() -> None:
    door = Door(jobs=10)
    door.accept(lane(priority="high"), 1, count=6)
    door.accept(lane(priority="low"), 1, count=4)
    full = door.quotas.check(lane(), 1)
    assert full is not None and full.what == "jobs"
    assert door.quotas.check(lane("other"), 1) is None
    elsewhere = Lane(ServiceName("default", "minilm"), "normal", "t")
    assert door.quotas.check(elsewhere, 1) is None


def test_tokens_that_wait_are_bounded_too() -> None:
    door = Door(jobs=1000, tokens=1000)
    door.accept(lane(), 300, count=3)
    assert door.quotas.check(lane(), 100) is None
    assert door.quotas.check(lane(), 101) == Full("tokens", 1000, 900, 1)


def test_what_has_left_the_queue_counts_no_more() -> None:
    door = Door(jobs=1000, tokens=1000)
    door.accept(lane(), 900)
    door.accept(lane(), 10, count=3)
    door.counts[lane()] = 3  # the first one was leased
    assert door.quotas.tokens_in(lane(), 3, 0) == 30
    assert door.quotas.check(lane(), 900) is None


def test_a_job_that_is_larger_than_the_bound_is_taken_alone() -> None:
    door = Door(tokens=1000)
    assert door.quotas.check(lane(), 5000) is None
    door.accept(lane(), 5000)
    full = door.quotas.check(lane(), 5000)
    assert full is not None and full.what == "tokens"


def test_jobs_that_other_gateways_accepted_are_taken_for_like_this_one() -> None:
    door = Door(jobs=1000, tokens=1000)
    door.counts[lane()] = 9
    assert door.quotas.check(lane(), 100) is None
    assert door.quotas.check(lane(), 101) == Full("tokens", 1000, 909, 1)


def test_the_time_to_try_again_counts_what_others_have_waiting() -> None:
    door = Door(jobs=10)
    door.accept(lane(), 1, count=10)
    for number in range(30):
        door.counts[lane(f"t{number}")] = 5
    # One of its own and one of each other tenant, two in a second.
    full = door.quotas.check(lane(), 1)
    assert full is not None and full.retry_after_s == 16
    door.counts[lane(priority="low")] = 0
    low = door.quotas.check(lane(priority="low"), 1)
    # Before the turn of a low one come eight of the higher ones.
    assert low is not None and low.retry_after_s == 5


def test_the_message_says_what_is_full_and_when_to_try_again() -> None:
    assert str(Full("jobs", 1000, 1000, 7)) == (
        "1,000 jobs of yours wait at this service, and at most 1,000 may: try again in 7 s"
    )
    assert str(Full("tokens", 10, 12, 7)).startswith("about 12 tokens of yours")


@pytest.mark.parametrize(
    ("size", "request_", "tokens"),
    [
        (400, None, 100),
        (400, {}, 100),
        (400, {"max_tokens": 50}, 150),
        (400, {"max_completion_tokens": 7, "max_tokens": 50}, 107),
        (400, {"max_output_tokens": 9}, 109),
        (400, {"max_tokens": 50, "n": 3}, 250),
        (400, {"max_tokens": None, "n": 3}, 100),
        (400, {"max_tokens": "50"}, 100),
        (400, {"max_tokens": True}, 100),
        (400, {"max_tokens": -5, "n": -1}, 100),
        (400, {"max_tokens": 10**30, "n": 10**30}, 100 + 1_280_000_000),
        (0, None, 0),
    ],
)
def test_tokens_are_a_quarter_of_the_bytes_and_what_the_answer_may_have(
    size: int, request_: dict[str, object] | None, tokens: int
) -> None:
    assert tokens_of(size, request_) == tokens


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=400), st.data())
def test_few_sums_tell_the_newest_sizes_well(sizes: list[int], data: st.DataObject) -> None:
    door = Door()
    for size in sizes:
        door.quotas.accepted(lane(), size)
    jobs = data.draw(st.integers(1, len(sizes)))
    told = door.quotas.tokens_in(lane(), jobs, 0)
    exact = sum(sizes[-jobs:])
    # What is not exact is the share of one sum that is cut: its jobs are few beside the newer ones.
    assert abs(told - exact) <= 100_000 * max(1, jobs // 4)
    assert door.quotas.tokens_in(lane(), len(sizes), 0) == sum(sizes)


def test_beyond_what_is_remembered_the_mean_counts() -> None:
    door = Door()
    for size in (10, 20, 30):
        door.quotas.accepted(lane(), size)
    assert door.quotas.tokens_in(lane(), 6, 99) == 120
    assert door.quotas.tokens_in(lane("other"), 6, 99) == 594


def test_a_million_tenants_take_no_more_memory_than_ten_thousand() -> None:
    door = Door()
    for number in range(10_100):
        door.quotas.accepted(lane(str(number)), 5)
    assert door.quotas.tokens_in(lane("0"), 1, 99) == 99
    assert door.quotas.tokens_in(lane("10099"), 1, 99) == 5
    assert len(door.quotas._sizes) == 10_000


async def test_a_body_that_lies_in_the_object_store_counts_by_its_size() -> None:
    cursor = SimpleNamespace(counts={lane(): 1}, expect=lambda _: None)
    queue = cast(Queue, SimpleNamespace(cursor=cursor))
    admit = Admission(lambda _: queue, Estimates(), JobSettings(tenant_tokens=2000))
    large = Job(
        id="job_1",
        service=SERVICE,
        route="/v1/audio/transcriptions",
        tenant=lane().tenant,
        owner="",
        priority="normal",
        limits=Limits(),
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest="d",
        payload="somewhere",
        size=4000,
    )
    assert await admit(large, None) is None
    assert await admit(replace(large, size=3000), None) is None
    refusal = await admit(replace(large, size=8000), None)
    assert refusal is not None and refusal.reason == "too-many-tokens"
