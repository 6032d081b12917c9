"""kustomize builds what is rendered; the example overlay and the Knative patches fit to it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.render.folder import write
from tests.cluster.render.cases import CASES, ROOT, rendered
from tests.cluster.render.schemas import problems
from tests.knative_settings import SHIPPED

KUBECTL = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
EXAMPLE = ROOT / "config" / "overlays" / "example"
KNATIVE = ROOT / "config" / "knative"


def build(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def key(document: Any) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


@needs_kubectl
@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_the_base_builds_to_the_documents_as_they_are(name: str, tmp_path: Path) -> None:
    write(rendered(name), tmp_path)
    wanted = {
        key(document): document
        for file, documents in rendered(name).documents.items()
        for document in documents
        if file.startswith("base/") and document["kind"] != "Kustomization"
    }
    assert {key(document): document for document in build(tmp_path / "base")} == wanted


@needs_kubectl
def test_the_example_overlay_builds_on_a_rendering(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("rendered"))
    write(rendered("samples-admission"), tmp_path / "example" / "rendered")
    made = {key(document): document for document in build(tmp_path / "example")}
    service = made["InferenceService", "models", "chat"]
    retention = "autoscaling.knative.dev/scale-to-zero-pod-retention-period"
    assert service["metadata"]["annotations"][retention] == "20m"
    assert ("ServiceMonitor", "models", "chat-metrics") in made
    assert [p for document in made.values() for p in problems(document)] == []


@pytest.mark.parametrize("name", ["autoscaler", "defaults", "deployment", "features"])
def test_the_knative_patches_change_what_is_shipped(name: str) -> None:
    patch = yaml.safe_load((KNATIVE / f"config-{name}.yaml").read_text())
    defaults = SHIPPED[name]
    for setting, value in patch["data"].items():
        assert setting in defaults
        assert defaults[setting] != value


def test_the_activator_outlasts_the_longest_request_of_the_patches() -> None:
    defaults = yaml.safe_load((KNATIVE / "config-defaults.yaml").read_text())
    activator = yaml.safe_load((KNATIVE / "activator.yaml").read_text())
    grace = activator["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert str(grace) == defaults["data"]["max-revision-timeout-seconds"]
