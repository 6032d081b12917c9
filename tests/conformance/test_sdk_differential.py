"""Where we and the SDK's versions disagree, the checked-in table says so and names the clause."""

import pytest

from .conftest import Count
from .differential import DOCUMENT, document, ours
from .probes import PROBES
from .sdk_versions import run_with_sdk


def test_the_table_of_disagreements_is_current(conformance_count: Count) -> None:
    text = document()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    decided = sum(any(probe.clause in row[-1] for probe in PROBES) for row in rows)
    conformance_count("disagreements with the SDKs that a clause decides", decided, len(rows))
    assert decided == len(rows)
    assert DOCUMENT.read_text() == text, "run python -m tests.conformance.differential"


@pytest.mark.parametrize("demand", ["required", "must be rejected", "must not be present"])
def test_what_a_clause_demands_to_be_refused_we_refuse(demand: str) -> None:
    probes = [probe for probe in PROBES if probe.clause.endswith(demand)]
    assert probes
    assert {ours(probe) for probe in probes} == {"refused"}


def test_conversions_hold_with_version_2_of_the_sdk() -> None:
    options = ("-q", "-p", "no:cacheprovider")
    printed = run_with_sdk(2, "-m", "pytest", *options, "tests/cloudevents/test_sdk.py")
    assert "18 passed" in printed
