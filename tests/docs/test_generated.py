"""The pages that are made from the code are up to date, and what they name is there."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", ["fields", "metrics"])
def test_the_page_is_what_the_code_says(name: str) -> None:
    script = [sys.executable, str(DOCS / f"{name}_page.py")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert done.stdout == (DOCS / f"{name}.md").read_text(encoding="utf-8"), "run: make pages"


def series_named(text: str) -> set[str]:
    """The names of vLLM's series in a text, without what Prometheus appends."""
    names = re.findall(r"vllm:[a-z0-9_]+", text)
    return {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names}


@pytest.mark.parametrize("page", ["metrics.md", "examples/alerts.yaml"])
def test_vllm_has_the_series_that_are_named(page: str) -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "v1" / "metrics"
    source = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    there = set(re.findall(r'name="(vllm:[a-z0-9_]+)"', source))
    named = series_named((DOCS / page).read_text(encoding="utf-8"))
    assert len(named) > 3
    assert named <= there
