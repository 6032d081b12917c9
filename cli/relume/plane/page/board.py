"""What a page shows now, in sections of named items, and what of it has changed since when.

Every change gets a number. A page remembers the number up to which it was told, so nothing is
queued for a page that reads slowly: it gets the newest state of what has changed meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from relume.base.vocabulary import Json

#: What a section shows: names and items, in their order.
Items = Sequence[tuple[str, Json]]


@dataclass(frozen=True, slots=True)
class _Item:
    changed_at: int
    json: bytes


class Board:
    """The sections, and the number of the last change."""

    def __init__(self) -> None:
        self.version = 0
        self._items: dict[str, dict[str, _Item]] = {}
        self._ordered_at: dict[str, int] = {}

    def put(self, sections: Mapping[str, Items]) -> None:
        """Show this from now on, in the sections that are named."""
        version = self.version + 1
        for section, items in sections.items():
            before = self._items.get(section, {})
            now = {name: _kept(before.get(name), item, version) for name, item in items}
            if list(now) != list(before):
                self._ordered_at[section] = version
            self._items[section] = now
            if self._changed_at(section) == version:
                self.version = version

    def since(self, version: int) -> dict[str, object]:
        """What has changed after `version`, by section: `items` by name, and `order` if it has."""
        return {
            section: self._news(section, version)
            for section in self._items
            if self._changed_at(section) > version
        }

    def _news(self, section: str, version: int) -> dict[str, object]:
        items = self._items[section]
        news: dict[str, object] = {
            "items": {
                name: orjson.Fragment(item.json)
                for name, item in items.items()
                if item.changed_at > version
            }
        }
        if self._ordered_at.get(section, 0) > version:
            news["order"] = list(items)
        return news

    def _changed_at(self, section: str) -> int:
        changed = (each.changed_at for each in self._items[section].values())
        return max(self._ordered_at.get(section, 0), max(changed, default=0))


def _kept(before: _Item | None, item: Json, version: int) -> _Item:
    """The item as it was where it says the same."""
    json = orjson.dumps(item)
    return before if before is not None and before.json == json else _Item(version, json)
