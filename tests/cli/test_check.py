"""`relume up --check`: everything is said, nothing is started."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relume.cli.machine.up import command

GOOD = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: sa}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    serviceAccountName: sa
    model:
      modelFormat: {name: huggingface}
      storageUri: hf://org/gone
      args: [--model_name=qwen, --backend=huggingface]
"""
BAD = GOOD.replace("--backend=huggingface", "--backend=x, --max-modl-len=1").replace(
    "hf://org/gone", "pvc://claim/m"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELUME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RELUME_STATE", str(tmp_path / "state"))
    return tmp_path


def checked(folder: Path, text: str, *options: str) -> tuple[int, str]:
    file = folder / "m.yaml"
    file.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(command, ["--check", str(file), *options], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.return_value, done.output


def test_what_is_left_out_and_what_is_to_prepare_refuses_nothing(home: Path) -> None:
    status, said = checked(home, GOOD)
    assert status == 0
    assert "a, qwen" in said
    for part in (
        "m.yaml:2: kind: a predictor runs as you",
        "m.yaml:10: spec.predictor.serviceAccountName: ",
        "m.yaml:14: spec.predictor.model.args[1]: --backend: vLLM serves the model",
        "m.yaml:13: spec.predictor.model.storageUri: hf://org/gone is not in the model store",
        "relume up runs these files; nothing was started",
    ):
        assert part in said, said
    assert not (home / "state").exists()


def test_everything_that_is_refused_is_said_at_once(home: Path) -> None:
    status, said = checked(home, BAD, "-o", "json")
    assert status == 2
    found = json.loads(said)
    assert found["runs"] is False
    assert [line["field"].removeprefix("spec.predictor.model.") for line in found["refused"]] == [
        "storageUri",
        "args[1]",
        "args[2]",
    ]
    assert found["refused"][2]["why"].endswith("did you mean --max-model-len?")
    assert found["services"][0]["served_names"] == ["a", "qwen"]
    assert found["to_prepare"] == []


MINIMUM = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {name}}}
spec:
  predictor:
    minReplicas: 1
    model:
      modelFormat: {{name: vLLM}}
      storageUri: file://{folder}
      args: [--kv-cache-memory-bytes=1048576]
---
"""


@pytest.mark.parametrize(("memory", "status"), [("1Gi", 2), ("2Gi", 0)])
def test_replicas_that_are_always_there_have_to_fit_the_memory(
    home: Path, memory: str, status: int
) -> None:
    (home / "model").mkdir()
    text = "".join(MINIMUM.format(name=name, folder=home / "model") for name in "ab")
    found, said = checked(home, text, "--memory", memory)
    assert found == status
    refusal = "m.yaml:17: spec.predictor.minReplicas: 1 × "
    assert (refusal in said) is (status == 2)
    assert ("write minReplicas: 0, or give --memory more" in said) is (status == 2)


def test_a_folder_stands_for_a_claim(home: Path) -> None:
    (home / "data" / "m").mkdir(parents=True)
    text = GOOD.replace("hf://org/gone", "pvc://claim/m")
    status, said = checked(home, text, "--volume", f"claim={home / 'data'}", "-o", "json")
    assert status == 0
    found = json.loads(said)
    assert (found["services"][0]["model"], found["to_prepare"]) == (str(home / "data" / "m"), [])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("claim", "is not CLAIM=DIR"),
        ("=x", "is not CLAIM=DIR"),
        ("claim=/not/there", "there is no folder /not/there"),
    ],
)
def test_a_wrong_volume_is_refused_by_its_option(home: Path, value: str, message: str) -> None:
    file = home / "m.yaml"
    file.write_text(GOOD, encoding="utf-8")
    done = CliRunner().invoke(command, ["--check", str(file), "--volume", value])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_files_with_nothing_to_run_are_refused_by_name(home: Path) -> None:
    file = home / "m.yaml"
    file.write_text(GOOD.partition("---")[0], encoding="utf-8")
    done = CliRunner().invoke(command, ["--check", str(file)])
    assert "nothing in there runs by itself" in str(done.exception)


def test_the_environment_stands_for_a_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "env: [{name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}]"
    text = GOOD.replace("      args:", f"      {variable}\n      args:")
    status, said = checked(home, text)
    assert (status, "set KEY in your environment" in " ".join(said.split())) == (2, True)
    monkeypatch.setenv("KEY", "hidden-value")
    status, said = checked(home, text)
    assert (status, "hidden-value" in said) == (0, False)
