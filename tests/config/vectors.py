"""The independent vectors beside the checkout, or a skip that says so (a failure in CI)."""

import os
from pathlib import Path

import pytest

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"


def vector(name: str) -> Path:
    """The file `name`; skips the test when it is not there, fails it when CI is set."""
    file = VECTORS / name
    if file.exists():
        return file
    message = f"the independent vectors were not found at {file}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
