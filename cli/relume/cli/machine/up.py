"""`relume up`: run manifests on this machine until a signal says otherwise."""

import gc
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relume.cli.options import output_option
from relume.plane.addresses import DEFAULT_BROKER_PORT, DEFAULT_HTTP_PORT

if TYPE_CHECKING:
    from relume.eventing.jetstream.server import Fsync

PORT = click.IntRange(0, 65535)
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGT", start=1)}


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes, written as Kubernetes writes quantities: 500M, 10Gi, 1.5Gi."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kKMGT]i?)?", value)
    count = int(float(found[1]) * _UNITS.get(found[2] or "", 0)) if found else 0
    if count < 1:
        raise click.BadParameter(f"{value!r} is not a size: write 500M or 10Gi", ctx, param)
    return count


def _origins(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Origins as a browser sends them (RFC 6454 §6.1): scheme, host and port, and no path."""
    for value in values:
        if value in ("*", "null"):
            continue
        found = re.match(r"[a-z][a-z0-9+.-]*://[^/?#\s]+", value.lower())
        if found is None or found[0] != value:
            example = found[0] if found else "http://localhost:3000"
            raise click.BadParameter(f"{value!r} is not an origin: write {example}", ctx, param)
    return values


def _volumes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, Path]:
    """Folders by claim; each must be there."""
    found: dict[str, Path] = {}
    for value in values:
        claim, equals, folder = value.partition("=")
        if not (claim and equals and folder):
            raise click.BadParameter(
                f"{value!r} is not CLAIM=DIR: write llama-pvc=/data", ctx, param
            )
        if not os.path.isdir(folder):  # noqa: PTH112 (Path.is_dir may raise)
            raise click.BadParameter(f"{value!r}: there is no folder {folder}", ctx, param)
        found[claim] = Path(folder).absolute()
    return found


@click.command(
    "up", short_help="Run models, functions, Brokers, Triggers and flows on this machine."
)
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
@click.option(
    "--broker-max-bytes",
    callback=size,
    metavar="SIZE",
    help="How much each Broker may keep, such as 10Gi; then producers are told to wait (503). "
    "Default: as much as the disk holds.",
)
@click.option(
    "--fsync",
    type=click.Choice(["interval", "always"]),
    default="interval",
    show_default=True,
    help="interval: a power cut may lose the accepted events of the last 100 ms. always: it loses "
    "none, at half the speed. A killed process loses none either way.",
)
@click.option(
    "--allowed-origin",
    "allowed_origins",
    multiple=True,
    callback=_origins,
    metavar="ORIGIN",
    help="A web page of this origin, such as http://localhost:3000, may call the plane and its "
    "Brokers from a browser; * is any page. Repeatable. Default: what each service allows.",
)
@click.option(
    "--strict-events",
    is_flag=True,
    help="Refuse events whose ce- headers are not encoded as the HTTP binding of CloudEvents says "
    "(a bare %, raw UTF-8); without it they are read as Knative's Brokers read them.",
)
@click.option(
    "--usage-broker",
    metavar="NS/NAME",
    help="A Broker that gets an event for each settled job, which says what it has cost.",
)
@click.option(
    "--llm-d",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the endpoints of each model in DIR/NAMESPACE/NAME/endpoints.yaml, for the file "
    "discovery of llm-d's router.",
)
@click.option(
    "--no-template",
    is_flag=True,
    help="Keep no process with vLLM imported (the warm template): less memory, slower starts.",
)
@click.option(
    "--memory",
    callback=size,
    metavar="SIZE",
    help="What predictors, functions and the warm template may hold together, such as 12Gi. Where "
    "a service does not fit, the one idle longest makes room. Default: what is available when the "
    "plane starts, to the machine or to its control group, less a tenth and at least 512Mi. The "
    "memory of GPUs is not counted.",
)
@click.option(
    "--memory-wait",
    type=click.FloatRange(0.1, 600),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a service waits for memory that only busy services hold. Then one of them "
    "finishes its requests, holds new ones, and makes room.",
)
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    callback=_volumes,
    metavar="CLAIM=DIR",
    help="The folder that stands for a PersistentVolumeClaim in pvc:// and volumes; CLAIM may be "
    "NAMESPACE/NAME. Repeatable.",
)
@click.option(
    "--show-prompts",
    is_flag=True,
    help="Show the data of events, and what subscribers said about it, on the page of this plane "
    "(http://127.0.0.1:PORT/ in a browser). Without it the page shows attributes only.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Say what becomes of every field, argument and model, and whether minReplicas fit the "
    "memory (--memory), and start nothing. Exit code 2 where something is refused.",
)
@output_option
def command(
    *,
    files: tuple[Path, ...],
    state: Path | None,
    port: int,
    broker_port: int,
    broker_max_bytes: int | None,
    fsync: "Fsync",
    allowed_origins: tuple[str, ...],
    strict_events: bool,
    usage_broker: str | None,
    llm_d: Path | None,
    no_template: bool,
    memory: int | None,
    memory_wait: float,
    volumes: dict[str, Path],
    show_prompts: bool,
    check: bool,
    output: str,
) -> int:
    """Run the manifests in FILE (YAML files or folders) on this machine, without Kubernetes.

    A folder with a func.yaml is a Knative Function. InferenceServices and functions start at zero
    and wake up with a request or an event. Ctrl-C or SIGTERM drains: what was accepted is answered
    or stays stored; a second one stops at once. relume reload takes over what has changed in the
    files. A browser on this machine shows what runs at http://127.0.0.1:8080/. The plane goes on
    serving when its standard output is closed.

    \b
    Examples:
      relume up config/samples/summarize.yaml
      relume up config/samples/ --port 9080 --broker-port 9081
      relume up config/samples/ my-function/
      relume up model.yaml --no-template -o json
      relume up models/ --memory 12Gi
      relume up --check model.yaml --volume llama-pvc=/data/llama
    """
    from relume.config.here import Machine
    from relume.plane.memory import machine_bytes

    machine = Machine(environment=os.environ, volumes=volumes)
    budget = machine_bytes() if memory is None else memory
    if check:
        from relume.cli.machine.check import check as say

        return say(files, machine, memory=budget, as_json=output == "json")
    gc.disable()  # until the plane serves: its start makes no garbage that is worth a search
    try:
        # Here, so that the help of this command stays quick.
        from relume.cli.machine.foreground import run
        from relume.plane.addresses import default_state
        from relume.plane.local import PlaneSettings

        settings = PlaneSettings(
            state=(state or default_state()).absolute(),
            port=port,
            broker_port=broker_port,
            template=not no_template,
            broker_max_bytes=broker_max_bytes,
            fsync=fsync,
            allowed_origins=allowed_origins,
            strict_events=strict_events,
            usage_broker=usage_broker,
            memory_bytes=budget,
            memory_wait_s=memory_wait,
            show_prompts=show_prompts,
            llm_d=None if llm_d is None else llm_d.absolute(),
        )
        return run(files, settings, machine, as_json=output == "json")
    finally:
        gc.enable()
