"""Which dead letters a command means: numbers of one Broker, or those that options choose."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from relume.cli.errors import BadUsage
from relume.cli.reports import DeadLetter
from relume.config.durations import go_duration


@dataclass(frozen=True, slots=True)
class Choice:
    """What the options ask for; None asks for nothing."""

    broker: str | None
    trigger: str | None
    reason: str | None
    type: str | None
    before: datetime | None

    def takes(self, letter: DeadLetter) -> bool:
        return (
            self.trigger in (None, letter.trigger)
            and self.reason in (None, letter.reason)
            and self.type in (None, letter.type)
            and (self.before is None or datetime.fromisoformat(letter.at) < self.before)
        )

    def check(self, numbers: Sequence[int], everything: bool) -> None:
        """Raise BadUsage unless it is clear which dead letters are meant."""
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
