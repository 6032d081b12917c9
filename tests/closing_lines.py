"""What tests leave to be printed at the end of the run.

It travels in the reports of the tests, so that it arrives from every pytest-xdist worker.
"""

from collections.abc import Iterable
from typing import Any

import pytest

_LINE, _COUNT = "closing line", "closing count"


def say_at_the_end(item: pytest.Item, text: str) -> None:
    """Print `text` when all tests are done."""
    item.user_properties.append((_LINE, text))


def count_at_the_end(item: pytest.Item, name: str, passed: int, total: int) -> None:
    """Print `name: passed/total` when all tests are done; calls add up by name."""
    item.user_properties.append((_COUNT, (name, passed, total)))


def write_closing_lines(terminal: pytest.TerminalReporter) -> None:
    """Print what the tests have left."""
    left = [each for report in _calls(terminal) for each in report.user_properties]
    counts: dict[str, tuple[int, int]] = {}
    for name, passed, total in _values(left, _COUNT):
        before = counts.get(name, (0, 0))
        counts[name] = (before[0] + passed, before[1] + total)
    if counts:
        terminal.section("conformance")
    for name, (passed, total) in counts.items():
        terminal.line(f"{name}: {passed}/{total}")
    for text in _values(left, _LINE):
        terminal.write_line(text)


def _calls(terminal: pytest.TerminalReporter) -> Iterable[pytest.TestReport]:
    for reports in terminal.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                yield report


def _values(left: Iterable[tuple[str, Any]], kind: str) -> list[Any]:
    return [value for name, value in left if name == kind]
