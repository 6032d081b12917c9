"""The published suites run as a whole, or one line says that they did not."""

import os
import subprocess
import sys
from pathlib import Path

from tests.vectors import VARIABLE, missing

ROOT = Path(__file__).parents[1]
# Small, and published as a whole.
SUITE = "tests/conformance/test_knative_settings.py"


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_folder_one_line_says_that_they_did_not_run() -> None:
    done = run()
    assert f"published suites not run: set {VARIABLE}" in done.stdout
    assert "skipped" not in done.stdout
    assert "4 deselected" in done.stdout


def test_a_folder_that_lacks_them_stops_the_run(tmp_path: Path) -> None:
    done = run(**{VARIABLE: str(tmp_path)})
    assert done.returncode != 0
    assert f"{VARIABLE}={tmp_path} does not hold cesql-tck" in done.stdout + done.stderr


def test_what_a_folder_lacks_is_counted(tmp_path: Path) -> None:
    before = missing(tmp_path)
    (tmp_path / "knative-config").mkdir()
    for number in range(4):
        (tmp_path / "knative-config" / f"{number}.yaml").touch()
    assert set(before) - set(missing(tmp_path)) == {"knative-config/*.yaml"}
