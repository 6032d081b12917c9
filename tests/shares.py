"""How the tests are shared between pytest-xdist's workers.

The tests of a file stay together and in order, so that what its fixtures set up is set up once.
pytest-xdist's own groups would say so by marks, but they have no effect with pytest 9.2.
"""

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

_ROOT = Path(__file__).parents[1]
_MODEL = "the real vLLM"


class FilesTogether(LoadScopeScheduling):
    """Gives each worker whole files, and one worker every file that loads a model.

    Two engines at once would take each other's cores.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _MODEL if _loads_a_model(file) else file


@cache
def _loads_a_model(file: str) -> bool:
    return "mark.model" in (_ROOT / file).read_text(encoding="utf-8")


def longest_first(items: list[pytest.Item]) -> None:
    """Put those tests first that take longest; a file's stay together."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if _loads_a_model(item.nodeid.partition("::")[0]):
        return 0
    return 1 if item.get_closest_marker("crash") else 2
