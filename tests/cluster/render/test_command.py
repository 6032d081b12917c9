"""`relume render` as a command: files, exit codes, notes, and the explanation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from relume.cli.main import run
from tests.cluster.render.cases import DIGEST, GPU_SAMPLES, SAMPLES
from tests.cluster.render.rendering import service

Output = pytest.CaptureFixture[str]


def render(*arguments: str | Path) -> int:
    return run(["render", *map(str, arguments)])


def test_the_samples_are_rendered_into_a_folder(tmp_path: Path, capsys: Output) -> None:
    assert render(SAMPLES, GPU_SAMPLES, "-o", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "kubectl apply --server-side -k" in said.out
    assert "relume-vllm has no image yet: --image relume-vllm=" in said.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"base", "cluster", "monitoring"} <= names
    assert render(SAMPLES, "-o", tmp_path / "out") == 0
    assert "removed base/models/inferenceservice-chat.yaml" in capsys.readouterr().out


def test_an_image_by_its_digest_leaves_nothing_to_say(tmp_path: Path, capsys: Output) -> None:
    image = f"images.example/vllm@{DIGEST}"
    assert render(SAMPLES, "-o", tmp_path, "--image", image) == 0
    assert capsys.readouterr().err == ""
    assert f"image: {image}\n" in (tmp_path / "base" / "runtimes.yaml").read_text()


def test_the_base_can_be_printed(capsys: Output) -> None:
    assert render(GPU_SAMPLES, "-o", "-", "--dra", "admission") == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    kinds = {document["kind"] for document in documents}
    assert {"InferenceService", "Trigger", "MutatingAdmissionPolicy"} <= kinds
    assert not kinds & {"ConfigMap", "Kustomization", "ServiceMonitor"}


def test_the_explanation_names_document_field_value_rule_and_reason(capsys: Output) -> None:
    assert render(GPU_SAMPLES, "--explain", "-o", "json", "--broker", "kafka") == 0
    said = json.loads(capsys.readouterr().out)
    fields = {(f["document"], f["path"]): f for f in said["fields"]}
    made = fields["InferenceService/models/chat", "spec.predictor.model.runtime"]
    assert made["value"] == "relume-vllm"
    assert made["rule"] == "runtime-by-device"
    assert "NVIDIA" in made["reason"]
    assert any(note["field"].endswith("relume.dev/fallbacks") for note in said["notes"])


def test_the_explanation_is_a_table_for_people(capsys: Output) -> None:
    assert render(SAMPLES, "--explain") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "InferenceService/summarize" in lines
    assert any(line.split()[:1] == ["spec.predictor.timeout"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "-o is missing"),
        (("-o", "out", "--explain"), "--explain writes no files"),
        (("-o", "out", "--cold-start-budget", "10"), "--cold-start-budget 10"),
        (("-o", "out", "--image", "a/b:latest"), "by its digest"),
        (("-o", "out", "--images", "missing.yaml"), "missing.yaml"),
    ],
)
def test_wrong_options_exit_2_and_write_nothing(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert render(SAMPLES, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_work_exits_2_with_file_line_and_field(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "m.yaml"
    claims = "resourceClaims: [{name: gpu, resourceClaimTemplateName: t}]"
    file.write_text(service(claims, "runtime: relume-vllm"))
    assert render(file, "-o", tmp_path / "out") == 2
    assert f"{file}:4: spec.predictor.resourceClaims: cannot work" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert render(file, "-o", tmp_path / "out", "--dra", "standard") == 0


def test_a_render_imports_no_client_and_no_server(tmp_path: Path) -> None:
    code = (
        "import sys; from relume.cli.main import run; "
        f"assert run(['render', {str(SAMPLES)!r}, '-o', {str(tmp_path)!r}]) == 0; "
        "heavy = {'kubernetes', 'kserve', 'aiohttp', 'pydantic', 'nats', 'jsonschema', 'vllm'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
