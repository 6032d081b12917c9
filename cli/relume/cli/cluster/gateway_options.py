"""The options by which a jobs gateway is rendered, for every command that renders."""

import functools
from collections.abc import Callable
from typing import TypeVar

import click

from relume.cli.errors import BadUsage
from relume.cluster.render import GatewayOptions

R = TypeVar("R")
ReadGateway = Callable[[], GatewayOptions | None]

# The options that mean nothing without --gateway, by the name of their argument.
_OTHERS = {
    "nats_url": "--nats-url",
    "nats_credentials_secret": "--nats-credentials-secret",
    "oidc_issuer": "--oidc-issuer",
    "oidc_audience": "--oidc-audience",
    "gateway_namespace": "--gateway-namespace",
    "service_url": "--service-url",
    "broker_url": "--broker-url",
    "sink": "--sink",
}
_CHOICES = (
    click.option(
        "--gateway",
        is_flag=True,
        help="Add a jobs gateway, and let the Triggers of models deliver to it.",
    ),
    click.option(
        "--nats-url",
        multiple=True,
        metavar="URL",
        help="A server of the gateway's NATS cluster; repeatable. "
        "Default: the official chart's, nats://nats.nats.svc.cluster.local:4222.",
    ),
    click.option(
        "--nats-credentials-secret",
        metavar="NAME",
        help="The Secret beside the gateway whose key nats.creds is its NATS credentials file.",
    ),
    click.option(
        "--oidc-issuer",
        metavar="URL",
        help="Take this issuer's tokens, too. API keys: relume keys --nats URL.",
    ),
    click.option("--oidc-audience", metavar="NAME", help="The audience that tokens must name."),
    click.option(
        "--gateway-namespace", metavar="NAME", help="Where the gateway goes. Default: relume."
    ),
    click.option(
        "--service-url",
        metavar="TEMPLATE",
        help="Where the gateway finds a predictor, with {namespace} and {name}. "
        "Default: KServe's own address.",
    ),
    click.option(
        "--broker-url",
        metavar="TEMPLATE",
        help="Where it posts replies, with {namespace} and {name} of a Broker. "
        "Default: the ingress of the Brokers' class.",
    ),
    click.option("--sink", metavar="URL", help="Gets the usage of each job as an event."),
)


def gateway_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options to a click command, which receives `read_gateway: ReadGateway`.

    To call it is to check the options: it raises InvalidInput.
    """

    @functools.wraps(command)
    def with_options(*, gateway: bool, **arguments: object) -> R:
        given = {name: arguments.pop(name) for name in _OTHERS}

        def read() -> GatewayOptions | None:
            return _read(gateway, given)

        return command(read_gateway=read, **arguments)

    for option in reversed(_CHOICES):
        with_options = option(with_options)
    return with_options


def _read(gateway: bool, given: dict[str, object]) -> GatewayOptions | None:
    said = {name: value for name, value in given.items() if value}
    if not gateway:
        for name in said:
            raise BadUsage(f"{_OTHERS[name]} is for the jobs gateway: add --gateway")
        return None
    names = {"nats_url": "nats_urls", "gateway_namespace": "namespace"}
    return GatewayOptions(**{names.get(name, name): value for name, value in said.items()})  # type: ignore[arg-type]
