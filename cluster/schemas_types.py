"""The table of types that a generated file holds, each shared subtree once."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

Shape = dict[str, object]
ANY: Shape = {}
STRING: Shape = {"type": "string"}
QUANTITY: Shape = {"type": "quantity"}
INT_OR_STRING: Shape = {"type": "int-or-string"}


@dataclass
class Types:
    """Types by number. A type refers to another by its number.

    The keys of a type: `type`, `fields`, `items`, `values` (of a map), `required`, `enum`, `min`,
    `max`, `format`, `pattern`, `min_length`, `max_length`, `min_items`, `keys` (what makes the
    items of a list unique; [] for the items themselves), and `unknown`: what becomes of a field
    that is not listed. Absent it is dropped, `refuse` it is an error, `keep` it stays.
    """

    all: list[Shape] = field(default_factory=list)
    kinds: dict[str, tuple[int, str, bool]] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _named: dict[str, int] = field(default_factory=dict)

    def add(self, shape: Shape) -> int:
        """The number of `shape`; an equal one is shared."""
        key = json.dumps(shape, sort_keys=True)
        if key not in self._seen:
            self._seen[key] = len(self.all)
            self.all.append(shape)
        return self._seen[key]

    def named(self, name: str, build: Callable[[], Shape]) -> int:
        """The number of the type with a name, which may refer to itself while it is built."""
        if name not in self._named:
            number = self._named[name] = len(self.all)
            self.all.append({})
            self.all[number] = build()
        return self._named[name]

    def map_of(self, values: Shape) -> int:
        """A map from names to `values`."""
        return self.add({"type": "object", "values": self.add(values)})

    def list_of(self, items: Shape) -> int:
        """A list of `items`."""
        return self.add({"type": "array", "items": self.add(items)})
