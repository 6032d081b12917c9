"""What the doctor finds on a cluster: the real client, over HTTP, against a small API server."""

import json
from pathlib import Path

import pytest

from relume.cli.main import run
from relume.cluster.apply.api import KubernetesApi, Unreachable
from relume.cluster.doctor.online import ClusterReport, examine_cluster, needs_of
from tests.cluster.api_server import ApiServer, healthy, node, slice_, write_kubeconfig
from tests.config.manifests import broker, service, together, trigger

pytest.importorskip("kubernetes")


def examined(
    folder: Path,
    server: ApiServer,
    needs: list[tuple[str, str, str]] | None = None,
    classes: list[str] | None = None,
) -> ClusterReport:
    with server.running(folder) as kubeconfig:
        api = KubernetesApi.of_context("test", kubeconfig)
        return examine_cluster(api, needs=needs or (), broker_classes=classes or ())


def said(report: ClusterReport) -> set[tuple[str, str]]:
    return {(f.reason, f.field) for f in report.findings if f.reason != "cluster-fact"}


def test_a_cluster_with_everything_has_nothing_but_facts(tmp_path: Path) -> None:
    report = examined(tmp_path, healthy())
    assert said(report) == set()
    assert report.version == "1.36"
    facts = " ".join(finding.message for finding in report.findings)
    assert "gpu.nvidia.com publishes 3 devices" in facts, "an older generation does not count"
    assert "a request lasts at most 1200 s" in facts
    assert "the default broker class is MTChannelBasedBroker" in facts


def test_an_old_cluster_without_dra_is_told_so(tmp_path: Path) -> None:
    server = healthy()
    server.version = ("1", "33+")
    server.groups = ("apps/v1", "resource.k8s.io/v1beta1", "eventing.knative.dev/v1")
    report = examined(tmp_path, server)
    assert said(report) == {
        ("old-version", "version"),
        ("no-dra", "resource.k8s.io/v1"),
        ("not-installed", "serving.knative.dev/v1"),
        ("not-installed", "serving.kserve.io/v1beta1"),
    }
    (found,) = [f for f in report.findings if f.reason == "no-dra"]
    assert "it serves resource.k8s.io/v1beta1" in found.message


def test_settings_as_shipped_are_named(tmp_path: Path) -> None:
    server = healthy()
    server.objects = {p: o for p, o in server.objects.items() if "/configmaps/config-" not in p}
    assert said(examined(tmp_path, server)) == {
        ("flag-off", "kubernetes.podspec-tolerations"),
        ("flag-off", "kubernetes.podspec-nodeselector"),
        ("flag-off", "kubernetes.podspec-affinity"),
        ("flag-off", "kubernetes.podspec-persistent-volume-claim"),
        ("flag-off", "kubernetes.podspec-init-containers"),
        ("flag-off", "allow-zero-initial-scale"),
        ("not-schedulable", "pod-is-always-schedulable"),
    }


def test_a_driver_that_publishes_nothing_is_found(tmp_path: Path) -> None:
    server = healthy()
    server.objects["/apis/resource.k8s.io/v1/resourceslices"] = [
        slice_("node-1", generation=1, devices=0)
    ]
    assert said(examined(tmp_path, server)) == {("no-slices", "resourceslices")}


def test_a_device_plugin_beside_the_driver_of_the_same_name_is_found(tmp_path: Path) -> None:
    server = healthy()
    server.objects["/api/v1/nodes"] = [
        node("node-1", **{"nvidia.com/gpu": "8"}),
        node("node-2", **{"nvidia.com/gpu": "0"}),  # the plugin was there, and went
        node("node-3", **{"nvidia.com/gpu": "8"}),  # a plugin alone is fine
    ]
    report = examined(tmp_path, server)
    assert said(report) == {("plugin-beside-driver", "nodes/node-1")}


def test_pools_at_zero_and_cards_that_failed_are_found(tmp_path: Path) -> None:
    server = healthy()
    label = "cloud.google.com/gke-nvidia-gpu-dra-driver"
    nodes = [node("node-1"), node("node-2"), node("node-3")]
    for one, marked in zip(nodes, ({}, {label: "true"}, {}), strict=True):
        pool = {"cloud.google.com/gke-nodepool": f"pool-of-{one['metadata']['name']}"}
        one["metadata"]["labels"] = {**pool, **marked}
    server.objects["/api/v1/nodes"] = nodes  # node-3 has no devices
    failed = slice_("node-2", generation=1, devices=1)
    taints = [
        {"key": "gpu.nvidia.com/gpu-lost", "effect": "NoSchedule"},
        {"key": "example.com/reserved", "effect": "NoSchedule"},
        {"key": "gpu.nvidia.com/unmonitored", "effect": "None"},
    ]
    failed["spec"]["devices"][0]["taints"] = taints
    slices = server.objects["/apis/resource.k8s.io/v1/resourceslices"]
    server.objects["/apis/resource.k8s.io/v1/resourceslices"] = [*slices[:2], failed]
    report = examined(tmp_path, server)
    place = f"node-2/{failed['spec']['devices'][0]['name']}"
    assert said(report) == {
        ("pool-stays-at-zero", "nodes/node-1"),
        ("unhealthy-device", place),
        ("device-told", place),
    }


@pytest.mark.parametrize(
    ("served", "words"),
    [
        ("nvidia.com/gpu", "gpu.nvidia.com answers for nvidia.com/gpu"),
        (None, "no DeviceClass answers for nvidia.com/gpu"),
    ],
)
def test_which_class_answers_for_nvidias_name_is_told(
    served: str | None, words: str, tmp_path: Path
) -> None:
    server = healthy()
    [one] = server.objects["/apis/resource.k8s.io/v1/deviceclasses"]
    one["spec"]["extendedResourceName"] = served
    facts = " ".join(finding.message for finding in examined(tmp_path, server).findings)
    assert words in facts


def test_a_broker_class_that_nobody_answers_for_is_found(tmp_path: Path) -> None:
    report = examined(tmp_path, healthy(), classes=["Kafka", ""])
    assert said(report) == {("no-broker-class", "Kafka")}


def test_missing_permissions_are_found_for_what_will_be_applied(tmp_path: Path) -> None:
    server = healthy()
    server.denied = {"create deviceclasses", "patch deviceclasses"}
    needs = [("resource.k8s.io", "deviceclasses", ""), ("", "configmaps", "default")]
    report = examined(tmp_path, server, needs)
    assert said(report) == {("not-permitted", "deviceclasses.resource.k8s.io")}
    (found,) = [f for f in report.findings if f.reason == "not-permitted"]
    assert found.message == "you may not create, patch deviceclasses.resource.k8s.io"


def test_what_may_not_be_read_is_said_and_the_rest_examined(tmp_path: Path) -> None:
    server = healthy()
    server.forbidden = {"/api/v1/nodes"}
    server.denied = {"get configmaps"}
    report = examined(tmp_path, server, [("", "configmaps", "default")])
    assert said(report) == {("not-readable", ""), ("not-permitted", "configmaps")}


def test_nothing_is_written_to_the_cluster(tmp_path: Path) -> None:
    server = healthy()
    examined(tmp_path, server, [("", "configmaps", "default")])
    posts = {one for one in server.asked if not one.startswith("GET ")}
    assert posts == {"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"}


def test_a_server_that_does_not_answer_is_one_error(tmp_path: Path) -> None:
    api = KubernetesApi.of_context("test", write_kubeconfig(tmp_path, 9))
    with pytest.raises(Unreachable, match="/version"):
        examine_cluster(api)
    with pytest.raises(Unreachable, match="other"):
        KubernetesApi.of_context("other", write_kubeconfig(tmp_path, 9))


def test_wrong_credentials_are_one_error_without_the_token(tmp_path: Path) -> None:
    server = healthy()
    with server.running(tmp_path) as kubeconfig:
        kubeconfig.write_text(kubeconfig.read_text().replace("secret", "hunter2"))
        api = KubernetesApi.of_context("test", kubeconfig)
        with pytest.raises(Unreachable, match="401") as caught:
            examine_cluster(api)
    assert "hunter2" not in str(caught.value)


def test_the_needs_of_files_are_their_kinds_and_their_brokers_classes(tmp_path: Path) -> None:
    key = "eventing.knative.dev/broker.class"
    text = together(
        service(), broker(), broker(name="k", metadata=f"annotations: {{{key}: Kafka}}")
    )
    (tmp_path / "m.yaml").write_text(text)
    needs, classes = needs_of([tmp_path / "m.yaml"])
    assert needs[0] == ("serving.kserve.io", "inferenceservices", "default")
    assert classes == ["", "Kafka"]


def test_the_command_judges_files_by_the_clusters_own_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(service("timeout: 900"))
    assert run(["doctor", str(file)]) == 1, "as shipped, 600 s are the most"
    capsys.readouterr()
    with healthy().running(tmp_path) as kubeconfig:
        common = ["--context", "test", "--kubeconfig", str(kubeconfig)]
        code = run(["doctor", str(file), *common, "-o", "json"])
        cluster, document = map(json.loads, capsys.readouterr().out.splitlines())
        assert (code, cluster["version"], document["verdict"]) == (0, "1.36", "accepted")
        assert run(["doctor", *common]) == 0
        assert "cluster test, Kubernetes 1.36" in capsys.readouterr().out


def test_a_kubeconfig_without_a_context_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(service("timeout: 60"))
    assert run(["doctor", str(file), "--kubeconfig", str(file)]) == 2
    assert "--context NAME" in capsys.readouterr().err


def test_a_device_class_that_the_cluster_has_is_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    limits = "{deviceclass.resource.kubernetes.io/%s: 1}"
    file.write_text(service(model=f"resources:\n  limits: {limits % 'llm-gpu-24g'}"))
    server = healthy()
    for name, missing in (("llm-gpu-24g", False), ("llm-gpu-80g", True)):
        classes = [{"metadata": {"name": name}}]
        server.objects["/apis/resource.k8s.io/v1/deviceclasses"] = classes
        with server.running(tmp_path) as kubeconfig:
            run(["doctor", str(file), "--context", "test", "--kubeconfig", str(kubeconfig)])
        assert ("no-device-class" in capsys.readouterr().out) is missing


def test_a_broker_that_the_cluster_has_is_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(together(service(), trigger()))
    server = healthy()
    for name, missing in (("b", False), ("other", True)):
        brokers = [{"metadata": {"name": name, "namespace": "default"}}]
        server.objects["/apis/eventing.knative.dev/v1/brokers"] = brokers
        with server.running(tmp_path) as kubeconfig:
            run(["doctor", str(file), "--context", "test", "--kubeconfig", str(kubeconfig)])
        assert ("no-broker " in f"{capsys.readouterr().out} ".replace("\n", " ")) is missing
