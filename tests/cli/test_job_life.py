"""The parts of a job's life that `relume explain` shows."""

from datetime import UTC, datetime, timedelta

import pytest

from relume.cli.machine.job_reports import JobReport, UsageReport
from relume.cli.machine.job_story import life

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_job_that_was_cancelled_has_answered_until_then() -> None:
    job = JobReport(
        id="job_1",
        status="cancelled",
        service="default/m",
        created_at="2026-01-01T00:00:00.000Z",
        started_at="2026-01-01T00:00:00.020Z",
        settled_at="2026-01-01T00:00:01.020Z",
        attempts=1,
        reason="cancelled",
        usage=UsageReport(prompt_tokens=3, completion_tokens=12, queue_ms=20),
    )
    parts = {name: ms for name, ms, _ in life(job)}
    assert (parts["in the queue"], parts["answering"]) == (20, 1000)
    assert "elsewhere" not in parts


def at(ms: float | None) -> str | None:
    return None if ms is None else (START + timedelta(milliseconds=ms)).isoformat()


@pytest.mark.parametrize(
    ("status", "started", "attempts", "usage", "parts"),
    [
        ("completed", 20, 1, (20, 0, 900), {"in the queue": 20, "answering": 900, "elsewhere": 80}),
        (
            "completed",
            20,
            1,
            (20, 600, 380),
            {"in the queue": 20, "cold start": 600, "answering": 380},
        ),
        # Another request had caused the start, long before a worker had the job.
        (
            "completed",
            20,
            1,
            (20, 30_000, 400),
            {"in the queue": 20, "cold start": 580, "answering": 400},
        ),
        # Two starts and a back-off.
        (
            "completed",
            20,
            2,
            (20, 300, 400),
            {"in the queue": 20, "cold start": 300, "answering": 400, "between": 280},
        ),
        ("dead", 20, 3, (20, 0, 0), {"in the queue": 20, "between": 980}),
        ("failed", 20, 1, (0, 0, 0), {"in the queue": 20, "elsewhere": 980}),
        ("expired", None, 0, (0, 0, 0), {"in the queue": 1000}),
        ("cancelled", None, 0, (1000, 0, 0), {"in the queue": 1000}),
        (
            "cancelled",
            20,
            1,
            (20, 500, 0),
            {"in the queue": 20, "cold start": 500} | {"answering": 480},
        ),
        # The worker's clock is behind the one of the gateway that accepted the job.
        ("completed", -20, 1, (0, 0, 900), {"in the queue": 0, "answering": 900, "elsewhere": 100}),
        # Rounded up, they are a little more than there was.
        ("cancelled", 1000, 1, (1001, 0, 0), {"in the queue": 1000}),
        ("completed", 20, 1, (21, 0, 981), {"in the queue": 21, "answering": 979}),
    ],
)
def test_the_parts_of_a_settled_job_sum_to_its_life(
    status: str,
    started: int | None,
    attempts: int,
    usage: tuple[int, int, int],
    parts: dict[str, float],
) -> None:
    queue_ms, cold_start_ms, run_ms = usage
    job = JobReport(
        id="job_1",
        status=status,
        service="default/m",
        created_at=at(0) or "",
        started_at=at(started),
        settled_at=at(1000),
        attempts=attempts,
        usage=UsageReport(queue_ms=queue_ms, cold_start_ms=cold_start_ms, run_ms=run_ms),
    )
    found = {name: ms for name, ms, _ in life(job) if ms is not None}
    assert found == parts
    assert sum(found.values()) == 1000
