"""The `relume` command: one group, every command imported only when it runs.

Only this module prints errors. A `RelumeError` is one line on stderr and its own exit code, a wrong
option is click's usage message and 2, Ctrl-C is 130. A command whose reader goes away ends
silently with 1, like every program in a pipe. Set RELUME_DEBUG=1 to see the traceback of a
deliberate error.
"""

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from relume.base.errors import RelumeError
from relume.cli import streams
from relume.cli.errors import INTERRUPTED_EXIT
from relume.cli.text import read_as_utf8

SECTIONS: dict[str, dict[str, str]] = {
    "Run": {
        "up": "Run models, functions, Brokers, Triggers and flows on this machine.",
        "demo": "The whole story on one machine: zero, an event, the answer, zero again.",
    },
    "Use": {
        "send": "Send an event; --wait prints the event that answers it.",
        "reload": "Take over what has changed in the manifests of a plane.",
        "warm": "Start a service before it is asked.",
        "status": "What is running, what is at zero, what failed and why.",
        "events": "Watch events as they are accepted, delivered and answered.",
        "explain": "Why the answer to one event took as long as it did.",
        "trigger": "Say which Triggers take an event, and why.",
        "dlq": "List, show, redrive or purge dead letters.",
        "jobs": "Durable requests: submit, watch, cancel, list, retry.",
    },
    "Serve on a cluster": {
        "gateway": "The jobs gateway: durable requests beside a NATS cluster.",
        "keys": "Make, list or revoke the API keys of a gateway.",
        "runtime": "Events in front of any OpenAI, V1 or V2 server.",
    },
    "Cluster": {
        "doctor": "Say what will not work on a cluster, and why.",
        "render": "Make Kubernetes YAML for a cluster, and say why it is so.",
        "claims": "Size a GPU claim; say which devices it gets, and why not.",
        "apply": "Apply manifests to a cluster, and wait until they work.",
        "delete": "Delete from a cluster what apply put there.",
        "conformance": "The CNCF's AI conformance checklist, with evidence.",
        "probe": "Check a running server against the contract of an llm-d pool.",
    },
    "Models": {"models": "List the models on this machine, or prepare one."},
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the module of one to run it.

    The module is `relume.cli.cluster.NAME` for the section Cluster, else `relume.cli.machine.NAME`.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        folder = "cluster" if cmd_name in SECTIONS["Cluster"] else "machine"
        command = importlib.import_module(f"relume.cli.{folder}.{cmd_name}").command
        assert isinstance(command, click.Command)
        read_as_utf8(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from relume.base.version import version

        click.echo(f"relume {version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="relume COMMAND --help shows the options and examples of one command.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the version and exit.",
)
def group() -> None:
    """LLM inference that runs when an event arrives and costs nothing when none does.

    \b
    relume models prepare smollm2              make the demo model, once
    relume up config/samples/summarize.yaml    run the YAML here, at zero
    relume send --type T --data TEXT --wait    wake it with an event
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; print errors as one line on stderr."""
    streams.escape_what_cannot_be_encoded()
    output = sys.stdout
    try:
        code = group.main(args=argv, prog_name="relume", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED_EXIT
    except SystemExit:
        # click ends like this when the reader of our output has left, and has hidden the stream.
        # What is still to be written is dropped: else Python 3.13 tells of it at its end.
        sys.stdout = output
        streams.finish()
        raise
    except (RelumeError, OSError, BaseExceptionGroup) as error:
        code = _say(error)
    streams.finish()
    return code if isinstance(code, int) else 0


def _say(error: RelumeError | OSError | BaseExceptionGroup) -> int:
    cause = _deliberate(error)
    if cause is None or os.environ.get("RELUME_DEBUG") == "1":
        raise error
    if isinstance(cause, BrokenPipeError):
        return 1  # the reader of our output left (`relume events | head`)
    from relume.cli.screen import printable

    if isinstance(cause, RelumeError):
        # Some messages repeat text from a subscriber.
        print(f"relume: {printable(str(cause))}", file=sys.stderr)
        return cause.exit_code
    print(f"relume: {printable(_words(cause))}", file=sys.stderr)
    return 1


def _words(error: OSError) -> str:
    """What the operating system refused, and where."""
    if error.filename == streams.STDOUT:
        return f"standard output cannot be written: {error.strerror}"
    if error.filename:
        return f"{error.strerror}: {_name(error.filename)}"
    if error.errno == errno.ENOENT and not _has_folder():
        return "the current folder is gone; change to one that exists"
    return error.strerror or str(error)


def _name(file: object) -> str:
    return os.fsdecode(file) if isinstance(file, bytes) else str(file)


def _has_folder() -> bool:
    try:
        return bool(Path.cwd())
    except OSError:
        return False


def _deliberate(error: BaseException) -> RelumeError | OSError | None:
    """Find the error that has a message for the user, also inside an exception group."""
    if isinstance(error, RelumeError):
        return error
    if isinstance(error, OSError):
        return error if error.strerror else None
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _deliberate(inner))), None)
    return None


def main() -> None:
    """Entry point of the console script."""
    streams.prepare()
    sys.exit(run())


if __name__ == "__main__":
    main()
