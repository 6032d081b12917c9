"""Runtimes that a cluster refuses beside others, or that take over the services of others."""

from pathlib import Path

import pytest

from relume.cluster.admission.runtime_choice import CLUSTER_KIND
from relume.cluster.apply.api import KubernetesApi
from relume.cluster.doctor import examine
from relume.cluster.doctor.online import ClusterReport, examine_cluster, runtimes_of
from relume.cluster.render.folder import yaml_text
from relume.cluster.render.runtimes import RUNTIMES
from tests.cluster.api_server import ApiServer, Object, healthy

pytest.importorskip("kubernetes")
RUNTIMES_PATH = "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes"
SERVICES_PATH = "/apis/serving.kserve.io/v1beta1/inferenceservices"


def runtime(name: str, priority: int | None, model_format: str = "huggingface") -> Object:
    shown = {"name": model_format, "version": "1", "autoSelect": True}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": CLUSTER_KIND,
        "metadata": {"name": name},
        "spec": {
            "supportedModelFormats": [
                shown if priority is None else {**shown, "priority": priority}
            ],
            "protocolVersions": ["v2", "v1"],
            "containers": [{"name": "kserve-container", "image": "i"}],
        },
    }


def cluster(*services: Object) -> ApiServer:
    """A cluster with KServe's two runtimes for the format huggingface."""
    server = healthy()
    several = runtime("kserve-huggingfaceserver-multinode", 2)
    several["spec"]["workerSpec"] = {"containers": [{"name": "worker-container", "image": "i"}]}
    server.objects[RUNTIMES_PATH] = [runtime("kserve-huggingfaceserver", 1), several]
    server.objects[SERVICES_PATH] = list(services)
    return server


def asks(name: str, **model: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "models"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "huggingface"}, **model}}},
    }


def examined(folder: Path, server: ApiServer, *documents: Object) -> ClusterReport:
    file = folder / "runtimes.yaml"
    file.write_text(yaml_text(documents))
    with server.running(folder) as kubeconfig:
        api = KubernetesApi.of_context("test", kubeconfig)
        return examine_cluster(api, runtimes=runtimes_of([file]))


def said(report: ClusterReport) -> list[tuple[str, str]]:
    return [(f.reason, f.message) for f in report.findings if f.reason != "cluster-fact"]


def test_a_clash_with_a_runtime_of_the_cluster_is_seen_before_anything_is_applied(
    tmp_path: Path,
) -> None:
    report = examined(tmp_path, cluster(), runtime("mine", 2))
    assert said(report) == [
        (
            "runtime-clash",
            "same priority assigned for the model format huggingface in the clusterservingruntimes "
            "kserve-huggingfaceserver-multinode and mine",
        )
    ]
    (found,) = (f for f in report.findings if f.reason == "runtime-clash")
    assert (found.severity, found.field) == ("error", "spec.supportedModelFormats")
    assert found.file == tmp_path / "runtimes.yaml" and found.line


def test_our_own_runtimes_are_fine_and_take_over_no_service(tmp_path: Path) -> None:
    ours = [one.manifest() for one in RUNTIMES]
    assert said(examined(tmp_path, cluster(asks("chat")), *ours)) == []


def test_a_runtime_that_would_take_over_a_service_is_told(tmp_path: Path) -> None:
    server = cluster(asks("chat"), asks("fixed", runtime="kserve-huggingfaceserver"))
    assert said(examined(tmp_path, server, runtime("mine", 3))) == [
        (
            "runtime-takes-over",
            "InferenceService models/chat goes from kserve-huggingfaceserver to mine",
        )
    ]


def test_a_runtime_that_is_there_already_does_not_clash_with_itself(tmp_path: Path) -> None:
    same = runtime("kserve-huggingfaceserver", 1)
    assert said(examined(tmp_path, cluster(asks("chat")), same)) == []


def test_runtimes_that_may_not_be_listed_are_said_to_be_unread(tmp_path: Path) -> None:
    server = cluster()
    server.forbidden.add(RUNTIMES_PATH)
    ((reason, message),) = said(examined(tmp_path, server, runtime("mine", 2)))
    assert reason == "not-readable" and "clusterservingruntimes" in message


def test_two_runtimes_of_the_same_files_are_compared_too(tmp_path: Path) -> None:
    file = tmp_path / "runtimes.yaml"
    third = runtime("c", 3)
    file.write_text(yaml_text([runtime("a", 2), runtime("b", 2), third]))
    verdicts = [(one.name, one.verdict) for one in examine([file])]
    assert verdicts == [("a", "accepted"), ("b", "refused"), ("c", "accepted")]
