"""The manifests of cluster/examples, which cluster/DOCTOR.md shows: one failing, one mended."""

from pathlib import Path

import pytest

from relume.cluster.claims import documents
from relume.cluster.claims.lints import lint
from relume.cluster.doctor import examine
from relume.cluster.findings import Finding

EXAMPLES = Path(__file__).parents[3] / "cluster" / "examples"
OF_DRIVERS = {
    "device-told",
    "fabric-partition",
    "list-attribute",
    "memory-not-divided",
    "mps-with-shares",
    "pool-stays-at-zero",
    "resource-without-class",
    "time-slicing-alone",
    "tolerates-everything",
    "tpu-part-of-node",
    "unhealthy-device",
}
each = pytest.mark.parametrize("reason", sorted(path.name for path in EXAMPLES.iterdir()))


def found(reason: str, name: str) -> list[Finding]:
    read = examine([EXAMPLES / reason / f"{name}.yaml"])
    assert not any(one.verdict in ("refused", "pruned") for one in read)
    return [finding for one in read for finding in one.findings]


def test_every_reason_of_the_drivers_has_examples() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} >= OF_DRIVERS


@each
def test_the_doctor_finds_it_in_the_first_and_not_in_the_second(reason: str) -> None:
    failing = [one for one in found(reason, "failing") if one.reason == reason]
    assert failing and all(one.line and one.field and one.fix for one in failing)
    mended = found(reason, "fixed")
    assert reason not in {one.reason for one in mended}
    assert "error" not in {one.severity for one in mended}


@pytest.mark.parametrize("reason", sorted(OF_DRIVERS))
def test_claims_explain_says_it_too(reason: str) -> None:
    for name, expected in (("failing", True), ("fixed", False)):
        read = documents.read(EXAMPLES / reason / f"{name}.yaml")
        assert (reason in {finding.reason for _, finding in lint(read)}) == expected
