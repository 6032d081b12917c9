"""Which cluster a command talks to, and what it shows while it works."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from rich.status import Status
from rich.text import Text

from relume.cli.screen import Screen, printable

if TYPE_CHECKING:
    from relume.cluster.apply.api import KubernetesApi
    from relume.cluster.apply.progress import Tone
    from relume.cluster.claims.explain import ClaimReport

R = TypeVar("R")
_STYLES = {"": "", "good": "green", "bad": "bold red", "worth a look": "yellow"}
_CHOICES = (
    click.option(
        "--context", metavar="NAME", help="The kubeconfig context. Default: the current one."
    ),
    click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where the context is. Default: $KUBECONFIG, else ~/.kube/config, else the pod's own.",
    ),
    click.option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="For documents that name none. Default: the context's.",
    ),
)


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster that was chosen; nothing is read before `api` is called."""

    context: str | None
    kubeconfig: Path | None
    namespace: str | None

    def api(self) -> "KubernetesApi":
        """Raises Unreachable, and ClientMissing where there is no Kubernetes client."""
        from relume.cluster.apply.api import KubernetesApi

        return KubernetesApi.of_context(self.context, self.kubeconfig)


def cluster_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add --context, --kubeconfig and --namespace; the command receives `target: Target`."""

    @functools.wraps(command)
    def with_target(
        *, context: str | None, kubeconfig: Path | None, namespace: str | None, **others: object
    ) -> R:
        return command(target=Target(context, kubeconfig, namespace), **others)

    for option in reversed(_CHOICES):
        with_target = option(with_target)
    return with_target


@contextmanager
def showing(screen: Screen) -> Iterator["ScreenProgress"]:
    """A Progress on `screen`: what is waited for moves in a terminal, and is a line in a pipe."""
    if not screen.terminal:
        yield ScreenProgress(screen, None)
        return
    with screen.console.status("", spinner="dots") as status:
        yield ScreenProgress(screen, status)


class ScreenProgress:
    """Lines of what happened, and below them what is waited for."""

    def __init__(self, screen: Screen, status: Status | None) -> None:
        self._screen, self._status = screen, status
        self._doing = ""

    def now(self, doing: str) -> None:
        if self._status is not None:
            self._status.update(Text(printable(doing)))
        elif doing != self._doing:
            self._screen.line(doing)
        self._doing = doing

    def say(self, line: str, tone: "Tone" = "") -> None:
        self._screen.line(line, _STYLES[tone])

    def explain(self, reports: Sequence["ClaimReport"]) -> None:
        from relume.cli.claims import show_report

        for report in reports:
            show_report(self._screen, report)
            self._screen.line()
