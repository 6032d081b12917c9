"""`relume up`: run manifests on this machine until a signal says otherwise."""

from pathlib import Path

import click

from relume.cli.address import DEFAULT_BROKER_PORT, DEFAULT_HTTP_PORT, output_option

PORT = click.IntRange(0, 65535)


@click.command("up", short_help="Run InferenceServices, Brokers and Triggers on this machine.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where events, logs and the ledger are kept. Default: $RELUME_STATE, else "
    "~/.local/state/relume.",
)
@click.option(
    "--port",
    type=PORT,
    default=DEFAULT_HTTP_PORT,
    show_default=True,
    help="HTTP port of the services and of this plane; 0 takes a free one.",
)
@click.option(
    "--broker-port",
    type=PORT,
    default=DEFAULT_BROKER_PORT,
    show_default=True,
    help="Port of the Brokers; 0 takes a free one.",
)
@click.option("--no-template", is_flag=True, help="Keep no warm template: less memory, slower.")
@output_option()
def command(
    *,
    files: tuple[Path, ...],
    state: Path | None,
    port: int,
    broker_port: int,
    no_template: bool,
    output: str,
) -> int:
    """Run the manifests in FILE (YAML files or folders) on this machine, without Kubernetes.

    InferenceServices start at zero and wake up with a request or an event. Ctrl-C or SIGTERM
    drains: what was accepted is answered or stays stored; a second one stops at once.

    \b
    Examples:
      relume up config/samples/summarize.yaml
      relume up config/samples/ --port 9080 --broker-port 9081
      relume up model.yaml --no-template -o json
    """
    from relume.cli.foreground import run  # here, so that the help of this command stays quick
    from relume.cli.state import default_state

    return run(
        files,
        state=(state or default_state()).absolute(),
        port=port,
        broker_port=broker_port,
        template=not no_template,
        as_json=output == "json",
    )
