"""Functions on a cluster: what func deploy would make, and what a cluster takes as it is."""

from pathlib import Path

import pytest

from relume.base.errors import InvalidManifest
from relume.cluster.doctor import examine
from relume.cluster.render import Options, render
from tests.cluster.render.cases import FUNCTIONS
from tests.cluster.render.rendering import find
from tests.config.test_functions import SECRET, folder_of, func_yaml, service


def test_a_function_without_an_image_has_a_placeholder_and_a_note(tmp_path: Path) -> None:
    rendering = render([folder_of(tmp_path, func_yaml())], Options())
    (container,) = find(rendering, "Service")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "image-of-function.invalid/f"
    (note,) = rendering.notes
    assert "function default/f has no image yet: write image or registry" in str(note)
    rules = {d.rule for d in rendering.decisions if d.path.endswith("image")}
    assert rules == {"function-image-placeholder"}


@pytest.mark.parametrize(
    ("more", "deploy", "image"),
    [
        ("registry: r.example/team/", "", "r.example/team/f:latest"),
        ("registry: r.example/team\nimage: r.example/other:1", "", "r.example/other:1"),
        ("image: r.example/f", "image: r.example/f@sha256:1f", "r.example/f@sha256:1f"),
    ],
    ids=["the registry and the name", "the image", "what was deployed"],
)
def test_the_image_is_the_one_that_func_would_deploy(
    tmp_path: Path, more: str, deploy: str, image: str
) -> None:
    rendering = render([folder_of(tmp_path, func_yaml(more, deploy))], Options())
    (container,) = find(rendering, "Service")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    assert rendering.notes == ()


def test_secrets_and_other_knative_services_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(SECRET + "---\n" + service(name="other"))
    rendering = render([folder_of(tmp_path, func_yaml()), tmp_path / "m.yaml"], Options())
    assert find(rendering, "Secret")["stringData"] == {"token": "abc"}
    (container,) = find(rendering, "Service", "other")["spec"]["template"]["spec"]["containers"]
    assert container == {"image": "example.com/f"}


def test_the_doctor_reads_the_folder_of_a_function() -> None:
    found = examine([FUNCTIONS / "manifests.yaml", FUNCTIONS / "enrich"])
    assert [(d.kind, d.name, d.file.name) for d in found][-2:] == [
        ("Service", "enrich", "func.yaml"),
        ("Trigger", "enrich-function-trigger-0", "func.yaml"),
    ]
    assert {d.verdict for d in found} == {"accepted"}


def test_the_doctor_names_the_wrong_field_of_a_func_yaml(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, func_yaml("invoke: grpc"))
    (diagnosis,) = examine([folder])
    (finding,) = diagnosis.findings
    assert (finding.reason, finding.field, finding.line) == ("func-yaml", "invoke", 5)
    assert diagnosis.verdict == "refused"
    with pytest.raises(InvalidManifest):
        render([folder], Options())


@pytest.mark.parametrize(
    ("filters", "loops"),
    [("", True), ("filters: {type: ask}", False)],
    ids=["without a filter", "with one"],
)
def test_a_trigger_that_takes_every_reply_of_its_function_is_a_loop(
    tmp_path: Path, filters: str, loops: bool
) -> None:
    deploy = f"subscriptions:\n- source: b\n  {filters}\n"
    (diagnosis,) = (
        d for d in examine([folder_of(tmp_path, func_yaml(deploy=deploy))]) if d.kind == "Trigger"
    )
    assert ("reply-loop" in {f.reason for f in diagnosis.findings}) is loops
