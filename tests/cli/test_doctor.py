"""`relume doctor` as a command: what it prints, its exit codes, its time."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relume.cli.main import run

ROOT = Path(__file__).parents[2]
SERVICE = """\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: s, namespace: models}
spec:
  template:
    spec:
      containers: [{image: app}]
"""


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def write(folder: Path, text: str) -> str:
    (folder / "m.yaml").write_text(text)
    return str(folder / "m.yaml")


def test_json_is_one_object_a_line_for_each_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, SERVICE + "      tolerations: [{operator: Exists}]\n---\n" + SERVICE)
    assert run(["doctor", file, "-o", "json"]) == 1
    first, second = lines(capsys)
    assert (first["document"], first["kind"], first["name"], first["verdict"]) == (
        0,
        "Service",
        "s",
        "refused",
    )
    assert (second["document"], second["verdict"]) == (1, "accepted")
    (finding,) = [f for f in first["findings"] if f["severity"] == "error"]  # type: ignore[attr-defined]
    assert finding["field"] == "spec.template.spec.tolerations"
    assert finding["reason"] == "feature-off"
    assert "must not set the field(s)" in finding["message"]
    assert "kubernetes.podspec-tolerations: enabled" in finding["fix"]
    assert (finding["file"], finding["line"]) == (file, 8)
    assert finding["docs"] == "cluster/DOCTOR.md#feature-off"


@pytest.mark.parametrize(
    ("more", "code", "verdict"),
    [
        ("", 0, "accepted"),
        ("      timeoutSeconds: 601\n", 1, "refused"),
        ("      terminationGracePeriodSeconds: 30\n", 1, "pruned"),
    ],
)
def test_the_exit_code_says_how_grave_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, code: int, verdict: str
) -> None:
    assert run(["doctor", write(tmp_path, SERVICE + more), "-o", "json"]) == code
    assert [one["verdict"] for one in lines(capsys)] == [verdict]


def test_warnings_alone_do_not_fail(tmp_path: Path) -> None:
    assert run(["doctor", write(tmp_path, SERVICE + "      timeoutSeconds: 600\n")]) == 0


def test_what_cannot_be_read_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", write(tmp_path, SERVICE + "---\na: b: c\n"), "-o", "json"]) == 2
    first, second = lines(capsys)
    assert (first["verdict"], second["verdict"]) == ("accepted", "refused")
    assert run(["doctor", str(tmp_path / "nowhere.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert run(["doctor"]) == 2
    assert run(["doctor", write(tmp_path, SERVICE), "--cold-start", "60"]) == 2
    assert run(["doctor", write(tmp_path, SERVICE), "--cold-start=-5s"]) == 2


@pytest.mark.parametrize(
    "features",
    [
        "kubernetes.podspec-tolerations: enabled\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-features}\n"
        "data: {kubernetes.podspec-tolerations: Allowed}\n",
        "kind: ConfigMap\ndata: {_example: text}\n---\nkind: ConfigMap\n"
        "data: {kubernetes.podspec-tolerations: enabled}\n",
    ],
)
def test_a_features_map_opens_a_field(tmp_path: Path, features: str) -> None:
    (tmp_path / "features.yaml").write_text(features)
    file = write(tmp_path, SERVICE + "      tolerations: [{operator: Exists}]\n")
    assert run(["doctor", file]) == 1
    assert run(["doctor", file, "--features", str(tmp_path / "features.yaml")]) == 0


def test_a_wrong_features_map_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "features.yaml").write_text("kubernetes.podspec-tolerations: yes please\n")
    file = write(tmp_path, SERVICE)
    assert run(["doctor", file, "--features", str(tmp_path / "features.yaml")]) == 2
    assert "write enabled, allowed or disabled" in capsys.readouterr().err
    (tmp_path / "features.yaml").write_text("kubernetes.podspec-toleratoins: enabled\n")
    assert run(["doctor", file, "--features", str(tmp_path / "features.yaml")]) == 2
    assert "did you mean kubernetes.podspec-tolerations?" in capsys.readouterr().err


def test_people_get_a_list_by_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, SERVICE + "      nodeSelector: {a: b}\n")
    assert run(["doctor", file]) == 1
    shown = capsys.readouterr().out
    assert f"refused   Service models/s  {file}:1" in shown
    assert "spec.template.spec.nodeSelector:8" in shown
    assert "1 document: 1 refused, 1 error" in shown


def test_a_name_with_control_characters_does_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["doctor", write(tmp_path, SERVICE.replace("name: s,", 'name: "s\\e[31m",'))])
    assert "\x1b" not in capsys.readouterr().out


def test_twenty_documents_take_less_than_half_a_second(tmp_path: Path) -> None:
    file = write(tmp_path, "---\n".join([SERVICE] * 10 + [_sample()] * 2 + [SERVICE] * 6))
    took = []
    for _ in range(3):
        began = time.perf_counter()
        program = "import sys; from relume.cli.main import run; sys.exit(run(sys.argv[1:]))"
        command = [sys.executable, "-c", program, "doctor", file, "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took.append(time.perf_counter() - began)
        assert len(done.stdout.splitlines()) >= 20
    # 0.5 s on an idle machine; more here, so that a busy one does not fail it.
    assert min(took) < 1.5


def _sample() -> str:
    return (ROOT / "config" / "samples" / "embed.yaml").read_text()


MIXED = """\
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: l}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: s}
"""


def test_what_was_not_judged_is_counted_and_never_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, f"{SERVICE}---\n{MIXED}")
    assert run(["doctor", file]) == 0
    shown = capsys.readouterr().out
    assert "3 documents: 1 accepted, 1 fields-only, 1 unchecked" in shown
    assert f"fields-only  Lease l  {file}:9" in shown
    assert f"unchecked  ScaledObject s  {file}:13" in shown
    assert "unchecked: nothing but the metadata was looked at" in shown


def test_json_has_the_counts_of_all_documents_on_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", write(tmp_path, f"{SERVICE}---\n{MIXED}"), "-o", "json"]) == 0
    first, second, third = lines(capsys)
    assert (second["verdict"], third["verdict"]) == ("fields-only", "unchecked")
    assert "counts" not in {*first, *second}
    counts = {"accepted": 1, "fields-only": 1, "unchecked": 1, "refused": 0, "pruned": 0}
    assert third["counts"] == counts
