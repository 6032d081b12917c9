"""The shipped DeviceClasses: valid, guarded, and the same in code and in config/dra."""

import re
from pathlib import Path

import pytest
import yaml

from relume.cluster.claims import published
from relume.cluster.claims.presets import PRESETS, Preset, extended_resource, find

DRA = Path(__file__).parents[3] / "config" / "dra"
QUALIFIED_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
READ = re.compile(r"device\.(?:attributes|capacity)\['[^']+'\]\.\w+")


each = [pytest.param(preset, id=preset.name) for preset in PRESETS.values()]


@pytest.mark.parametrize("preset", each)
def test_a_preset_can_be_asked_for_as_an_extended_resource(preset: Preset) -> None:
    prefix, _, name = extended_resource(preset.name).partition("/")
    assert prefix == "deviceclass.resource.kubernetes.io"
    assert QUALIFIED_PART.fullmatch(name)


@pytest.mark.parametrize("preset", each)
def test_a_preset_guards_every_key_it_reads_in_the_same_expression(preset: Preset) -> None:
    for expression in preset.selectors:
        guarded = set(re.findall(r"has\(([^)]*)\)", expression))
        assert set(READ.findall(expression)) == guarded


@pytest.mark.parametrize("preset", each)
def test_a_preset_names_its_driver_first(preset: Preset) -> None:
    assert preset.selectors[0] == f"device.driver == '{preset.driver}'"


def test_a_name_that_is_too_long_is_no_extended_resource() -> None:
    with pytest.raises(ValueError, match="63 characters"):
        extended_resource("x" * 64)


def test_an_unknown_name_has_no_class() -> None:
    assert find("llm-gpu-1g") is None


def test_every_vendor_has_presets() -> None:
    assert {preset.vendor for preset in PRESETS.values()} == {"NVIDIA", "AMD", "Intel", "Google"}
    assert {"llm-gpu-24g", "llm-gpu-40g", "llm-gpu-80g", "llm-gpu-141g"} <= set(PRESETS)


def test_the_published_files_are_current() -> None:
    found = {path.name: path.read_text() for path in (DRA / "deviceclasses").iterdir()}
    assert found == published.files()


def test_the_published_files_hold_every_preset() -> None:
    documents = [
        document
        for path in (DRA / "deviceclasses").glob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] == "DeviceClass"
    ]
    assert {d["metadata"]["name"]: d for d in documents} == {
        name: preset.manifest() for name, preset in PRESETS.items()
    }


@pytest.mark.parametrize("path", sorted(DRA.rglob("kustomization.yaml")), ids=str)
def test_a_kustomization_names_what_is_beside_it(path: Path) -> None:
    named = set(yaml.safe_load(path.read_text())["resources"])
    beside = {entry.name for entry in path.parent.glob("*.yaml")} - {path.name}
    assert {name for name in named if name.endswith(".yaml")} == beside
    assert all((path.parent / name).exists() for name in named)
