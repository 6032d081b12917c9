"""Several workloads in one file: each alone, and beside the others."""

from pathlib import Path

import pytest

from relume.cluster.claims import documents
from relume.cluster.claims.explain import ClaimReport, explain
from tests.cluster.claims.building import (
    INVENTORIES,
    Json,
    claim,
    device,
    device_class,
    document,
    request,
    resource_slice,
)

ONE = [resource_slice("n1", [device("gpu-0")])]
TWO = [resource_slice("n1", [device("gpu-0")]), resource_slice("n2", [device("gpu-0")])]


def template(name: str, *requests: Json) -> Json:
    made = claim(*requests, name=name)
    spec = made["spec"]
    return {**made, "kind": "ResourceClaimTemplate", "spec": {"spec": spec}}


def reports(asked: list[Json], inventory: list[Json] | Path) -> list[ClaimReport]:
    if isinstance(inventory, Path):
        there = list(documents.read(inventory))
    else:
        there = [document(one) for one in (*inventory, device_class())]
    found = explain([document(one) for one in asked], there)
    assert {one.answer for one in found} == {"satisfiable"}
    return found


@pytest.mark.parametrize(
    ("inventory", "waits"), [(ONE, True), (TWO, False)], ids=["one device", "two devices"]
)
def test_two_that_fit_alone_may_not_fit_at_once(inventory: list[Json], waits: bool) -> None:
    first, second = reports([template("a", request()), template("b", request())], inventory)
    assert first.beside == ""
    assert ("in use by ResourceClaimTemplate default/a" in second.beside) == waits
    assert bool(second.beside) == waits


def test_who_only_looks_on_takes_nothing() -> None:
    watching = template("a", request(adminAccess=True))
    _, second = reports([watching, template("b", request())], ONE)
    assert second.beside == ""


def test_partitions_of_one_card_are_counted_together() -> None:
    """An A100 is one 7g.40gb or several smaller ones; the inventory has two cards."""

    def partition(name: str, profile: str, count: int) -> Json:
        asked = request(deviceClassName=f"llm-mig-{profile}", count=count)
        return template(name, asked)

    whole = partition("whole", "7g-40gb", 1)
    asked = [whole, partition("small", "1g-5gb", 7), {**whole, "metadata": {"name": "other"}}]
    first, second, third = reports(asked, INVENTORIES / "a100-mig.yaml")
    assert (first.beside, second.beside) == ("", "")
    assert third.beside.startswith("alone, but not beside the others")
