"""The options of rendering, for every command that renders."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from relume.cli.cluster.gateway_options import ReadGateway, gateway_options
from relume.cli.errors import BadUsage
from relume.cluster.render import BROKERS, ROUTES, LlmDOptions, Options

if TYPE_CHECKING:
    from relume.cluster.render.options import BrokerClass, DeviceRoute

R = TypeVar("R")
RenderingOptions = Callable[[], Options]

_CHOICES = (
    click.option(
        "--dra",
        type=click.Choice(ROUTES),
        default="extended-resource",
        show_default=True,
        help="How a pod gets its device.",
    ),
    click.option(
        "--broker",
        type=click.Choice(BROKERS),
        help="The class of every Broker. Default: what each names, else the cluster's own.",
    ),
    click.option(
        "--cold-start-budget",
        "cold_start",
        metavar="TIME",
        default="5m",
        show_default=True,
        help="From nothing to ready, with a new node and the download; timeouts follow from it.",
    ),
    click.option(
        "--image",
        "chosen",
        multiple=True,
        metavar="[RUNTIME=]IMAGE",
        help="A runtime's image, as REPOSITORY@sha256:DIGEST.",
    ),
    click.option(
        "--images",
        "images_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The same as lines of RUNTIME: IMAGE.",
    ),
    click.option("--allow-tags", is_flag=True, help="Take an image by its tag."),
    click.option("--llm-d", is_flag=True, help="Make each service a pool of llm-d's router, too."),
    click.option(
        "--llm-d-gateway",
        metavar="NS/NAME",
        help="The Gateway that leads to the pools. Default: KServe's own, "
        f"{LlmDOptions().gateway}.",
    ),
    click.option(
        "--llm-d-url",
        metavar="URL",
        help="Where Brokers reach that Gateway; for Triggers whose subscriber is an InferencePool.",
    ),
)


def read_llm_d(wanted: bool, gateway: str | None, url: str | None) -> LlmDOptions | None:
    """The options of pools, None where none are wanted. Raises InvalidInput."""
    if not wanted and (gateway or url):
        flag = "--llm-d-gateway" if gateway else "--llm-d-url"
        raise BadUsage(f"{flag} is for the pools of llm-d: add --llm-d")
    return LlmDOptions(gateway or LlmDOptions().gateway, url) if wanted else None


def rendering_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options to a click command, which receives `options: RenderingOptions`.

    To call it is to check the options: it raises InvalidInput.
    """

    @gateway_options
    @functools.wraps(command)
    def with_options(
        *,
        dra: "DeviceRoute",
        broker: "BrokerClass | None",
        cold_start: str,
        chosen: tuple[str, ...],
        images_file: Path | None,
        allow_tags: bool,
        llm_d: bool,
        llm_d_gateway: str | None,
        llm_d_url: str | None,
        read_gateway: ReadGateway,
        **others: object,
    ) -> R:
        def read() -> Options:
            from relume.cluster.render.budget import whole_budget
            from relume.cluster.render.runtimes import read_images

            try:
                seconds = whole_budget(cold_start)
            except ValueError as error:
                raise BadUsage(f"--cold-start-budget {cold_start}: {error}") from error
            images = read_images(images_file, chosen, allow_tags=allow_tags)
            pools = read_llm_d(llm_d, llm_d_gateway, llm_d_url)
            return Options(dra, broker, seconds, images, read_gateway(), pools)

        return command(options=read, **others)

    for option in reversed(_CHOICES):
        with_options = option(with_options)
    return with_options
