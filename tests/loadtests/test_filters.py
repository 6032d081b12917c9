"""The benchmark of the filters compares like with like."""

import pytest
from filters import CASES, EVENT, Case, measure

from relume.eventing.filters import all_of

OTHER = EVENT.with_attributes(type="org.other", tenant="umbrella", source="/shops/eu/18")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_filter_and_its_lambda_say_the_same(case: Case) -> None:
    wanted = all_of([case.filter])
    for event in (EVENT, OTHER, EVENT.with_attributes(amount="7")):
        assert wanted(event) is case.same(event)


def test_every_case_is_measured_beside_its_lambda() -> None:
    figures = measure(rounds=1)
    assert [figure.name for figure in figures] == [case.name for case in CASES]
    assert all(len(figure.samples) == len(figure.baseline) == 1 for figure in figures)
    assert {f.target for f in figures if f.name.startswith("exact")} == {"< 5 µs"}
