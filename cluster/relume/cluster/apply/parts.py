"""Reading the JSON of an API object, any part of which may be missing."""

from relume.cluster.apply.api import Json


def part(value: object, *path: str) -> object:
    """What is at a path of tables; None where there is nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: object, *path: str) -> str:
    """The value at a path as text, "" where there is none."""
    found = part(value, *path)
    return "" if found is None or isinstance(found, dict | list) else str(found)


def table(value: object, *path: str) -> Json:
    """The table at a path, empty where there is none."""
    found = part(value, *path)
    return found if isinstance(found, dict) else {}


def objects(value: object, *path: str) -> list[Json]:
    """The tables of the list at a path."""
    found = part(value, *path)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def condition(value: object, kind: str) -> Json:
    """The condition of that type in an object's status, empty where there is none."""
    found = objects(value, "status", "conditions")
    return next((one for one in found if one.get("type") == kind), {})


def is_ready(value: object) -> bool:
    """Whether the object is Ready, and what says so has seen its newest generation."""
    seen, wanted = (
        part(value, "status", "observedGeneration"),
        part(value, "metadata", "generation"),
    )
    stale = isinstance(seen, int) and isinstance(wanted, int) and seen < wanted
    return not stale and text(condition(value, "Ready"), "status") == "True"
