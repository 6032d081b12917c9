"""Deletion: in reverse order, only what we applied, and nothing that others need."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relume.cluster.apply.api import KubernetesApi
from relume.cluster.apply.applying import Choices, apply, plan_removal, remove
from relume.cluster.apply.manifests import ClusterManifest, ClusterWriter, Source
from relume.cluster.apply.waiting import NotReady

from . import world
from .cluster import Cluster
from .world import Told

pytest.importorskip("kubernetes")


@contextmanager
def after_apply(cluster: Cluster, folder: Path, source: Source) -> Iterator[ClusterWriter]:
    with cluster.running(folder) as kubeconfig:
        writer = ClusterWriter(KubernetesApi.of_context("test", kubeconfig), "models")
        apply(source, writer, Choices(wait_s=0), Told(), cluster.pace)
        yield writer


def deleted(
    cluster: Cluster, writer: ClusterWriter, source: Source, wait_s: float = 30
) -> list[str]:
    cluster.asked.clear()
    remove(plan_removal(source, writer), writer, Told(), cluster.pace, wait_s)
    paths = [one.split()[1] for one in cluster.asked if one.startswith("DELETE")]
    return [path.split("/")[-2] for path in paths]


def test_all_that_was_applied_goes_last_first(tmp_path: Path) -> None:
    cluster, source = Cluster(), world.source(tmp_path)
    with after_apply(cluster, tmp_path, source) as writer:
        assert deleted(cluster, writer, source) == [
            "poddisruptionbudgets",
            "networkpolicies",
            "triggers",
            "brokers",
            "inferenceservices",
            "clusterservingruntimes",
            "deviceclasses",
            "clusterroles",
        ]
        again = plan_removal(source, writer)
    assert {fate.kept for fate in again} == {"it is not there"}


def test_what_somebody_else_made_and_namespaces_stay(tmp_path: Path) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    source = Source((ClusterManifest(body, "ns.yaml"), *world.source(tmp_path).manifests))
    cluster = Cluster()
    with after_apply(cluster, tmp_path, source) as writer:
        cluster.objects[world.BROKER]["metadata"]["managedFields"] = [
            {"manager": "kubectl", "operation": "Apply"}
        ]
        kept = {f.manifest.title: f.kept for f in plan_removal(source, writer) if f.kept}
    assert kept == {
        "Broker models/chat": "relume did not apply it",
        "Namespace models": "it may hold what these files do not name",
    }


def test_what_is_shared_stays_while_another_service_of_ours_is_there(tmp_path: Path) -> None:
    cluster, source = Cluster(), world.source(tmp_path)
    with after_apply(cluster, tmp_path, source) as writer:
        other = {
            "name": "other",
            "namespace": "team-b",
            "managedFields": [{"manager": "relume", "operation": "Apply"}],
        }
        path = world.SERVICE.replace("models", "team-b").replace("chat", "other")
        cluster.put(path, {"metadata": other})
        fates = {fate.manifest.kind: fate.kept for fate in plan_removal(source, writer)}
    assert fates["DeviceClass"] == "InferenceService team-b/other may use it"
    assert fates["ClusterServingRuntime"] == fates["ClusterRole"] == fates["DeviceClass"]
    assert fates["InferenceService"] == fates["Trigger"] == ""


def test_what_is_shared_stays_where_others_may_not_be_seen(tmp_path: Path) -> None:
    cluster, source = Cluster(), world.source(tmp_path)
    with after_apply(cluster, tmp_path, source) as writer:
        cluster.forbidden.add("/apis/serving.kserve.io/v1beta1/inferenceservices")
        fates = {fate.manifest.kind: fate.kept for fate in plan_removal(source, writer)}
    assert fates["DeviceClass"] == "InferenceService that you may not see may use it"
    assert fates["InferenceService"] == ""


def test_a_service_that_does_not_go_keeps_its_policy(tmp_path: Path) -> None:
    cluster, source = Cluster(), world.source(tmp_path, "admission")
    with after_apply(cluster, tmp_path, source) as writer:
        cluster.objects[world.SERVICE]["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
        with pytest.raises(NotReady, match="InferenceService models/chat is still there"):
            deleted(cluster, writer, source)
    assert any("mutatingadmissionpolicies" in path for path in cluster.objects)


def test_an_object_that_was_made_anew_in_the_meantime_stays(tmp_path: Path) -> None:
    cluster, source = Cluster(), world.source(tmp_path)
    with after_apply(cluster, tmp_path, source) as writer:
        fates = plan_removal(source, writer)
        cluster.objects[world.SERVICE]["metadata"]["uid"] = "another"
        remove(fates, writer, Told(), cluster.pace, 30)
    assert world.SERVICE in cluster.objects
