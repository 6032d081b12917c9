"""`relume demo` alone: the whole story, and nothing left behind in the temporary folder."""

import json
import subprocess
from pathlib import Path

import pytest
from planes import COMMAND

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]


def test_the_demo_tells_the_whole_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path.parent / "torch"))
    done = subprocess.run(
        [*COMMAND, "demo", "-o", "json"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stderr.splitlines() if line[:1].isdigit()]
    assert [step[0] for step in steps] == list("123456")
    assert "zero" in steps[0]
    assert "zero again" in steps[-1]

    report = json.loads(done.stdout)
    assert len(report["text"].split()) > 3
    assert report["started"] == "template"
    assert set(report["phases_ms"]) >= {"queue", "fork", "weights", "engine", "first_token"}
    assert report["answer"]["type"] == "relume.inference.response"
    assert list(tmp_path.iterdir()) == []
