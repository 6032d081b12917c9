"""How many of the published cases hold: every test here reports, the end of the run prints it."""

from collections.abc import Callable

import pytest

Count = Callable[[str, int, int], None]

COUNTS: dict[str, tuple[int, int]] = {}


@pytest.fixture(scope="session")
def conformance_count() -> Count:
    """`conformance_count(name, passed, total)`: report before you assert; calls add up by name."""

    def count(name: str, passed: int, total: int) -> None:
        before = COUNTS.get(name, (0, 0))
        COUNTS[name] = (before[0] + passed, before[1] + total)

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COUNTS:
        terminalreporter.section("conformance")
    for name, (passed, total) in COUNTS.items():
        terminalreporter.line(f"{name}: {passed}/{total}")
