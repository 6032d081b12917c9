"""`relume dlq`: events that could not be delivered and that no dead letter sink took."""

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from relume.cli.errors import BadUsage, NotAPlane, Refused
from relume.cli.machine.client import NotOperator, PlaneClient, choose_broker, find_plane
from relume.cli.machine.dead_jobs import as_letter, dead_jobs, letters
from relume.cli.machine.each_job import on_each_job
from relume.cli.machine.job_reports import JobReport
from relume.cli.machine.jobs_client import JobsClient
from relume.cli.machine.reports import DeadLetterReport, Status
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen
from relume.config.durations import go_duration

_SAID = 80  # characters of the subscriber's answer that fit a line
_NO_ANSWER = -1
# Where the control API of a plane is missing, a gateway has dead letters here.
GATEWAY_LOG = "relume-jobs/outbox"


_everything = click.option(
    "--all",
    "everything",
    is_flag=True,
    help="All dead letters, or all that the other options choose.",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters the options choose; None leaves a property open."""

    broker: str | None
    trigger: str | None
    reason: str | None
    type: str | None
    before: datetime | None

    def takes(self, letter: DeadLetterReport) -> bool:
        return (
            self.trigger in (None, letter.trigger)
            and self.reason in (None, letter.reason)
            and self.type in (None, letter.type)
            and (self.before is None or datetime.fromisoformat(letter.at) < self.before)
        )

    def takes_job(self, job: JobReport) -> bool:
        """Whether it takes this dead job, which has no Broker, Trigger or type."""
        at = job.settled_at or job.created_at
        return (
            self.broker is None
            and self.trigger is None
            and self.type is None
            and self.reason in (None, job.reason)
            and (self.before is None or datetime.fromisoformat(at) < self.before)
        )

    def check(self, numbers: Sequence[object], everything: bool) -> None:
        """Raise BadUsage unless it is clear which dead letters are chosen."""
        narrow = self.trigger or self.reason or self.type or self.before
        if numbers and (everything or narrow):
            raise BadUsage("name dead letters by number, or choose them with options, not both")
        if not (numbers or everything):
            raise BadUsage("which ones? Name their numbers (relume dlq list), or say --all")


def choosing(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of a Choice to a click command, which receives it as `choice`."""

    @click.option(
        "--broker", metavar="NS/NAME", help="The Broker, where several have dead letters."
    )
    @click.option("--trigger", metavar="NAME", help="Only those of this Trigger.")
    @click.option("--reason", metavar="WORD", help="Only with this reason, as list shows it.")
    @click.option("--type", "type_", metavar="TYPE", help="Only events of this type.")
    @click.option("--older-than", metavar="TIME", help='Only older ones: "90s", "30m", "12h".')
    @functools.wraps(command)
    def wrapped(
        *,
        broker: str | None,
        trigger: str | None,
        reason: str | None,
        type_: str | None,
        older_than: str | None,
        **rest: object,
    ) -> int:
        choice = Choice(broker, trigger, reason, type_, _before(older_than))
        return command(choice=choice, **rest)

    return wrapped


def _before(older_than: str | None) -> datetime | None:
    if older_than is None:
        return None
    try:
        age_s = go_duration(older_than)
        if age_s < 0:
            raise BadUsage(f"--older-than {older_than}: an age is not negative")
        return datetime.now(UTC) - timedelta(seconds=age_s)
    except (ValueError, OverflowError) as error:
        raise BadUsage(f"--older-than: {error}") from None


@click.group("dlq", short_help="List, show, redrive or purge dead letters.")
def command() -> None:
    """Dead letters: events that could not be delivered and that no dead letter sink took.

    They stay with their Broker until they are redriven or purged. Jobs that ran out of attempts are
    listed with them. A gateway (--url) has those of the events that it could not send, for its
    operators; an API key or token is read from $RELUME_KEY.

    \b
    Examples:
      relume dlq list
      relume dlq show 7
      relume dlq redrive 7
      relume dlq purge --all --older-than 168h
    """


@command.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="N",
    help="List so many at most.",
)
@output_option
@choosing
@plane_option
def list_letters(*, choice: Choice, limit: int, output: str, url: str | None) -> int:
    """List dead letters, oldest first, and then dead jobs, newest first.

    \b
    Examples:
      relume dlq list --trigger summarize --reason retries-exhausted
      relume dlq list -o json | jq -r '.[] | [.sequence, .said] | @tsv'
    """
    plane = find_plane(url)
    found, more = asyncio.run(_list(plane, choice, limit))
    jobs = [] if more else asyncio.run(dead_jobs(plane, choice.takes_job, limit - len(found)))
    screen = Screen.stdout()
    if output == "json":
        events = [each.model_dump(exclude={"event", "headers"}) for each in found]
        screen.json([*events, *map(as_letter, jobs)])
        return 0
    if found or jobs:
        headers = ("no", "time", "broker", "trigger", "type", "id", "code", "reason", "said")
        screen.table(headers, [*map(_row, found), *map(_job_row, jobs)])
    else:
        screen.line("no dead letters")
    if more:
        screen.line(f"… and more: --limit {limit * 10}", "dim")
    return 0


@command.command("show")
@click.argument("number", type=click.IntRange(1), metavar="N")
@click.option("--broker", metavar="NS/NAME", help="The Broker, where several have dead letters.")
@output_option
@plane_option
def show(*, number: int, broker: str | None, output: str, url: str | None) -> int:
    """Show one dead letter: what failed where, what the subscriber said, and the whole event.

    \b
    Examples:
      relume dlq show 7
      relume dlq show 7 -o json | jq .event > event.json
    """
    letter = asyncio.run(_get(find_plane(url), broker, number))
    screen = Screen.stdout()
    if output == "json":
        screen.json(letter.raw)
        return 0
    screen.title(f"{letter.broker} {letter.sequence}: {letter.reason}, {_code(letter)}")
    screen.pairs(
        [("time", letter.at), ("trigger", letter.trigger), ("subscriber", letter.destination)]
    )
    if letter.said:
        screen.title("the subscriber said")
        screen.quote(letter.said)
    screen.title("the event")
    screen.json(letter.event)
    return 0


@command.command("redrive")
@click.argument("chosen", nargs=-1, callback=letters, metavar="[N…]")
@_everything
@choosing
@plane_option
def redrive(
    *, choice: Choice, chosen: tuple[int | str, ...], everything: bool, url: str | None
) -> int:
    """Send dead letters through their own Trigger again; the other Triggers do not see them.

    A dead job, which is named by its id, is queued once more.

    Each is sent once, also when this command or the plane is killed and run again. What fails
    again becomes a dead letter with a new number.

    \b
    Examples:
      relume dlq redrive 7 9
      relume dlq redrive --all --trigger summarize
      relume dlq redrive JOB_ID
    """
    choice.check(chosen, everything)
    plane = find_plane(url)
    jobs = [each for each in chosen if isinstance(each, str)]
    failed = 0
    if jobs:
        again = on_each_job(plane, jobs, JobsClient.retry, "jobs queued again")
        failed = asyncio.run(again)
    if jobs and len(jobs) == len(chosen):
        return failed
    numbers = [each for each in chosen if isinstance(each, int)]
    work = _Work(choice, numbers, "redriven", PlaneClient.redrive)
    return asyncio.run(work.run(plane)) or failed


@command.command("purge")
@click.argument("numbers", nargs=-1, type=click.IntRange(1), metavar="[N…]")
@_everything
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@choosing
@plane_option
def purge(
    *, choice: Choice, numbers: tuple[int, ...], everything: bool, yes: bool, url: str | None
) -> int:
    """Remove dead letters for good.

    \b
    Examples:
      relume dlq purge 7
      relume dlq purge --all --older-than 168h --yes
    """
    choice.check(numbers, everything)
    if not (yes or (sys.stdin is not None and sys.stdin.isatty())):
        raise BadUsage("purge asks before it removes, and nobody can answer here: add --yes")
    work = _Work(choice, numbers, "purged", PlaneClient.remove_dead_letter, ask=not yes)
    return asyncio.run(work.run(find_plane(url)))


@dataclass(frozen=True, slots=True)
class _Work:
    """One action on every dead letter that was chosen."""

    choice: Choice
    numbers: Sequence[int]
    done: str
    act: Callable[[PlaneClient, str, int], Awaitable[None]]
    ask: bool = False

    async def run(self, url: str) -> int:
        """Act on each dead letter. Return 1 when one of them failed, else 0."""
        screen, failed = Screen.stdout(), 0
        async with JobsClient(url) as plane:
            broker = await _log(plane, self.choice.broker)
            letters = await self._meant(plane, broker)
            if self.ask and letters and not _confirmed(len(letters), broker):
                screen.line("nothing removed")
                return 1
            for letter in letters:
                try:
                    await self.act(plane, letter.broker, letter.sequence)
                except (BadUsage, Refused) as error:
                    failed += 1
                    Screen.stderr().line(f"{letter.sequence}: {error}", "red")
        words = f", {failed} failed" if failed else ""
        screen.line(f"{len(letters) - failed} {self.done}{words}")
        return 1 if failed else 0

    async def _meant(self, plane: PlaneClient, broker: str) -> list[DeadLetterReport]:
        """The dead letters that are chosen now. Raises BadUsage for a wrong number."""
        if self.numbers:
            wanted = dict.fromkeys(self.numbers)
            return [await plane.dead_letter(broker, number) for number in wanted]
        return [each async for each in plane.dead_letters(broker) if self.choice.takes(each)]


async def _list(url: str, choice: Choice, limit: int) -> tuple[list[DeadLetterReport], bool]:
    """Up to `limit` dead letters, and whether there are more."""
    found: list[DeadLetterReport] = []
    async with JobsClient(url) as plane:
        for broker in await _logs(plane, choice.broker):
            try:
                async for letter in plane.dead_letters(broker):
                    if choice.takes(letter):
                        if len(found) == limit:
                            return found, True
                        found.append(letter)
            except NotOperator as error:
                # Their own dead jobs are there all the same.
                Screen.stderr().line(str(error), "dim")
    return found, False


async def _logs(plane: PlaneClient, wanted: str | None) -> list[str]:
    """The logs with dead letters that are chosen; a gateway has one. Raises BadUsage."""
    try:
        status = await plane.status()
    except NotAPlane:
        if wanted not in (None, GATEWAY_LOG):
            raise
        return [GATEWAY_LOG]
    if wanted is not None:
        return [choose_broker(status, wanted).full_name]
    return [broker.full_name for broker in status.eventing.brokers]


async def _log(plane: PlaneClient, wanted: str | None) -> str:
    """The one log that is meant. Raises BadUsage."""
    try:
        status = await plane.status()
    except NotAPlane:
        if wanted not in (None, GATEWAY_LOG):
            raise
        return GATEWAY_LOG
    return log_of(status, wanted)


async def _get(url: str, broker: str | None, number: int) -> DeadLetterReport:
    async with JobsClient(url) as plane:
        return await plane.dead_letter(await _log(plane, broker), number)


def log_of(status: Status, wanted: str | None) -> str:
    """The Broker or channel that is named, or the only one that has dead letters.

    Raises BadUsage.
    """
    full = [broker.full_name for broker in status.eventing.brokers if broker.dead_letters]
    if wanted is None and len(full) == 1:
        return full[0]
    if wanted is None and any(b.of and b.dead_letters for b in status.eventing.brokers):
        names = ", ".join(sorted(full))
        raise BadUsage(f"several logs have dead letters; choose one with --broker: {names}")
    return choose_broker(status, wanted).full_name


def _confirmed(count: int, broker: str) -> bool:
    what = "1 dead letter" if count == 1 else f"{count} dead letters"
    return click.confirm(f"Remove {what} of {broker} for good?")


def _row(letter: DeadLetterReport) -> tuple[str, ...]:
    said = " ".join(letter.said.split())
    where = (letter.broker, letter.trigger, letter.type, letter.id)
    why = (_code(letter).removeprefix("status "), letter.reason)
    at = letter.at.partition(".")[0].replace("T", " ")
    shown = said if len(said) <= _SAID else said[: _SAID - 1] + "…"
    return (str(letter.sequence), at, *where, *why, shown)


def _job_row(job: JobReport) -> tuple[str, ...]:
    at = (job.settled_at or job.created_at).partition(".")[0].replace("T", " ")
    detail = " ".join((job.detail or "").split())
    shown = detail if len(detail) <= _SAID else detail[: _SAID - 1] + "…"
    return ("-", at, job.service, "(job)", job.route, job.id, "", job.reason or "", shown)


def _code(letter: DeadLetterReport) -> str:
    return "no answer" if letter.code == _NO_ANSWER else f"status {letter.code or '?'}"
