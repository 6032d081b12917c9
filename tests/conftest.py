"""Settings of all tests."""

import pytest
from hypothesis import HealthCheck, settings

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
        help="tests/crash: kill before, during and after each await, whoever can be killed",
    )
