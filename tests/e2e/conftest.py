"""The real thing: `relume up` as a process, the real vLLM, the real models, a real nats-server."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planes import SAMPLES, Plane


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One plane with both samples, at zero, its template ready."""
    with Plane.up(SAMPLES, state=tmp_path_factory.mktemp("state")) as running:
        running.until(lambda s: s["template"]["state"] == "ready", 120)
        yield running
