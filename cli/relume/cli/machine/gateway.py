"""`relume gateway`: durable requests for the models of a cluster, as a process of its own."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relume.cli.errors import BadUsage
from relume.cli.machine.nats_options import nats_options
from relume.cli.options import output_option, seconds
from relume.plane.url_templates import BROKER_URL, SERVICE_URL

if TYPE_CHECKING:
    from relume.plane.nats_servers import NatsServers


@click.command("gateway", short_help="The jobs gateway: durable requests beside a NATS cluster.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@nats_options
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 is every one, and needs --keys or --oidc-issuer.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8082,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--service-url",
    default=SERVICE_URL,
    show_default=True,
    metavar="TEMPLATE",
    help="Where the predictor of a service is.",
)
@click.option(
    "--broker-url",
    default=BROKER_URL,
    show_default=True,
    metavar="TEMPLATE",
    help="Where a Broker takes events. Answers go to Brokers in the services' namespaces only.",
)
@click.option(
    "--sink",
    metavar="URL",
    help="Gets the answers to events that name no Broker, and the usage of every job. Default: "
    "$K_SINK.",
)
@click.option("--public-url", metavar="URL", help="Where callers reach it, for links in events.")
@click.option("--keys", is_flag=True, help="Callers need a key of `relume keys`.")
@click.option("--oidc-issuer", metavar="URL", help="Callers may come with a token of this issuer.")
@click.option("--oidc-audience", metavar="NAME", help="What a token must be meant for.")
@click.option(
    "--oidc-jwks",
    metavar="URL",
    help="Where the issuer's keys are. Default: where its discovery document says.",
)
@click.option(
    "--open-events",
    is_flag=True,
    help="POST /events needs no key: a Trigger cannot send one. Let a NetworkPolicy say who may.",
)
@click.option(
    "--operator",
    "operators",
    multiple=True,
    metavar="OWNER",
    help="Whose keys may pause, resume and purge queues; repeatable.",
)
@click.option(
    "--data-from",
    "data_hosts",
    multiple=True,
    metavar="HOST",
    help="A host from which the data of an event may be fetched by https (dataref); repeatable.",
)
@click.option(
    "--grace",
    default="60s",
    show_default=True,
    metavar="TIME",
    help="How long jobs may run on after SIGTERM; then another gateway goes on with them.",
)
@output_option
def command(
    *,
    files: tuple[Path, ...],
    servers: "NatsServers",
    sink: str | None,
    oidc_issuer: str | None,
    oidc_audience: str | None,
    oidc_jwks: str | None,
    grace: str,
    output: str,
    host: str,
    port: int,
    service_url: str,
    broker_url: str,
    public_url: str | None,
    keys: bool,
    open_events: bool,
    operators: tuple[str, ...],
    data_hosts: tuple[str, ...],
) -> int:
    """Take durable requests for the models in FILE, store them in NATS, and run each once.

    Any number of gateways share the work: they keep nothing, and one goes on where another was
    killed. FILE are the manifests that the cluster has (YAML files or folders); only their
    InferenceServices and Brokers are read. TEMPLATE is a URL with {name} and {namespace}; where
    FILE has one InferenceService, or one Broker, it may be its plain URL. Without --keys and
    --oidc-issuer everybody may call, so it listens on loopback only.

    \b
    Examples:
      relume gateway config/samples/ --nats nats://127.0.0.1:4222 --replicas 1
          --service-url 'http://127.0.0.1:8080/serving/{namespace}/{name}'
      relume gateway model.yaml --nats nats://127.0.0.1:4222 --replicas 1
          --service-url http://127.0.0.1:8000
      relume gateway services.yaml --nats nats://nats:4222 --host 0.0.0.0 --keys
    """
    from relume.cli.machine.gateway_foreground import run
    from relume.plane.gateway import GatewaySettings

    if (oidc_issuer is None) != (oidc_audience is None):
        raise BadUsage("--oidc-issuer and --oidc-audience go together: name both")
    oidc = None
    if oidc_issuer is not None and oidc_audience is not None:
        from relume.eventing.jobs.oidc import OidcSettings

        oidc = OidcSettings(oidc_issuer, oidc_audience, oidc_jwks)
    for option, url in (("--sink", sink), ("--public-url", public_url)):
        if url is not None and not url.startswith(("http://", "https://")):
            raise BadUsage(f"{option} {url}: write a URL, http://… or https://…")
    settings = GatewaySettings(
        servers=servers,
        host=host,
        port=port,
        service_url=service_url,
        broker_url=broker_url,
        sink=sink or os.environ.get("K_SINK") or None,
        public_url=public_url,
        keys=keys,
        oidc=oidc,
        open_events=open_events,
        operators=operators,
        data_hosts=data_hosts,
        grace_s=seconds("--grace", grace),
    )
    return run(files, settings, as_json=output == "json")
