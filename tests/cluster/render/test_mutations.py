"""Whatever is done to a field of a sample, it is rendered or refused, and never a traceback."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml

from relume.base.errors import InvalidInput, InvalidManifest
from relume.cluster.render import Options, render
from tests.cluster.render.cases import GPU_SAMPLES
from tests.mutations import changed, places

DOCUMENTS = list(yaml.safe_load_all((GPU_SAMPLES / "chat.yaml").read_text()))
OPTIONS = (
    Options("extended-resource", "kafka"),
    Options("admission", "rabbitmq"),
    Options("standard", "nats"),
)
OTHER_VALUES = (None, -1, "", [], {})


def mutations() -> Iterator[str]:
    """The sample with one field dropped, misnamed, or of another type."""
    for path in places(DOCUMENTS):
        for other in (*OTHER_VALUES, "drop", "misname"):
            yield changed(DOCUMENTS, path, partial(_damage, other))


def _damage(other: Any, parent: Any, key: Any) -> None:
    if other == "drop":
        del parent[key]
    elif other == "misname" and isinstance(parent, dict):
        parent[f"{key}x"] = parent.pop(key)
    else:
        parent[key] = other


def test_a_damaged_sample_is_rendered_or_refused_at_a_field(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    counts = {"rendered": 0, "refused": 0}
    for text, options in zip(mutations(), cycle(OPTIONS), strict=False):
        file.write_text(text)
        try:
            render([file], options)
            counts["rendered"] += 1
        except InvalidManifest as error:
            assert error.field
            assert 1 <= error.line <= len(text.splitlines()) + 1
            counts["refused"] += 1
        except InvalidInput as error:
            assert error.reason == "no-manifest"
    assert min(counts.values()) > 30, counts
