"""The parts of a job's life that `relume explain` shows."""

from relume.cli.machine.job_reports import JobReport, UsageReport
from relume.cli.machine.job_story import life


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
