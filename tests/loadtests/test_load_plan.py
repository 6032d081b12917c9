"""Stages, and the requests of the open loop."""

import pytest
from load_plan import BadPlan, Plan, bands, plan_of, tenant_of


def planned(shape: str = "bursts", **changed: object) -> Plan:
    options = {"minutes": 4.0, "rate": 1.0, "users": 6, "longest": 320, "seed": 1} | changed
    return plan_of(shape, "conversation", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", ["bursts", "week", "steady"])
def test_every_shape_takes_the_time_that_was_asked_for_and_ends_at_rest(shape: str) -> None:
    plan = planned(shape)
    assert plan.seconds == pytest.approx(240)
    assert plan.stages[-1].rests
    assert plan.stage_at(0) == plan.stages[0]
    assert plan.stage_at(239) == plan.stages[-1]
    assert plan.stage_at(240.001) is None


def test_nothing_is_due_in_a_rest() -> None:
    plan = planned(rate=4.0)
    rests = [(begins, ends) for _, begins, ends, rests in bands(plan.stages) if rests]
    due = [request.due for request in plan.requests()]
    assert len(rests) == 2
    assert len(due) > 100
    assert not any(begins < moment < ends for moment in due for begins, ends in rests)


def test_the_same_seed_plans_the_same_requests_and_another_one_others() -> None:
    assert planned().requests() == planned().requests()
    assert planned().requests() != planned(seed=2).requests()


def test_both_kinds_and_all_tenants_take_part() -> None:
    requests = planned(rate=4.0).requests()
    assert {request.kind for request in requests} == {"event", "chat"}
    assert {request.tenant for request in requests} == {"acme", "globex", "initech"}


@pytest.mark.parametrize(("share", "name"), [(0.0, "acme"), (0.7, "globex"), (0.999, "initech")])
def test_the_tenants_share_all_requests(share: float, name: str) -> None:
    assert tenant_of(share).name == name


def test_a_quiet_night_of_the_week_is_a_rest() -> None:
    plan = plan_of("week", "code", minutes=10, rate=1, users=4, longest=320, seed=1)
    assert sum(stage.rests for stage in plan.stages) > 3


@pytest.mark.parametrize(
    ("changed", "option"),
    [({"minutes": 1.0}, "--minutes"), ({"rate": 0.0, "users": 0}, "--rate and --users")],
)
def test_options_that_make_no_plan_are_named(changed: dict[str, float], option: str) -> None:
    with pytest.raises(BadPlan, match=option):
        planned(**changed)
