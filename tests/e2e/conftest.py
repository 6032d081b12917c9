"""The real thing: `relume up` as a process, the real vLLM, the real models, a real nats-server."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planes import SAMPLES, Plane

# The shortest that Knative takes: a test that waits for zero waits for a whole window.
WINDOW, SHORTEST = "window: 10s", "window: 6s"


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One plane with both samples, at zero, its template ready."""
    samples = tmp_path_factory.mktemp("samples")
    for sample in SAMPLES.glob("*.yaml"):
        text = sample.read_text(encoding="utf-8")
        assert WINDOW in text
        (samples / sample.name).write_text(text.replace(WINDOW, SHORTEST), encoding="utf-8")
    with Plane.up(samples, state=tmp_path_factory.mktemp("state")) as running:
        running.until(lambda s: s["template"]["state"] == "ready", 120)
        yield running
