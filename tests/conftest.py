"""Settings of all tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.closing_lines import write_closing_lines
from tests.quick_stop import servers_that_stop_soon
from tests.shares import FilesTogether, longest_first
from tests.vectors import VARIABLE, folder, missing

# Speed is not asserted in tests: an example may take as long as a busy machine makes it.
settings.register_profile(
    "relume",
    parent=settings(),
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("relume")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-phase",
        action="store_true",
        help="tests/crash: kill before, during and after each await, whoever can be killed; "
        "tests/jobs_outside: every fault of a NATS cluster, partitions, and 100 cut streams",
    )
    parser.addoption(
        "--every-harm",
        action="store_true",
        help="tests/crash/test_jobs_every_await.py: all that can go wrong, at each await; an hour. "
        "tests/jobs_outside/test_hostile.py: a flood of a million jobs",
    )


@pytest.fixture(scope="session", autouse=True)
def _quick_stop() -> Iterator[None]:
    with servers_that_stop_soon():
        yield


_LEFT_OUT = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Stop the run where the published suites are asked for and are not there."""
    config.stash[_LEFT_OUT] = 0
    if (root := folder()) is not None and (lacking := missing(root)):
        raise pytest.UsageError(f"{VARIABLE}={root} does not hold {', '.join(lacking)}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    """Share the tests out by files."""
    return FilesTogether(config, log)


# After pytest's own selection by mark and name, so that only what would have run is counted.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes and the published suites, unless asked for; share the rest."""
    if not config.getoption("every_phase"):
        _leave_out("every_phase", config, items)
    if hasattr(config, "workerinput"):
        longest_first(items)
    if folder() is not None:
        return
    config.stash[_LEFT_OUT] = _leave_out("published", config, items)


def _leave_out(marker: str, config: pytest.Config, items: list[pytest.Item]) -> int:
    """Take the tests with a marker away, and return how many they were."""
    left_out = [item for item in items if item.get_closest_marker(marker)]
    if left_out:
        items[:] = [item for item in items if not item.get_closest_marker(marker)]
        config.hook.pytest_deselected(items=left_out)
    return len(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a pytest-xdist worker left out; each of them collects all tests."""
    workeroutput = getattr(node, "workeroutput", {})
    node.config.stash[_LEFT_OUT] = max(
        node.config.stash[_LEFT_OUT], workeroutput.get("left_out", 0)
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[_LEFT_OUT]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write_closing_lines(terminalreporter)
    if terminalreporter.config.stash[_LEFT_OUT]:
        terminalreporter.line(
            f"published suites not run: set {VARIABLE} to the folder that holds them"
        )
