"""`relume jobs`: durable requests. Each is stored before it is accepted, and settled once."""

import asyncio
import sys
from pathlib import Path

import click

from relume.cli.errors import BadUsage
from relume.cli.inputs import confirmed
from relume.cli.machine.client import find_plane
from relume.cli.machine.each_job import on_each_job
from relume.cli.machine.job_queues import pause, purge, queues, resume
from relume.cli.machine.job_reports import STATUSES, JobReport
from relume.cli.machine.job_request import (
    body_of,
    full_name,
    headers_for,
    request_for,
)
from relume.cli.machine.job_story import JOB_COLUMNS, job_row, show_job
from relume.cli.machine.job_watch import AsJson, AsText, watch
from relume.cli.machine.jobs_client import LONGEST_WAIT_S, JobsClient, Wanted
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen

_WAIT = click.IntRange(0, LONGEST_WAIT_S)


@click.group("jobs", short_help="Durable requests: submit, watch, cancel, list, retry.")
def command() -> None:
    """Durable requests for a model: each is stored before it is accepted, and settled once.

    They go to a plane of this machine, or to a gateway of a cluster (--url or $RELUME_URL). An API
    key or token is read from $RELUME_KEY.

    \b
    Examples:
      relume jobs submit --service default/summarize --chat 'What is a GPU?' --max-tokens 40 --watch
      relume jobs submit chat.json --service default/summarize --idempotency-key order-17
      relume jobs list --status dead
      relume jobs retry JOB_ID
    """


@command.command("submit")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--chat", metavar="TEXT", help="Ask this in a chat, instead of FILE.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    metavar="N",
    help="With --chat: the most tokens of the answer.",
)
@click.option(
    "--service",
    metavar="NS/NAME",
    help="Default: the only one, or the one with the model of the request.",
)
@click.option(
    "--route",
    metavar="PATH",
    help="Path at the predictor. Default: the one that takes the fields of the request.",
)
@click.option(
    "--idempotency-key",
    "key",
    metavar="KEY",
    help="A request with the key of an earlier one is the same job.",
)
@click.option(
    "--priority",
    type=click.Choice(("high", "normal", "low")),
    help="Whose turn comes first. Default: normal.",
)
@click.option(
    "--queue-timeout",
    metavar="TIME",
    help="The longest wait for the first attempt: 90s, 5m, 2h, 1d.",
)
@click.option(
    "--start-timeout",
    metavar="TIME",
    help="The longest time of an attempt until its answer begins.",
)
@click.option(
    "--run-timeout", metavar="TIME", help="The longest time from there to the end of the answer."
)
@click.option("--keep", metavar="TIME", help="How long the answer is kept.")
@click.option(
    "--max-attempts",
    type=click.IntRange(1, 20),
    metavar="N",
    help="How often it is tried; 1: once.",
)
@click.option(
    "--wait",
    "wait_s",
    type=_WAIT,
    metavar="SECONDS",
    help="Wait so many seconds at most, and print the answer if it is there then.",
)
@click.option("--watch", "watching", is_flag=True, help="Print the answer as it comes.")
@output_option
@plane_option
def submit(
    *,
    file: Path | None,
    chat: str | None,
    max_tokens: int | None,
    service: str | None,
    route: str | None,
    wait_s: int | None,
    watching: bool,
    output: str,
    url: str | None,
    **limits: str | int | None,
) -> int:
    """Submit a request as a job; it is stored durably before its id is printed.

    FILE holds the request's JSON, as the route takes it; - is standard input. Without --service its
    model names the service, as it does in the API of OpenAI. The same
    --idempotency-key with the same request is the same job, and nothing is generated twice.

    \b
    Examples:
      relume jobs submit --service default/summarize --chat 'What is a GPU?' --max-tokens 40 --watch
      relume jobs submit chat.json --service default/summarize --priority low --queue-timeout 2h
      id=$(relume jobs submit chat.json --service default/summarize -o json | jq -r .id)
    """
    if watching and wait_s is not None:
        raise BadUsage("--watch prints the answer as it comes: leave --wait out")
    body = body_of(file, chat, max_tokens)
    headers = headers_for(wait_s=wait_s, **limits)  # type: ignore[arg-type]
    return asyncio.run(_submit(find_plane(url), body, service, route, headers, watching, output))


async def _submit(
    url: str,
    body: bytes,
    service: str | None,
    route: str | None,
    headers: dict[str, str],
    watching: bool,
    output: str,
) -> int:
    async with JobsClient(url) as client:
        queues = {} if service else {queue.service: queue for queue in await client.queues()}
        request = request_for(body, queues, service, route)
        wait_s = int(headers["Prefer"].partition("wait=")[2] or 0)
        with Screen.stderr().spinner("waiting for the answer" if wait_s else "submitting"):
            answer = await client.submit(request.path, headers, body, wait_s)
        if job_id := answer.headers.get("relume-job"):
            Screen.stderr().line(f"job {job_id}", "dim")
            _write(answer.content)
            return 0 if answer.status_code < 400 else 1
        job = JobReport.parse(answer.json())
        if not watching:
            _print_job(job, output)
            return 0
        Screen.stderr().line(f"accepted: {job.id}", "dim")
        return await _watch(client, job.id, 0, output)


@command.command("get")
@click.argument("job_id", metavar="ID")
@click.option(
    "--wait",
    "wait_s",
    type=_WAIT,
    default=0,
    metavar="SECONDS",
    help="Wait until the job is settled, for so many seconds at most.",
)
@click.option("--result", is_flag=True, help="Print the stored answer itself.")
@output_option
@plane_option
def get(*, job_id: str, wait_s: int, result: bool, output: str, url: str | None) -> int:
    """Show a job: its state, its place in the queue, what it has cost.

    With --result the answer of the model is written as it was stored; exit code 1 where the model
    answered with an error.

    \b
    Examples:
      relume jobs get JOB_ID --wait 60
      relume jobs get JOB_ID --result | jq -r '.choices[0].message.content'
    """
    return asyncio.run(_get(find_plane(url), job_id, wait_s, result, output))


async def _get(url: str, job_id: str, wait_s: int, result: bool, output: str) -> int:
    async with JobsClient(url) as client:
        if not result or wait_s:
            with Screen.stderr().spinner("waiting for the job"):
                job = await client.job(job_id, wait_s)
        if not result:
            _print_job(job, output)
            return 0
        answer = await client.result(job_id)
    _write(answer.content)
    return 0 if answer.status_code < 400 else 1


@command.command("watch")
@click.argument("job_id", metavar="ID")
@click.option(
    "--after",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Leave out the parts up to this position.",
)
@output_option
@plane_option
def watch_job(*, job_id: str, after: int, output: str, url: str | None) -> int:
    """Print the answer of a job as it comes; the phases of a cold start go to stderr.

    When the connection is lost it attaches again by itself, and no part is missed or repeated.
    Ctrl-C leaves the job alone: it goes on. Exit code 1 where the job did not complete.

    \b
    Examples:
      relume jobs watch JOB_ID
      relume jobs watch JOB_ID -o json | jq -c 'select(.event == "data")'
    """

    async def run() -> int:
        async with JobsClient(find_plane(url)) as client:
            return await _watch(client, job_id, after, output)

    return asyncio.run(run())


async def _watch(client: JobsClient, job_id: str, after: int, output: str) -> int:
    shown = AsJson() if output == "json" else AsText()
    job = await watch(client, job_id, shown, after=after)
    return 0 if job.status == "completed" else 1


@command.command("list")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES),
    help="Only these; repeatable.",
)
@click.option("--service", metavar="NS/NAME", help="Only jobs of this service.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    metavar="N",
    help="List so many at most.",
)
@output_option
@plane_option
def list_jobs(
    *, statuses: tuple[str, ...], service: str | None, limit: int, output: str, url: str | None
) -> int:
    """List jobs, newest first.

    \b
    Examples:
      relume jobs list --status queued --status streaming
      relume jobs list --status dead -o json | jq -r '.[].id'
    """
    wanted = Wanted(statuses, full_name(service) if service else None)
    jobs, more = asyncio.run(_list(find_plane(url), wanted, limit))
    screen = Screen.stdout()
    if output == "json":
        screen.json([job.raw for job in jobs])
        return 0
    if jobs:
        screen.table(JOB_COLUMNS, [job_row(job) for job in jobs])
    else:
        screen.line("no jobs")
    if more:
        screen.line(f"… and more: --limit {limit * 10}", "dim")
    return 0


async def _list(url: str, wanted: Wanted, limit: int) -> tuple[list[JobReport], bool]:
    found: list[JobReport] = []
    async with JobsClient(url) as client:
        async for job in client.jobs(wanted):
            if len(found) == limit:
                return found, True
            found.append(job)
    return found, False


@command.command("cancel")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID…")
@plane_option
def cancel(*, job_ids: tuple[str, ...], url: str | None) -> int:
    """End jobs: one that waits is taken out of the queue, one that runs is aborted in the engine.

    \b
    Examples:
      relume jobs cancel JOB_ID
    """
    return asyncio.run(on_each_job(find_plane(url), job_ids, JobsClient.cancel, "cancelled"))


@command.command("retry")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID…")
@plane_option
def retry(*, job_ids: tuple[str, ...], url: str | None) -> int:
    """Queue jobs once more that ended without an answer; their ids stay the same.

    \b
    Examples:
      relume jobs retry JOB_ID
      relume jobs list --status dead -o json | jq -r '.[].id' | xargs -r relume jobs retry
    """
    return asyncio.run(on_each_job(find_plane(url), job_ids, JobsClient.retry, "queued again"))


@command.command("delete")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID…")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@plane_option
def delete(*, job_ids: tuple[str, ...], yes: bool, url: str | None) -> int:
    """Remove the requests and answers of settled jobs; only their idempotency keys are kept.

    \b
    Examples:
      relume jobs delete JOB_ID --yes
    """
    what = "this job" if len(job_ids) == 1 else f"these {len(job_ids)} jobs"
    if not yes and not confirmed(f"Delete the prompt and the answer of {what}?"):
        Screen.stdout().line("nothing deleted")
        return 1
    return asyncio.run(on_each_job(find_plane(url), job_ids, JobsClient.delete, "deleted"))


for _each in (queues, pause, resume, purge):
    command.add_command(_each)


def _print_job(job: JobReport, output: str) -> None:
    screen = Screen.stdout()
    if output == "json":
        screen.json(job.raw)
    else:
        show_job(screen, job)


def _write(content: bytes) -> None:
    """The bytes of an answer as they are; text gets a line end in a terminal."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    if sys.stdout.isatty() and not content.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
