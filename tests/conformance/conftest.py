"""How many of the published cases hold: every test here reports, the end of the run prints it."""

from collections.abc import Callable

import pytest

from tests.closing_lines import count_at_the_end

Count = Callable[[str, int, int], None]


@pytest.fixture
def conformance_count(request: pytest.FixtureRequest) -> Count:
    """`conformance_count(name, passed, total)`: report before you assert; calls add up by name."""

    def count(name: str, passed: int, total: int) -> None:
        count_at_the_end(request.node, name, int(passed), total)

    return count
