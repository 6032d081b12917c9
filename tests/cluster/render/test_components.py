"""Transformers and explainers: their times, and what the cluster makes of them."""

from pathlib import Path
from typing import Any

import pytest

from relume.base.errors import InvalidManifest
from relume.cluster.doctor import examine
from relume.cluster.render import Options, Rendering
from relume.cluster.render.folder import write
from tests.cluster.render.rendering import broker, find, render_text, service, trigger

PODS = "containers: [{name: kserve-container, image: example.org/image}]"


def beside(component: str) -> str:
    """The service `chat` with a transformer or an explainer, in YAML's flow style."""
    return service().replace("spec: {predictor:", f"spec: {{{component}, predictor:", 1)


def timeout_of(rendering: Rendering, name: str) -> Any:
    return find(rendering, "InferenceService")["spec"][name]["timeout"]


@pytest.mark.parametrize("name", ["transformer", "explainer"])
@pytest.mark.parametrize(
    ("more", "seconds"),
    [("", 600), (", minReplicas: 0", 900), (", timeout: 60", 600), (", timeout: 1200", 1200)],
)
def test_it_waits_as_long_as_the_predictor_and_its_own_start(
    name: str, more: str, seconds: int, tmp_path: Path
) -> None:
    """A cold start of 300 s and 300 s for the answer; one at zero starts before it asks."""
    text = beside(f"{name}: {{{PODS}{more}}}")
    rendering = render_text(tmp_path, text, broker(), trigger("filters: [{exact: {type: a.b}}]"))
    assert timeout_of(rendering, name) == seconds
    assert find(rendering, "Trigger")["spec"]["delivery"]["timeout"] == f"PT{seconds + 10}S"
    settings = [d for d in rendering.decisions if d.path == "data.max-revision-timeout-seconds"]
    assert [d.value for d in settings] == ([str(seconds)] if seconds > 600 else [])
    write(rendering, tmp_path / "out")
    found = [f for one in examine([tmp_path / "out"]) for f in one.findings]
    assert [f for f in found if f.severity == "error"] == []


@pytest.mark.parametrize(
    ("route", "made"), [("extended-resource", "a Knative Service"), ("standard", "a Deployment")]
)
@pytest.mark.parametrize(
    ("name", "asked"),
    [("transformer", "every request"), ("explainer", "requests that end in :explain")],
)
def test_what_the_cluster_makes_of_it_is_said(
    route: Any, made: str, name: str, asked: str, tmp_path: Path
) -> None:
    text = beside(f"{name}: {{{PODS}, minReplicas: 2}}")
    rendering = render_text(tmp_path, text, options=Options(route))
    (told,) = (note for note in rendering.notes if note.field == f"spec.{name}")
    assert f"KServe makes {made} chat-{name} of it, which takes {asked}" in told.message
    assert "2 of its replicas stay while the predictor is idle" in told.message


def test_each_component_is_drained_by_itself(tmp_path: Path) -> None:
    """One budget for all would let a drained transformer hold up the predictor's node."""
    text = beside(f"transformer: {{{PODS}}}, explainer: {{{PODS}}}")
    rendering = render_text(tmp_path, text)
    chosen = {
        name: find(rendering, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"]
        for name in ("chat", "chat-transformer", "chat-explainer")
    }
    service_label = "serving.kserve.io/inferenceservice"
    assert chosen == {
        "chat": {service_label: "chat", "component": "predictor"},
        "chat-transformer": {service_label: "chat", "component": "transformer"},
        "chat-explainer": {service_label: "chat", "component": "explainer"},
    }


@pytest.mark.parametrize("name", ["transformer", "explainer"])
def test_what_knative_has_no_field_for_is_refused_there_too(name: str, tmp_path: Path) -> None:
    text = beside(f"{name}: {{{PODS}, nodeName: x}}")
    with pytest.raises(InvalidManifest, match="cannot work in Knative mode") as error:
        render_text(tmp_path, text)
    assert error.value.field == f"spec.{name}.nodeName"
    render_text(tmp_path, text, options=Options("standard"))
