"""Wrong input to `relume up`: one line that names what is wrong, the right exit code, no more."""

import socket
import subprocess
from pathlib import Path

import pytest
from planes import COMMAND

SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: it}}
spec:
  predictor:
    model:
      modelFormat: {{name: vLLM}}
      storageUri: {uri}
"""
TRIGGER = """
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: it}
spec:
  broker: nowhere
  subscriber: {uri: "http://127.0.0.1:1/"}
"""
BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: it}
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\nb: 2", ["file.yaml:2", "YAML"]),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}", ["file.yaml:", "kind", "Pod"]),
        (SERVICE.format(uri="hf://no/model"), ["file.yaml:9", "storageUri", "relume models"]),
        (TRIGGER, ["file.yaml:6", "spec.broker", "nowhere"]),
    ],
    ids=["yaml", "kind", "model", "broker"],
)
def test_a_wrong_manifest_exits_2_and_names_file_line_and_field(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    (tmp_path / "file.yaml").write_text(text)
    done = _up(tmp_path, tmp_path / "file.yaml")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    for words in says:
        assert words in done.stderr


def test_a_port_in_use_exits_1_and_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(BROKER)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = _up(tmp_path, tmp_path / "file.yaml", "--port", port)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--port" in done.stderr
    assert port in done.stderr


def test_a_nats_server_that_cannot_start_exits_1(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(BROKER)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "nats").write_text("in the way of the folder")
    done = _up(tmp_path, tmp_path / "file.yaml", "--port", "0", "--broker-port", "0")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nats" in done.stderr


def _up(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    words = ["up", *map(str, args), "--state", str(folder / "state")]
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=100)
