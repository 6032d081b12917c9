"""A job in words: its state, and its life phase by phase across attempts."""

from collections.abc import Mapping
from datetime import datetime

from rich.text import Text

from relume.cli.machine.job_reports import JobReport, UsageReport
from relume.cli.machine.reports import QueueReport
from relume.cli.screen import Screen

STYLES = {
    "queued": "blue",
    "leased": "yellow",
    "streaming": "cyan",
    "completed": "green",
    "failed": "bold red",
    "expired": "magenta",
    "cancelled": "dim",
    "dead": "bold red",
}
_CLOCKS = {
    "queue": "no worker had room for it in time; the model was never asked",
    "start": "the model did not begin to answer in time, the cold start included",
    "run": "the answer took longer than it may",
}


def show_job(screen: Screen, job: JobReport) -> None:
    """One job, for a reader."""
    screen.draw_line(
        Text.assemble((job.id, "bold"), "  ", (job.status, STYLES.get(job.status, "")))
    )
    screen.pairs(facts(job))


def facts(job: JobReport) -> list[tuple[str, str]]:
    """What is known of a job; what is not known is left out."""
    usage = job.usage
    tokens = f"{usage.prompt_tokens} in, {usage.completion_tokens} out" if usage else ""
    if usage is not None and usage.cached_tokens:
        tokens += f", {usage.cached_tokens} of the prompt from the cache"
    every: list[tuple[str, object]] = [
        ("service", job.service),
        ("route", job.route),
        ("priority", job.priority),
        ("tenant", job.tenant),
        ("event", None if job.event is None else job.event.get("id")),
        ("created", job.created_at),
        ("started", job.started_at),
        ("settled", job.settled_at),
        ("kept until", job.expires_at),
        ("position", job.position),
        ("starts in", None if job.predicted_start_s is None else f"{job.predicted_start_s:.0f} s"),
        ("attempts", job.attempts or None),
        ("round", job.round if job.round > 1 else None),
        ("reason", job.reason),
        ("detail", job.detail),
        ("tokens", tokens),
    ]
    return [(name, str(value)) for name, value in every if value not in (None, "")]


def show_life(screen: Screen, job: JobReport) -> None:
    """Where the time of a job went, phase by phase, over all of its attempts."""
    total = milliseconds(job.created_at, job.settled_at)
    took = f" after {total:,.0f} ms" if total is not None else ""
    screen.title(f"{job.id}: {job.status}{took}, {_attempts(job)}")
    phases = life(job)
    width = max((len(name) for name, _, _ in phases), default=0)
    for name, ms, words in phases:
        took = "" if ms is None else f"{ms:,.0f} ms"
        line = Text.assemble(
            "  ", (name.ljust(width), "dim"), f"  {took:>12}", ("  " + words, "dim")
        )
        screen.draw_line(line)
    if job.reason in _CLOCKS:
        screen.line(f"  {_CLOCKS[job.reason]}", "yellow")
    elif job.detail:
        screen.quote(job.detail)


def life(job: JobReport) -> list[tuple[str, float | None, str]]:
    """The phases of a job: a name, its milliseconds where it took some, and words.

    Of a settled job they sum to the time from its creation to its end.
    """
    found: list[tuple[str, float | None, str]] = [("accepted", None, job.created_at)]
    if job.round > 1:
        found.append(("retried", None, f"round {job.round}: it was queued again by hand"))
    total = milliseconds(job.created_at, job.settled_at)
    if job.started_at is None:
        place = "" if job.position is None else f"position {job.position}"
        found.append(("in the queue", total, place or "until it was settled"))
    else:
        queued = _queued(job, total)
        found.append(("in the queue", queued, f"until {job.started_at}"))
        if job.usage is not None:
            found += _worked(job, job.usage, None if total is None else total - queued)
    if job.settled_at is not None:
        reason = f", {job.reason}" if job.reason else ""
        found.append((job.status, None, f"{job.settled_at}{reason}"))
    return found


def _queued(job: JobReport, total: float | None) -> float:
    """How long a job was in the queue: no less than nothing, and no more than its whole life.

    Clocks of several gateways may differ, and `queue_ms` is rounded.
    """
    queued = milliseconds(job.created_at, job.started_at) or 0.0
    if job.usage is not None and job.usage.queue_ms:
        queued = job.usage.queue_ms
    return max(min(queued, queued if total is None else total), 0.0)


def _worked(
    job: JobReport, usage: UsageReport, worked: float | None
) -> list[tuple[str, float | None, str]]:
    """The phases in the `worked` milliseconds in which workers had a job."""
    found: list[tuple[str, float | None, str]] = []
    run_ms: float = usage.run_ms if worked is None else min(usage.run_ms, worked)
    start_ms: float = usage.cold_start_ms
    words = f"over {_attempts(job)}"
    if worked is not None and start_ms > worked - run_ms:
        # A start may have begun for somebody else before a worker had the job.
        start_ms = worked - run_ms
        words += f"; the start took {usage.cold_start_ms:,} ms, and began before"
    if usage.cold_start_ms:
        found.append(("cold start", start_ms, words))
    # How long a run took is known at its end; that of a job that was cancelled has none.
    is_cut = job.status == "cancelled" and not usage.run_ms
    if not is_cut and (usage.run_ms or usage.completion_tokens):
        found.append(("answering", run_ms, _speed(job)))
    rest = 0.0 if worked is None else worked - start_ms - run_ms
    if rest > 0 and job.attempts > 1:
        found.append(("between", rest, "waits before the next attempt, and workers that died"))
    elif rest > 0 and is_cut:
        found.append(("answering", rest, f"{usage.completion_tokens} tokens, then cancelled"))
    elif rest > 0:
        words = "waiting for a replica with room, storing the answer, and settling the job"
        found.append(("elsewhere", rest, words))
    return found


def milliseconds(start: str | None, end: str | None) -> float | None:
    """From one RFC 3339 time to another; None when one is missing or wrong."""
    if start is None or end is None:
        return None
    try:
        took = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    except (ValueError, TypeError):
        return None
    return took.total_seconds() * 1000


def job_row(job: JobReport) -> tuple[str | Text, ...]:
    """A row of a list; the columns are those of `JOB_COLUMNS`."""
    usage = job.usage
    return (
        job.id,
        Text(job.status, style=STYLES.get(job.status, "")),
        job.service,
        job.priority,
        job.created_at.partition(".")[0].replace("T", " "),
        str(job.attempts),
        str(usage.completion_tokens) if usage else "",
        job.reason or ("" if job.position is None else f"position {job.position}"),
    )


JOB_COLUMNS = ("job", "status", "service", "priority", "created", "tries", "tokens", "reason")


def show_queues(screen: Screen, queues: Mapping[str, QueueReport], *, lanes: bool = False) -> None:
    """A line for each queue; with `lanes` one for each tenant and priority below it."""
    rows: list[tuple[str, ...]] = []
    for service, queue in queues.items():
        state = "paused" if queue.paused else "open"
        running = "-" if queue.running is None else str(queue.running)
        rows.append((service, state, str(queue.waiting), running))
        if lanes:
            rows += [
                (f"  {each.tenant} ({each.priority})", "", str(each.waiting), "")
                for each in queue.lanes
            ]
    screen.table(("queue", "state", "waiting", "running"), rows)


def _attempts(job: JobReport) -> str:
    return f"{job.attempts} attempt{'' if job.attempts == 1 else 's'}"


def _speed(job: JobReport) -> str:
    usage = job.usage
    if usage is None or not usage.completion_tokens:
        return ""
    tokens = f"{usage.completion_tokens} tokens"
    if not usage.run_ms:
        return tokens
    return f"{tokens}, {usage.completion_tokens / usage.run_ms * 1000:,.1f} a second"
