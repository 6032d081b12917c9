"""Which cluster a command talks to."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from relume.cluster.apply.api import KubernetesApi

R = TypeVar("R")
kubeconfig_option = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the context is. Default: $KUBECONFIG, else ~/.kube/config.",
)
_CHOICES = (
    click.option(
        "--context",
        metavar="NAME",
        help="The kubeconfig context. Default: the current one, or the account of this pod.",
    ),
    kubeconfig_option,
    click.option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="For documents that name none. Default: the context's.",
    ),
)


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """The cluster that was chosen; nothing is read before `api` is called."""

    context: str | None
    kubeconfig: Path | None
    namespace: str | None

    def api(self) -> "KubernetesApi":
        """Raises Unreachable, and ClientMissing where there is no Kubernetes client."""
        from relume.cluster.apply.api import KubernetesApi

        return KubernetesApi.of_context(self.context, self.kubeconfig)


def cluster_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add --context, --kubeconfig and --namespace; the command receives `target: ClusterTarget`."""

    @functools.wraps(command)
    def with_target(
        *, context: str | None, kubeconfig: Path | None, namespace: str | None, **others: object
    ) -> R:
        return command(target=ClusterTarget(context, kubeconfig, namespace), **others)

    for option in reversed(_CHOICES):
        with_target = option(with_target)
    return with_target
