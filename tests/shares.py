"""How the tests are shared between pytest-xdist workers: `--dist loadgroup --no-loadscope-reorder`.

The tests of a file stay together and in order, so that what its fixtures set up is set up once.
"""

import pytest

_MODEL = "the real vLLM"


def for_workers(items: list[pytest.Item]) -> None:
    """Name the group of each test, and put those first that take longest."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_turn)


def _group(item: pytest.Item) -> str:
    """One worker runs all that loads models: two engines at once take each other's cores."""
    return _MODEL if item.get_closest_marker("model") else item.nodeid.partition("::")[0]


def _turn(item: pytest.Item) -> int:
    return next((turn for turn, mark in enumerate(("model", "crash")) if _has(item, mark)), 2)


def _has(item: pytest.Item, mark: str) -> bool:
    return item.get_closest_marker(mark) is not None
