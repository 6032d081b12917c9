"""`relume trigger test`: which Triggers take an event, and which clause decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.text import Text

from relume.cli.errors import BadUsage
from relume.cli.machine.envelope import assignments, from_file, from_options
from relume.cli.options import output_option
from relume.cli.screen import Screen
from relume.cloudevents.event import CloudEvent
from relume.config import Trigger
from relume.eventing.filters import Verdict, explain

NOTHING_MATCHES_EXIT = 1


@click.group("trigger", short_help="Say which Triggers take an event, and why.")
def command() -> None:
    """Triggers of a manifest, tried without running anything.

    \b
    Example:
      relume trigger test config/samples/ --event event.json
    """


@command.command("test", short_help="Say which Triggers take an event, and why.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--event",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The event: JSON, the structured format; - is standard input.",
)
@click.option("--type", "type_", metavar="TYPE", help="Type of a new event, instead of --event.")
@click.option("--source", metavar="URI", help="Event source. Default: /relume/send.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="K=V",
    help="An attribute of the event, such as subject=orders/7; repeatable.",
)
@output_option
def try_event(
    *,
    files: tuple[Path, ...],
    file: Path | None,
    type_: str | None,
    source: str | None,
    attributes: tuple[str, ...],
    output: str,
) -> int:
    """Say which Triggers in FILE (YAML files or folders) take an event, and which clause decides.

    The event is a file, or a new one made of --type, as `relume send` makes it. Nothing runs and no
    model is needed. The exit code is 0 when a Trigger takes the event, 1 when none does, 2 when a
    FILE or the event is wrong.

    \b
    Examples:
      relume trigger test config/samples/ --event event.json
      relume trigger test my.yaml --type com.example.order --attribute subject=orders/7
      relume trigger test my.yaml --event - -o json | jq '.triggers[] | .decided_by'
    """
    from relume.config.loader import load_plan  # here, so that the help stays quick

    changes = assignments("--attribute", attributes)
    changes |= {k: v for k, v in (("type", type_), ("source", source)) if v is not None}
    event = _event(file, changes)
    trials = [Trial(trigger, explain(trigger, event)) for trigger in load_plan(files).triggers]
    screen = Screen.stdout()
    if output == "json":
        screen.json({"event": event.attributes, "triggers": [trial.to_json() for trial in trials]})
    else:
        _show(screen, trials)
    return 0 if any(trial.verdict.passed for trial in trials) else NOTHING_MATCHES_EXIT


@dataclass(frozen=True, slots=True)
class Trial:
    """One Trigger and what its filter says about the event."""

    trigger: Trigger
    verdict: Verdict

    def to_json(self) -> dict[str, object]:
        decisive = self.verdict.decisive.to_json()
        del decisive["clauses"]
        origin = self.trigger.origin
        return {
            "namespace": self.trigger.namespace,
            "name": self.trigger.name,
            "broker": self.trigger.broker,
            "file": str(origin.file) if origin else None,
            "line": origin.line if origin else None,
            "matches": self.verdict.passed,
            "decided_by": decisive,
            "verdict": self.verdict.to_json(),
        }

    def row(self) -> tuple[str | Text, ...]:
        clause = self.verdict.decisive
        passed = self.verdict.passed
        return (
            f"{self.trigger.namespace}/{self.trigger.name}",
            self.trigger.broker,
            Text("yes" if passed else "no", style="green" if passed else "yellow"),
            f"{clause.field}: {' '.join(clause.asked.split())}{_facts(clause)}",
        )


def _event(file: Path | None, changes: Mapping[str, str]) -> CloudEvent:
    if file is not None:
        return from_file(file, changes)
    if "type" not in changes:
        raise BadUsage("name an event file with --event, or make a new event with --type")
    return from_options(changes["type"], None, None, changes)


def _show(screen: Screen, trials: Sequence[Trial]) -> None:
    if not trials:
        screen.line("there is no Trigger in these files")
        return
    screen.table(("trigger", "broker", "takes it", "because"), [trial.row() for trial in trials])


def _facts(clause: Verdict) -> str:
    """What the event has, and why an expression has no value."""
    if clause.error is not None:
        return f" ({clause.error})"
    facts = [f"no {k}" if v is None else f"{k} '{v}'" for k, v in clause.had.items()]
    return f" (the event has {', '.join(facts)})" if facts else ""
