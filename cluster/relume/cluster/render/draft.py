"""A document on its way out, and the record of who decided each field that the user did not."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Union

from relume.cluster.render.rules import Rule

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
Key = str | int


@dataclass(frozen=True, slots=True)
class Decision:
    """`path` is written as Kubernetes writes it, "" for a whole document; None is a removed one."""

    file: str
    document: str
    path: str
    value: Json
    rule: str
    reason: str


class Draft:
    """One document of one file.

    A draft begins as the user's own document, or as an empty one; each later change goes through
    `set`, `put` or `remove` and names its rule.
    """

    def __init__(self, file: str, body: dict[str, Json], decisions: list[Decision]) -> None:
        self.file = file
        self.body = body
        self._decisions = decisions

    @property
    def label(self) -> str:
        """The document's kind, namespace and name in one word."""
        metadata = self.body.get("metadata")
        named = metadata if isinstance(metadata, dict) else {}
        names = [str(named[key]) for key in ("namespace", "name") if named.get(key)]
        return "/".join([str(self.body.get("kind", "")), *names])

    def get(self, *path: Key) -> Json:
        """The value at `path`, None where there is none."""
        here: Json = self.body
        for key in path:
            if isinstance(here, dict) and isinstance(key, str):
                here = here.get(key)
            elif isinstance(here, list) and isinstance(key, int) and key < len(here):
                here = here[key]
            else:
                return None
        return here

    def set(self, path: Sequence[Key], value: Json, rule: Rule, reason: str = "") -> None:
        """Put `value` at `path`, making the tables on the way; a list on the way must be there."""
        self._store(path, deepcopy(value))
        self._record(path, value, rule, reason)

    def put(self, path: Sequence[Key], item: dict[str, Json], rule: Rule, reason: str = "") -> None:
        """Append an item with a `name` to the list at `path`; one of that name stays the user's."""
        found = self.get(*path)
        items = found if isinstance(found, list) else []
        if any(isinstance(other, dict) and other.get("name") == item["name"] for other in items):
            return
        if not items:
            self._store(path, items)
        items.append(deepcopy(item))
        self._record([*path, len(items) - 1], item, rule, reason)

    def remove(self, path: Sequence[Key], rule: Rule, reason: str = "") -> None:
        """Take the field at `path` away, and the tables that it leaves empty."""
        here = self.get(*path[:-1])
        last = path[-1]
        if not isinstance(here, dict) or not isinstance(last, str) or last not in here:
            return
        del here[last]
        self._record(path, None, rule, reason)
        if not here and len(path) > 1:
            self.remove(path[:-1], rule, reason)

    def _store(self, path: Sequence[Key], value: Json) -> None:
        here: Json = self.body
        for key in path[:-1]:
            if isinstance(here, dict) and isinstance(key, str):
                if here.get(key) is None:
                    here[key] = {}
                here = here[key]
            elif isinstance(here, list) and isinstance(key, int):
                here = here[key]
        last = path[-1]
        match here, last:
            case dict(), str():
                here[last] = value
            case list(), int():
                here[last] = value
            case _:
                raise TypeError(f"{spell(path)} is not a field of {self.label}")

    def _record(self, path: Sequence[Key], value: Json, rule: Rule, reason: str) -> None:
        self._decisions.append(
            Decision(
                self.file,
                self.label,
                spell(path),
                deepcopy(value),
                rule.name,
                reason or rule.why,
            )
        )


def spell(path: Sequence[Key]) -> str:
    """A path as Kubernetes writes it: `spec.filters[0].exact`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")
