"""The server takes what is shipped to be applied as it stands."""

from pathlib import Path

import pytest
import yaml

from relume.cluster.apply.api import KubernetesApi
from relume.cluster.apply.manifests import ClusterManifest, ClusterWriter

ROOT = Path(__file__).parents[3]
APPLIED = ("config/dra/deviceclasses", "runtimes/manifests")
SETTINGS = "config/knative"
# What `kubectl patch` sends for each kind, as the files' first lines say.
_PATCH = {
    "ConfigMap": "application/merge-patch+json",
    "Deployment": "application/strategic-merge-patch+json",
}


def shipped(*folders: str) -> list[ClusterManifest]:
    return [
        ClusterManifest(body, str(file.relative_to(ROOT)))
        for folder in folders
        for file in sorted((ROOT / folder).glob("*.yaml"))
        if file.name != "kustomization.yaml"
        for body in yaml.safe_load_all(file.read_text())
    ]


def named(manifest: ClusterManifest) -> str:
    return f"{manifest.kind}-{manifest.name}"


@pytest.mark.parametrize("manifest", shipped(*APPLIED), ids=named)
def test_the_server_takes_what_is_applied(manifest: ClusterManifest, writer: ClusterWriter) -> None:
    if writer.resource(manifest.api_version, manifest.kind) is None:
        pytest.skip(f"the cluster does not serve {manifest.api_version} {manifest.kind}")
    answer = writer.apply(manifest, dry_run=True)
    assert answer.ok, answer.message


@pytest.mark.parametrize("manifest", shipped(SETTINGS), ids=named)
def test_the_server_takes_the_settings(
    manifest: ClusterManifest, writer: ClusterWriter, api: KubernetesApi
) -> None:
    path = writer.path(manifest)
    if path is None or writer.read(manifest) is None:
        pytest.skip(f"the cluster has no {manifest.title}")
    answer = api.change("PATCH", path, manifest.body, _PATCH[manifest.kind], dryRun="All")
    assert answer.ok, answer.message
