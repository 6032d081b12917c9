"""Whatever is done to a field of a sample, it is rendered or refused, and never a traceback."""

import copy
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml

from relume.config.errors import InvalidInput, InvalidManifest
from relume.config.render import Options, render
from tests.render.cases import GPU_SAMPLES

DOCUMENTS = list(yaml.safe_load_all((GPU_SAMPLES / "chat.yaml").read_text()))
OPTIONS = (
    Options("extended-resource", "kafka"),
    Options("admission", "rabbitmq"),
    Options("standard", "nats"),
)
OTHER_VALUES = (None, -1, "", [], {})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inside:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def mutations() -> Iterator[list[Any]]:
    """The sample with one field dropped, misnamed, or of another type."""
    for path in places(DOCUMENTS):
        for other in (*OTHER_VALUES, "drop", "misname"):
            documents = copy.deepcopy(DOCUMENTS)
            parent: Any = documents
            for key in path[:-1]:
                parent = parent[key]
            if other == "drop":
                del parent[path[-1]]
            elif other == "misname" and isinstance(parent, dict):
                parent[f"{path[-1]}x"] = parent.pop(path[-1])
            else:
                parent[path[-1]] = other
            yield documents


def test_a_damaged_sample_is_rendered_or_refused_at_a_field(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    counts = {"rendered": 0, "refused": 0}
    for documents, options in zip(mutations(), cycle(OPTIONS), strict=False):
        text = yaml.safe_dump_all(documents, sort_keys=False)
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
