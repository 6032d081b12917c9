"""Rows of CESQL: an expression, the clause that it is about, and what it is worth for one event."""

from dataclasses import dataclass

import pytest

from relume.cesql.parser import ParseError
from relume.cesql.program import compile
from relume.cesql.values import Value
from relume.cloudevents.event import CloudEvent

#: A camera's event: the rows are evaluated for it.
EVENT = CloudEvent.create(
    {
        "id": "frame-17",
        "source": "https://cameras.example/gate/2",
        "type": "example.camera.frame",
        "subject": "Gate Two",
        "time": "2026-11-28T09:30:00+01:00",
        "lane": "12",
        "speed": 48,
        "wet": True,
        "dry": False,
        "plate": "B_7%x",
        "empty": "",
    }
)


@dataclass(frozen=True)
class Row:
    """What `text` is worth (None where it does not parse), and the kind of its error."""

    clause: str
    title: str
    text: str
    value: Value | None
    error: str | None = None


def rows(*found: Row) -> pytest.MarkDecorator:
    """The rows as the parameter `row`, each with its clause and title as its name."""
    return pytest.mark.parametrize("row", found, ids=[f"{r.clause}: {r.title}" for r in found])


def check(row: Row) -> None:
    """Evaluate a row and compare the value, its type and the error's kind."""
    try:
        result = compile(row.text).evaluate(EVENT.attributes)
    except ParseError:
        assert (row.value, row.error) == (None, "parse"), "the expression does not parse"
        return
    assert row.error != "parse", f"it parses, and is worth {result.value!r}"
    assert (result.error.kind if result.error else None) == row.error
    assert (result.value, type(result.value)) == (row.value, type(row.value))
