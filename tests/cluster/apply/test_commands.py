"""`relume apply`, `delete` and `status --context` from the command line."""

import json
from pathlib import Path

import pytest

from relume.cli.main import run

from . import world
from .cluster import Cluster

pytest.importorskip("kubernetes")
IMAGE = f"--image=images.example/relume@{world.DIGEST}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(world.TEXT)
    return path


def common(kubeconfig: Path) -> list[str]:
    return ["--context", "test", "--kubeconfig", str(kubeconfig)]


def test_apply_shows_what_it_does_and_delete_takes_it_back(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster()
    with cluster.running(tmp_path) as kubeconfig:
        words = [str(file), IMAGE, *common(kubeconfig)]
        late = ["--wait", "0", "--despite-settings", "-o", "json"]
        assert run(["apply", *words, *late]) == 0
        out, err = capsys.readouterr()
        assert "InferenceService models/chat: created" in err
        assert "Bearer" not in err and "secret" not in err
        kinds = [one["kind"] for one in json.loads(out)["applied"]]
        assert kinds.index("DeviceClass") < kinds.index("InferenceService") < kinds.index("Trigger")
        assert run(["delete", *words, "--yes", "-o", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert "InferenceService models/chat" in told["deleted"] and told["kept"] == []
    assert world.SERVICE not in cluster.objects


def test_delete_asks_first(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()
    with cluster.running(tmp_path) as kubeconfig:
        words = [str(file), IMAGE, *common(kubeconfig)]
        assert run(["apply", *words, "--wait", "0", "--despite-settings"]) == 0
        monkeypatch.setattr("click.confirm", _no)
        assert run(["delete", *words]) == 130
    assert "to be deleted, in this order" in capsys.readouterr().err
    assert world.SERVICE in cluster.objects


def _no(*_: object, **__: object) -> None:
    import click

    raise click.Abort


def test_a_rendered_folder_is_applied_as_it_stands(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["render", str(file), "-o", str(out), IMAGE, "--dra", "admission"]) == 0
    policy = out / "base" / "admission-policy.yaml"
    policy.write_text(policy.read_text().replace("failurePolicy: Fail", "failurePolice: Fail"))
    message = ".spec.failurePolice: field not declared in schema"
    name = ("MutatingAdmissionPolicy", "relume-claims")
    cluster = Cluster(refuse={name: (400, {"message": message})})
    with cluster.running(tmp_path) as kubeconfig:
        code = run(["apply", str(out), *common(kubeconfig), "--despite-settings"])
    line = policy.read_text().splitlines().index("  failurePolice: Fail") + 1
    assert code == 1
    assert (
        f"{policy}:{line}: MutatingAdmissionPolicy relume-claims: spec" in capsys.readouterr().err
    )
    assert cluster.written() == []


def test_documents_of_any_kind_are_applied_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "any.yaml"
    file.write_text(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {key: hunter2}}\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: team}}\n"
    )
    cluster = Cluster()
    with cluster.running(tmp_path) as kubeconfig:
        code = run(["apply", str(file), "--as-is", "-n", "models", *common(kubeconfig)])
    out, err = capsys.readouterr()
    assert code == 0 and "hunter2" not in out + err
    assert cluster.written() == ["/api/v1/namespaces/team", "/api/v1/namespaces/models/secrets/s"]


def test_wrong_input_is_2_and_an_unknown_context_1(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", str(file), IMAGE, "--wait", "10"]) == 2
    assert run(["apply", str(tmp_path / "none.yaml")]) == 2
    assert "--image relume-vllm=" in _after(["apply", str(file), *_nowhere(tmp_path)], capsys, 2)
    missing = ["apply", str(file), IMAGE, "--context", "other", *_nowhere(tmp_path)[2:]]
    assert "other" in _after(missing, capsys, 1)


def _nowhere(folder: Path) -> list[str]:
    from tests.cluster.api_server import write_kubeconfig

    return ["--context", "test", "--kubeconfig", str(write_kubeconfig(folder, 9))]


def _after(words: list[str], capsys: pytest.CaptureFixture[str], code: int) -> str:
    capsys.readouterr()
    assert run(words) == code
    return capsys.readouterr().err


def test_status_shows_services_pods_and_claims_of_a_cluster(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster()
    with cluster.running(tmp_path) as kubeconfig:
        words = [*common(kubeconfig), "--namespace", "models"]
        late = ["--wait", "0", "--despite-settings"]
        assert run(["apply", str(file), IMAGE, *common(kubeconfig), *late]) == 0
        cluster.set_status(world.SERVICE, conditions=world.conditions("True"))()
        cluster.set_status(world.TRIGGER, conditions=world.conditions("False", "BrokerMissing"))()
        capsys.readouterr()
        assert run(["status", *words]) == 0
        out = capsys.readouterr().out
        assert "namespace models of test" in out
        assert _row(out, "chat     zero") and "Ready BrokerMissing" in out

        cluster.put(world.POD, world.pod(ready=True, claim="c"))
        cluster.put(f"{world.CLAIMS}/c", world.claim("c"))
        assert run(["status", *words]) == 0
        assert "holds: node-1/gpu-0" in capsys.readouterr().out
        assert run(["status", *words, "-o", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["pods"][0]["device"]["state"] == "holds"
        assert found["claims"] == [{"name": "c", "state": "in use", "devices": "node-1/gpu-0"}]

        cluster.put(world.POD, world.pod(ready=True))
        assert run(["status", *words]) == 1
        assert "pod chat-00001 is ready WITHOUT A DEVICE" in capsys.readouterr().out


def _row(out: str, start: str) -> bool:
    return any(
        " ".join(line.split()).startswith(" ".join(start.split())) for line in out.splitlines()
    )


def test_status_takes_a_plane_or_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--url", "http://127.0.0.1:1", "--context", "x"]) == 2
    assert "--url" in capsys.readouterr().err
