"""The stage of the trial, and the table at its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.function.conftest import fake_environments as fake_environments
from tests.kills.stage import Stage


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory, fake_environments: Path) -> Iterator[Stage]:
    """One state folder, and a plane on it."""
    made = Stage(tmp_path_factory.mktemp("kills"), fake_environments)
    try:
        yield made
    finally:
        made.close()
