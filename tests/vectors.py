"""The independent vectors beside the checkout, or a skip that says so (a failure in CI)."""

import os
from pathlib import Path

import pytest

VECTORS = Path(__file__).parents[2] / "shared" / "vectors"


def vector(name: str) -> Path:
    """The file or folder `name`; skips the test when it is not there, fails it when CI is set."""
    path = VECTORS / name
    if path.exists():
        return path
    message = f"the independent vectors were not found at {path}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
