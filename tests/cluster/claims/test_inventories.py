"""The shipped classes against the recorded inventories: what they match, and only that."""

import re
from pathlib import Path

import pytest

from relume.cluster.claims import documents
from relume.cluster.claims.drivers import DRIVERS
from relume.cluster.claims.explain import explain
from relume.cluster.claims.inventory import build
from relume.cluster.claims.presets import PRESETS
from tests.cluster.claims import written
from tests.cluster.claims.building import INVENTORIES, claim, document

# Each inventory with the largest tier that its whole devices meet, and one that they do not.
TIERS = {
    "t4": ("llm-gpu-16g", "llm-gpu-24g"),
    "l4": ("llm-gpu-24g", "llm-gpu-32g"),
    "a100-40": ("llm-gpu-40g", "llm-gpu-48g"),
    "a100-80": ("llm-gpu-80g", "llm-gpu-96g"),
    "h100": ("llm-gpu-80g", "llm-gpu-96g"),
    "h200": ("llm-gpu-141g", "llm-gpu-180g"),
    "b200": ("llm-gpu-180g", "llm-gpu-288g"),
    "mi300x": ("llm-amd-192g", "llm-amd-256g"),
    "mi325x": ("llm-amd-256g", "llm-amd-288g"),
    "intel": ("llm-intel-24g", "llm-intel-48g"),
    "tpu": ("llm-tpu-v6e", "llm-tpu-v5e"),
}


def answers(class_name: str, inventory: str) -> str:
    asked = claim({"name": "gpu", "exactly": {"deviceClassName": class_name}})
    there = documents.read(INVENTORIES / f"{inventory}.yaml")
    [report] = explain([document(asked)], there)
    return report.answer


@pytest.mark.parametrize("inventory", TIERS)
def test_a_card_serves_the_tier_of_its_label_and_no_larger_one(inventory: str) -> None:
    tier, next_tier = TIERS[inventory]
    assert answers(tier, inventory) == "satisfiable"
    assert answers(next_tier, inventory) == "unsatisfiable"


@pytest.mark.parametrize("file", written.INVENTORIES, ids=lambda file: file.stem)
def test_an_inventory_has_only_what_a_release_of_its_driver_publishes(file: Path) -> None:
    for pool in build(documents.read(file)).pools:
        releases = DRIVERS[pool.driver].releases
        for device in pool.devices:
            own = f"{pool.driver}/"
            names = {key.removeprefix(own) for key in device.attributes if key.startswith(own)}
            sizes = {key.removeprefix(own) for key in device.capacity if key.startswith(own)}
            kind = device.attributes.get(f"{own}type")
            fitting = [
                release
                for release in releases
                if names <= release.names("attributes")
                and {one for one in sizes if not one.startswith("memorySlice")} <= release.capacity
                and release.attributes <= names
                and (kind is None or kind.value in release.types)
            ]
            assert fitting, (device.title, names, sizes)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_shipped_classes_read_what_the_newest_release_publishes(driver: str) -> None:
    newest = DRIVERS[driver].newest
    for preset in PRESETS.values():
        for expression in preset.selectors if preset.driver == driver else ():
            for section in ("attributes", "capacity"):
                read = re.findall(rf"device\.{section}\['{driver}'\]\.(\w+)", expression)
                assert set(read) <= newest.names(section)


@pytest.mark.parametrize("class_name", PRESETS)
def test_a_class_is_never_an_error_on_any_device(class_name: str) -> None:
    assert all(hits for hits in written.matched(class_name))


@pytest.mark.parametrize("profile", ["1g-5gb", "2g-10gb", "3g-20gb", "4g-20gb", "7g-40gb"])
def test_a_split_card_serves_its_profiles(profile: str) -> None:
    assert answers(f"llm-mig-{profile}", "a100-mig") == "satisfiable"
    assert answers(f"llm-mig-{profile}", "a100-40") == "unsatisfiable"


@pytest.mark.parametrize(
    ("count", "fits"), [(7, True), (14, True), (15, False)], ids=["card", "both", "more"]
)
def test_two_cards_give_fourteen_of_the_smallest_slices(count: int, fits: bool) -> None:
    exactly = {"deviceClassName": "llm-mig-1g-5gb", "count": count}
    asked = claim({"name": "gpu", "exactly": exactly})
    [report] = explain([document(asked)], documents.read(INVENTORIES / "a100-mig.yaml"))
    assert (report.answer == "satisfiable") is fits


def test_slices_of_a_card_exclude_the_whole_card() -> None:
    """3g.20gb takes four of the eight memory slices, so two fill a card (MIG User Guide)."""
    for halves, fits in ((2, True), (3, False)):
        asked = claim(
            {"name": "half", "exactly": {"deviceClassName": "llm-mig-3g-20gb", "count": halves}},
            {"name": "whole", "exactly": {"deviceClassName": "llm-gpu-40g"}},
        )
        [report] = explain([document(asked)], documents.read(INVENTORIES / "a100-mig.yaml"))
        assert (report.answer == "satisfiable") is fits


def test_the_page_shows_what_the_command_prints() -> None:
    page = written.PAGE.read_text()
    assert page == written.current(page), "run: python -m tests.cluster.claims.written"


@pytest.mark.parametrize("file", sorted((written.ROOT / "config/dra/templates").glob("*-*.yaml")))
def test_a_shipped_template_can_be_explained(file: Path) -> None:
    reports = explain(documents.read(file), documents.read(INVENTORIES / "a100-80.yaml"))
    assert [report.answer for report in reports] == ["satisfiable"]
