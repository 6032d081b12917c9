"""Manifests with one place changed, for tests of what damage is answered with."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Place = tuple[Any, ...]
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, for thousands of texts


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """The path of every value inside `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inside:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def changed(documents: list[Any], path: Place, how: Callable[[Any, Any], object]) -> str:
    """The documents as YAML after `how(parent, key)` changed one place."""
    documents = copy.deepcopy(documents)
    parent: Any = documents
    for key in path[:-1]:
        parent = parent[key]
    how(parent, path[-1])
    return str(yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=False, allow_unicode=True))
