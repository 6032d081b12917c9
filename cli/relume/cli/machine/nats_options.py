"""Options of the commands that talk to NATS themselves: `relume gateway` and `relume keys`."""

import functools
from collections.abc import Callable
from pathlib import Path

import click


def nats_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; the command receives `servers: NatsServers`."""

    @click.option(
        "--nats",
        "urls",
        multiple=True,
        envvar="RELUME_NATS",
        metavar="URL",
        help="A NATS server with JetStream; repeatable. Default: $RELUME_NATS, separated by "
        "spaces.",
    )
    @click.option(
        "--nats-creds",
        "credentials",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="RELUME_NATS_CREDS",
        metavar="FILE",
        help="Credentials file for NATS. Default: $RELUME_NATS_CREDS.",
    )
    @click.option(
        "--replicas",
        type=click.IntRange(1, 5),
        default=3,
        show_default=True,
        metavar="N",
        help="On how many servers each stream is kept; 1 for a single server.",
    )
    @functools.wraps(command)
    def wrapped(
        *, urls: tuple[str, ...], credentials: Path | None, replicas: int, **rest: object
    ) -> int:
        from relume.plane.nats_servers import NatsServers

        each = tuple(part for url in urls for part in url.split(","))
        return command(servers=NatsServers(each, credentials, replicas), **rest)

    return wrapped
