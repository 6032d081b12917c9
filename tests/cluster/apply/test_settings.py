"""Settings of the cluster: compared, told with a command, never changed."""

import json
import shlex
from pathlib import Path

import pytest

from relume.cluster.apply.api import KubernetesApi
from relume.cluster.apply.applying import Choices, apply
from relume.cluster.apply.manifests import ClusterManifest, ClusterWriter, Source
from relume.cluster.apply.settings import SettingsMissing, missing_settings

from . import world
from .cluster import Cluster
from .world import Told

pytest.importorskip("kubernetes")
FEATURES = "/api/v1/namespaces/knative-serving/configmaps/config-features"
ACTIVATOR = "/apis/apps/v1/namespaces/knative-serving/deployments/activator"


def patch(kind: str, name: str, **body: object) -> ClusterManifest:
    metadata = {"name": name, "namespace": "knative-serving"}
    return ClusterManifest({"kind": kind, "metadata": metadata, **body}, f"cluster/{name}.yaml")


def grace(seconds: int) -> dict[str, object]:
    return {"template": {"spec": {"terminationGracePeriodSeconds": seconds}}}


TOLERATIONS = "kubernetes.podspec-tolerations"
PATCHES = (
    patch("ConfigMap", "config-features", data={TOLERATIONS: "enabled"}),
    patch("ConfigMap", "config-defaults", data={"max-revision-timeout-seconds": "900"}),
    patch("Deployment", "activator", spec=grace(900)),
)


def test_missing_settings_stop_everything_and_come_with_their_command(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.put(FEATURES, {"data": {TOLERATIONS: "disabled"}})
    cluster.put(ACTIVATOR, {"spec": grace(600)})
    told = Told()
    with cluster.running(tmp_path) as kubeconfig:
        writer = ClusterWriter(KubernetesApi.of_context("test", kubeconfig), "models")
        source = Source(world.source(tmp_path).manifests, PATCHES)
        with pytest.raises(SettingsMissing):
            apply(source, writer, Choices(), told, cluster.pace)
        assert cluster.asked and not [one for one in cluster.asked if "GET" not in one]
        apply(source, writer, Choices(0, despite_settings=True), told, cluster.pace)
    assert not [path for path in cluster.written() if "knative-serving" in path]
    assert f"knative-serving/config-features lacks {TOLERATIONS}: disabled → enabled" in told.lines
    command = next(line for line in told.lines if "kubectl patch deployment activator" in line)
    assert json.loads(shlex.split(command)[-1]) == {"spec": grace(900)}
    assert "max-revision-timeout-seconds: not set → 900" in told.text


def test_settings_that_are_there_or_higher_are_fine(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.put(FEATURES, {"data": {TOLERATIONS: "Enabled"}})
    cluster.put(
        FEATURES.replace("features", "defaults"), {"data": {"max-revision-timeout-seconds": "1200"}}
    )
    cluster.put(ACTIVATOR, {"spec": grace(901)})
    with cluster.running(tmp_path) as kubeconfig:
        assert missing_settings(KubernetesApi.of_context("test", kubeconfig), PATCHES) == ([], [])


def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    cluster = Cluster(forbidden={FEATURES})
    cluster.put(
        FEATURES.replace("features", "defaults"), {"data": {"max-revision-timeout-seconds": "900"}}
    )
    cluster.put(ACTIVATOR, {"spec": grace(900)})
    with cluster.running(tmp_path) as kubeconfig:
        api = KubernetesApi.of_context("test", kubeconfig)
        missing, unread = missing_settings(api, PATCHES)
    assert (missing, unread) == ([], ["ConfigMap knative-serving/config-features"])
