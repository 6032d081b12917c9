"""The CESQL technology compatibility kit, each case a test of its own."""

from typing import Any

import pytest
import yaml

from relume.cesql.parser import ParseError
from relume.cesql.program import compile
from relume.cloudevents.event import CloudEvent
from tests.vectors import folder, published

from .conftest import Count

pytestmark = published
CASES_OF_THE_KIT = 275
# Every required attribute, for the cases that take "any valid event".
ANY_EVENT = {"id": "1", "source": "/any", "type": "com.example.any"}


class _Loader(yaml.SafeLoader):
    """YAML as JSON would have it: a time is the text that is written."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def cases() -> list[Any]:
    found = []
    root = folder()
    for file in sorted(root.glob("cesql-tck/*.yaml")) if root else ():
        text = file.read_text(encoding="utf-8")
        read, written = (yaml.load(text, loader)["tests"] for loader in (_Loader, yaml.BaseLoader))
        for case, as_written in zip(read, written, strict=True):
            case["expression"] = as_written["expression"]  # TRUE is text here, not a boolean
            found.append(pytest.param(case, id=f"{file.stem}: {case['name']}"))
    return found


CASES = cases()


def outcome(case: dict[str, Any]) -> tuple[object, str | None]:
    """The value and the kind of the error; a text that does not parse has no value."""
    attributes = case.get("event") or ANY_EVENT | case.get("eventOverrides", {})
    try:
        program = compile(case["expression"])
    except ParseError:
        return None, "parse"
    result = program.evaluate(CloudEvent.create(attributes).attributes)
    return result.value, result.error.kind if result.error else None


def test_the_whole_kit_is_there() -> None:
    assert len(CASES) == CASES_OF_THE_KIT


@pytest.mark.parametrize("case", CASES)
def test_the_case_holds(case: dict[str, Any], conformance_count: Count) -> None:
    wanted = case.get("error")
    value, error = outcome(case)
    same_value = wanted == "parse" or (value, type(value)) == (
        case["result"],
        type(case["result"]),
    )
    conformance_count("CESQL 1.0 kit", same_value and error == wanted, 1)
    assert error == wanted
    assert same_value, f"{value!r} is not {case['result']!r}"
