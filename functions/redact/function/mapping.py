"""Placeholders and the values that they stand for. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .recognizers import PLACEHOLDER, Span


class Placeholders:
    """Placeholders by value. One that was given once is kept, so that redacting is repeatable."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = dict(values or {})
        self._by_value = {value: name for name, value in self.values.items()}
        self._last: dict[str, int] = {}
        for name in self.values:
            kind, _, number = name.strip("[]").rpartition("_")
            self._last[kind] = max(self._last.get(kind, 0), int(number))

    @classmethod
    def unpack(cls, stored: bytes) -> "Placeholders":
        return cls(json.loads(stored))

    def pack(self) -> bytes:
        return json.dumps(self.values).encode()

    def name_of(self, value: str, kind: str) -> str:
        if value not in self._by_value:
            self._last[kind] = self._last.get(kind, 0) + 1
            name = f"[{kind}_{self._last[kind]}]"
            self._by_value[value], self.values[name] = name, value
        return self._by_value[value]

    def redact(self, text: str, spans: list[Span]) -> str:
        """The text with a placeholder for each span; the spans are in order and do not overlap."""
        parts, at = [], 0
        for span in spans:
            parts += [text[at : span.start], self.name_of(text[span.start : span.end], span.kind)]
            at = span.end
        return "".join([*parts, text[at:]])

    def restore(self, text: str) -> str:
        """The text with the values back in it; a placeholder that was never given stays."""
        return PLACEHOLDER.sub(lambda found: self.values.get(found[0], found[0]), text)


def each_text(node: Any, change: Callable[[str], str]) -> Any:
    """The same data with every text in it changed. The names of fields stay."""
    if isinstance(node, str):
        return change(node)
    if isinstance(node, dict):
        return {key: each_text(value, change) for key, value in node.items()}
    return [each_text(value, change) for value in node] if isinstance(node, list) else node


def field_values(node: Any, kinds: Mapping[str, str]) -> dict[str, str]:
    """The texts of the fields that are named in `kinds`, at any depth, and their kind."""
    found: dict[str, str] = {}
    if isinstance(node, dict):
        for key, value in node.items():
            if key in kinds and isinstance(value, str) and value.strip():
                found[value] = kinds[key]
            else:
                found |= field_values(value, kinds)
    elif isinstance(node, list):
        for value in node:
            found |= field_values(value, kinds)
    return found


def text_length(node: Any) -> int:
    """The characters of all texts together."""
    if isinstance(node, dict):
        return sum(map(text_length, node.values()))
    if isinstance(node, list):
        return sum(map(text_length, node))
    return len(node) if isinstance(node, str) else 0


def has_placeholder(data: Any) -> bool:
    return re.search(PLACEHOLDER, json.dumps(data)) is not None
