"""Programs that run with one or the other major version of the CloudEvents SDK."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SDK_2 = ROOT / ".venv" / "cloudevents-2"


def run_with_sdk(version: int, *arguments: str, stdin: str = "") -> str:
    """What `python ARGUMENTS` prints where `import cloudevents` finds that major version."""
    path = [str(ROOT)]
    if version == 2:
        if not SDK_2.is_dir():
            pytest.fail(f"{SDK_2} is missing: run make venv")
        path.insert(0, str(SDK_2))
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
