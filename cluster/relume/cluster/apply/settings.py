"""Settings of the cluster that a rendering needs, compared with what the cluster has.

They are never applied here: they concern everybody on the cluster, so its administrator does that.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relume.base.errors import RelumeError
from relume.cluster.apply.api import ClusterApi, Forbidden, part, table, text
from relume.cluster.apply.manifests import ClusterManifest

_GRACE = ("spec", "template", "spec", "terminationGracePeriodSeconds")


@dataclass(frozen=True, slots=True)
class Missing:
    """An object whose settings must change, and the command that changes them."""

    name: str
    settings: tuple[str, ...]
    command: str


class SettingsMissing(RelumeError):
    """The cluster's own settings would keep the services from running."""

    reason = "settings-missing"


def missing_settings(
    api: ClusterApi, patches: Sequence[ClusterManifest]
) -> tuple[list[Missing], list[str]]:
    """The objects that must change, and the names of those that may not be read."""
    missing: list[Missing] = []
    unread: list[str] = []
    for patch in patches:
        try:
            missing += _compare(api, patch)
        except Forbidden:
            unread.append(f"{patch.kind} {patch.namespace}/{patch.name}")
    return missing, unread


def _compare(api: ClusterApi, patch: ClusterManifest) -> Iterator[Missing]:
    kind, name, namespace = patch.kind, patch.name, patch.namespace
    if kind == "ConfigMap":
        found = api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        has = table(found, "data")
        wanted = table(patch.body, "data")
        off = {key: value for key, value in wanted.items() if not _enough(has.get(key), value)}
        if off:
            words = tuple(f"{key}: {has.get(key, 'not set')} → {v}" for key, v in off.items())
            yield Missing(f"{namespace}/{name}", words, _command(patch, {"data": off}))
    elif kind == "Deployment":
        found = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        seconds, least = part(found, *_GRACE), part(patch.body, *_GRACE)
        if not isinstance(seconds, int) or not isinstance(least, int) or seconds < least:
            words = (f"terminationGracePeriodSeconds: {text(found, *_GRACE)} → {least}",)
            spec = {"template": {"spec": {"terminationGracePeriodSeconds": least}}}
            yield Missing(f"{namespace}/{name}", words, _command(patch, {"spec": spec}))


def _enough(has: object, wanted: object) -> bool:
    """Whether a flag is equal to what is wanted, or a limit at least as high."""
    here, least = str(has).lower(), str(wanted).lower()
    if here.isdecimal() and least.isdecimal():
        return int(here) >= int(least)
    return here == least


def _command(patch: ClusterManifest, body: dict[str, object]) -> str:
    kind = patch.kind.lower()
    words = ["kubectl", "patch", kind, patch.name, "-n", patch.namespace]
    return shlex.join([*words, "--type", "merge", "-p", json.dumps(body)])
