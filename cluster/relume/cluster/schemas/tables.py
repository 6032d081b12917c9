"""The generated tables, read when they are needed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

_DATA = Path(__file__).parent / "data"


class Type(TypedDict, total=False):
    """One type of a table; `Types` in `cluster/schemas_models.py` says what the keys mean."""

    type: str
    fields: Mapping[str, int]
    items: int
    values: int
    required: Sequence[str]
    enum: Sequence[str]
    min: float
    max: float
    format: str
    pattern: str
    min_length: int
    max_length: int
    min_items: int
    max_items: int
    keys: Sequence[Sequence[str | None]]
    unknown: Literal["refuse", "keep"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A type among those that it refers to."""

    types: Sequence[Type]
    number: int

    @property
    def type(self) -> Type:
        """The type itself."""
        return self.types[self.number]

    def at(self, number: int) -> "Shape":
        """Another type of the same table."""
        return Shape(self.types, number)

    def field(self, *path: str) -> "Shape | None":
        """The type of a field at a path; `[]` is an item of a list."""
        here: Shape = self
        for name in path:
            number = (
                here.type.get("items") if name == "[]" else here.type.get("fields", {}).get(name)
            )
            if number is None:
                return None
            here = here.at(number)
        return here


@dataclass(frozen=True, slots=True)
class Schema:
    """One kind: its fields, its name in URLs, and whether it lives in a namespace."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    shape: Shape


@cache
def schema(api_version: str, kind: str) -> Schema | None:
    """The schema of a kind in one version; None where there is no table for it."""
    row = _kinds().get(f"{api_version}/{kind}")
    if row is None:
        return None
    family, number, plural, namespaced = row
    return Schema(api_version, kind, plural, namespaced, Shape(_types(family), number))


def shape_of(api_version: str, kind: str, *path: str) -> Shape:
    """The type of a field of a kind that has a table; `path` as in `Shape.field`."""
    known = schema(api_version, kind)
    found = known.shape.field(*path) if known is not None else None
    assert found is not None
    return found


def known_kinds() -> Sequence[tuple[str, str]]:
    """Every (apiVersion, kind) that has a table, sorted."""
    return [(key.rpartition("/")[0], key.rpartition("/")[2]) for key in _kinds()]


@cache
def _kinds() -> Mapping[str, tuple[str, int, str, bool]]:
    return json.loads((_DATA / "kinds.json").read_bytes())  # type: ignore[no-any-return]


@cache
def _types(family: str) -> Sequence[Type]:
    return json.loads((_DATA / f"{family}.json").read_bytes())  # type: ignore[no-any-return]
