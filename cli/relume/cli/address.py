"""Where a running plane is: --url, $RELUME_URL, the state folder, the default port."""

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from relume.plane.addresses import DEFAULT_HTTP_PORT, StateFolder, default_state

P = ParamSpec("P")
R = TypeVar("R")


def find_plane(url: str | None) -> str:
    """Base URL of the plane's HTTP port, without a slash at the end; does not connect."""
    if chosen := url or os.environ.get("RELUME_URL"):
        chosen = chosen if "://" in chosen else f"http://{chosen}"
        return chosen.rstrip("/")
    if plane := StateFolder(default_state()).running():
        return plane.http
    return f"http://127.0.0.1:{DEFAULT_HTTP_PORT}"


def plane_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add `--url` to a click command; the command receives `url: str | None`."""
    option = click.option(
        "--url",
        metavar="URL",
        help="The plane to talk to. Default: $RELUME_URL, else the plane that runs here.",
    )
    return functools.wraps(command)(option(command))


def output_option(*formats: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Add `-o/--output` to a click command; the command receives `output: str`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats or ("text", "json")),
        default="text",
        show_default=True,
        help="How to print.",
    )
