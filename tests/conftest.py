"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# Speed is not asserted in tests: an example may take as long as a busy machine makes it.
settings.register_profile(
    "relume",
    parent=settings(),
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("relume")
