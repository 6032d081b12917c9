"""Apply over HTTP with the real client: all or nothing, in order, and never without a device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relume.base.errors import InvalidInput
from relume.cluster.apply.api import KubernetesApi, Unreachable
from relume.cluster.apply.applying import Choices, apply
from relume.cluster.apply.devices import is_about_devices
from relume.cluster.apply.manifests import (
    ClusterManifest,
    ClusterWriter,
    NotApplied,
    Source,
    read_source,
)
from relume.cluster.apply.policy import PolicyNotInForce
from relume.cluster.apply.waiting import NotReady, ReadyWithoutDevice
from relume.cluster.render import Options

from . import world
from .cluster import POLICY_PATH, Cluster
from .world import Told

pytest.importorskip("kubernetes")
WAIT = Choices()


@contextmanager
def writer(cluster: Cluster, folder: Path, **options: bool) -> Iterator[ClusterWriter]:
    with cluster.running(folder) as kubeconfig:
        api = KubernetesApi.of_context("test", kubeconfig)
        yield ClusterWriter(api, "models", **options)


def applied(cluster: Cluster, folder: Path, source: Source, choices: Choices = WAIT) -> Told:
    told = Told()
    with writer(cluster, folder) as to:
        apply(source, to, choices, told, cluster.pace)
    return told


def plurals(cluster: Cluster) -> list[str]:
    return [path.split("/")[-2] for path in cluster.written()]


def test_everything_is_tried_before_anything_is_applied_and_then_in_order(tmp_path: Path) -> None:
    cluster = Cluster()
    world.settle(cluster)
    told = applied(cluster, tmp_path, world.source(tmp_path))
    patches = [one for one in cluster.asked if one.startswith("PATCH")]
    half = len(patches) // 2
    assert all("dryRun=All" in one for one in patches[:half])
    assert not any("dryRun" in one for one in patches[half:])
    assert plurals(cluster) == [
        "clusterroles",
        "deviceclasses",
        "clusterservingruntimes",
        "inferenceservices",
        "brokers",
        "triggers",
        "networkpolicies",
        "poddisruptionbudgets",
    ]
    assert "InferenceService models/chat: created" in told.lines
    assert "Trigger models/chat: ready" in told.lines


def test_what_was_applied_before_is_unchanged(tmp_path: Path) -> None:
    cluster = Cluster()
    world.settle(cluster)
    applied(cluster, tmp_path, world.source(tmp_path))
    told = applied(cluster, tmp_path, world.source(tmp_path), Choices(wait_s=0))
    assert "InferenceService models/chat: unchanged" in told.lines
    assert not [one for one in told.lines if "created" in one or "changed" in one.split()]


def test_one_refused_document_keeps_all_others_away(tmp_path: Path) -> None:
    message = "failed to create typed patch object (models/chat; eventing.knative.dev/v1, "
    message += "Kind=Trigger): .spec.brokr: field not declared in schema"
    cluster = Cluster(refuse={("Trigger", "chat"): (400, {"message": message})})
    with pytest.raises(NotApplied, match="nothing was applied") as caught:
        applied(cluster, tmp_path, world.source(tmp_path))
    (refused,) = caught.value.refusals
    assert (refused.manifest.title, refused.field) == ("Trigger models/chat", "spec.brokr")
    assert cluster.written() == []


def test_every_refusal_is_told_at_once(tmp_path: Path) -> None:
    cause = {"field": "spec.predictor.scaleMetric"}
    status = {"message": "is invalid", "details": {"causes": [cause]}}
    webhook = "[validation.webhook.eventing.knative.dev] validation failed: invalid value: -1: "
    refuse = {("InferenceService", "chat"): (422, status)}
    refuse["Broker", "chat"] = (400, {"message": webhook + "spec.delivery.retry"})
    with pytest.raises(NotApplied) as caught:
        applied(Cluster(refuse=refuse), tmp_path, world.source(tmp_path))
    fields = [one.field for one in caught.value.refusals]
    assert fields == ["spec.predictor.scaleMetric", "spec.delivery.retry"]


def test_a_conflict_names_the_owner_and_force_takes_the_field(tmp_path: Path) -> None:
    cause = {"reason": "FieldManagerConflict", "field": ".spec.predictor.minReplicas"}
    status = {"message": 'conflict with "kubectl"', "details": {"causes": [cause]}}
    cluster = Cluster(refuse={("InferenceService", "chat"): (409, status)})
    with pytest.raises(
        NotApplied, match=r'minReplicas: conflict with "kubectl": --force-conflicts'
    ):
        applied(cluster, tmp_path, world.source(tmp_path))
    with writer(cluster, tmp_path, force=True) as to:
        apply(world.source(tmp_path), to, Choices(wait_s=0), Told(), cluster.pace)
    assert world.SERVICE in cluster.objects


def test_a_kind_that_is_not_served_names_what_to_install(tmp_path: Path) -> None:
    cluster = Cluster(missing={"serving.kserve.io/v1beta1"})
    with pytest.raises(NotApplied, match="install KServe"):
        applied(cluster, tmp_path, world.source(tmp_path))


def test_a_dry_run_applies_nothing(tmp_path: Path) -> None:
    cluster = Cluster()
    told = applied(cluster, tmp_path, world.source(tmp_path), Choices(dry_run=True))
    assert cluster.written() == []
    assert "the cluster takes 8 documents; nothing was applied" in told.lines


def test_documents_of_a_new_namespace_are_tried_when_it_is_there(tmp_path: Path) -> None:
    source = world.source(tmp_path)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    together = Source((ClusterManifest(body, "ns.yaml"), *source.manifests))
    cluster = Cluster(refuse={("Trigger", "chat"): (400, {"message": "no"})})
    del cluster.objects["/api/v1/namespaces/models"]
    with pytest.raises(NotApplied, match="applied before: Namespace models") as caught:
        applied(cluster, tmp_path, together)
    assert cluster.written() == ["/api/v1/namespaces/models"]
    assert [one.title for one in caught.value.applied] == ["Namespace models"]


def test_services_wait_until_dry_run_pods_show_the_policy(tmp_path: Path) -> None:
    cluster = Cluster(inactive=3)
    world.settle(cluster, 10)
    told = applied(cluster, tmp_path, world.source(tmp_path, "admission"))
    service = next(
        i
        for i, a in enumerate(cluster.asked)
        if a.startswith(f"PATCH {world.SERVICE}?fieldManager") and "dryRun" not in a
    )
    policy = next(
        i
        for i, a in enumerate(cluster.asked)
        if a.startswith(f"PATCH {POLICY_PATH}") and "dryRun" not in a
    )
    probes = [i for i, one in enumerate(cluster.asked) if one.startswith("POST")]
    assert len(probes) == 6, "three without the claim, then three in a row with it"
    assert policy < probes[0] and probes[-1] < service
    assert "the admission policy gives pods in models their claim (5 s, 6 dry runs)" in told.lines


def test_a_policy_that_never_acts_keeps_the_services_away(tmp_path: Path) -> None:
    cluster = Cluster(inactive=10_000)
    with pytest.raises(PolicyNotInForce, match="no claim for 120 s"):
        applied(cluster, tmp_path, world.source(tmp_path, "admission"))
    assert world.SERVICE not in cluster.objects and POLICY_PATH in cluster.objects


def test_a_refused_probe_keeps_the_services_away(tmp_path: Path) -> None:
    refuse = {("Pod", "relume-policy-probe"): (403, {"message": "exceeded quota"})}
    cluster = Cluster(refuse=refuse)
    with pytest.raises(PolicyNotInForce, match="exceeded quota"):
        applied(cluster, tmp_path, world.source(tmp_path, "admission"))
    assert world.SERVICE not in cluster.objects


@pytest.mark.parametrize("route", ["extended-resource", "admission"])
def test_a_pod_that_is_ready_without_its_claim_is_an_error_at_once(
    tmp_path: Path, route: str
) -> None:
    cluster = Cluster()
    world.settle(cluster, 8)
    cluster.at(8, lambda: _put(cluster, world.POD, world.pod(ready=True)))
    with pytest.raises(ReadyWithoutDevice, match="models/chat-00001 IS READY WITHOUT A DEVICE"):
        applied(cluster, tmp_path, world.source(tmp_path, route))


def earlier_pod() -> dict[str, object]:
    """A pod of the service as it was before it asked for a device."""
    pod = world.pod(ready=True)
    pod["metadata"]["creationTimestamp"] = "2026-11-22T10:00:00Z"
    pod["metadata"]["labels"]["serving.knative.dev/revision"] = "chat-00001"
    return pod


def test_a_pod_of_the_revision_before_is_not_taken_for_one_without_its_device(
    tmp_path: Path,
) -> None:
    cluster = Cluster()
    cluster.put(world.POD, earlier_pod())
    latest = {"components": {"predictor": {"latestCreatedRevision": "chat-00002"}}}
    cluster.at(6, cluster.set_status(world.SERVICE, **latest))
    cluster.at(60, cluster.set_status(world.SERVICE, conditions=world.conditions("True"), **latest))
    for path in (world.BROKER, world.TRIGGER):
        cluster.at(8, cluster.set_status(path, conditions=world.conditions("True")))
    told = applied(cluster, tmp_path, world.source(tmp_path))
    assert cluster.clock >= 60 and "InferenceService models/chat: ready" in told.lines


def test_a_pod_that_was_there_and_stays_the_newest_must_have_its_device(tmp_path: Path) -> None:
    cluster = Cluster()
    world.settle(cluster, 8)
    cluster.put(world.POD, earlier_pod())
    latest = {"components": {"predictor": {"latestCreatedRevision": "chat-00001"}}}
    ready = world.conditions("True")
    cluster.at(8, cluster.set_status(world.SERVICE, conditions=ready, **latest))
    with pytest.raises(ReadyWithoutDevice):
        applied(cluster, tmp_path, world.source(tmp_path))
    assert cluster.clock >= 20


@pytest.mark.parametrize(("route", "extended"), [("extended-resource", True), ("admission", False)])
def test_the_first_pod_is_waited_for_until_it_holds_its_claim(
    tmp_path: Path, route: str, extended: bool
) -> None:
    cluster = Cluster()
    world.settle(cluster, 8)
    unbound = world.pod(ready=False, claim="c", extended=extended)
    cluster.at(8, lambda: _put(cluster, world.POD, unbound))
    cluster.at(10, lambda: _put(cluster, f"{world.CLAIMS}/c", world.claim("c")))
    cluster.at(
        20, lambda: _put(cluster, world.POD, world.pod(ready=True, claim="c", extended=extended))
    )
    told = applied(cluster, tmp_path, world.source(tmp_path, route))
    assert cluster.clock >= 20
    assert "pod models/chat-00001: ready; device: holds, node-1/gpu-0" in told.lines


def test_a_claim_that_another_pod_reserved_is_not_the_pods(tmp_path: Path) -> None:
    cluster = Cluster()
    world.settle(cluster, 8)
    cluster.at(8, lambda: _put(cluster, f"{world.CLAIMS}/c", world.claim("c", reserved="other")))
    cluster.at(8, lambda: _put(cluster, world.POD, world.pod(ready=True, claim="c")))
    with pytest.raises(NotReady, match="not reserved for the pod"):
        applied(cluster, tmp_path, world.source(tmp_path), Choices(wait_s=30))


def test_a_claim_that_cannot_be_allocated_is_explained_once_by_clause_and_device(
    tmp_path: Path,
) -> None:
    cluster = Cluster()
    cluster.put("/apis/resource.k8s.io/v1/resourceslices/node-1", world.slice_("15Gi"))
    cluster.put("/api/v1/nodes/node-1", {"metadata": {"name": "node-1"}})
    stuck = world.pod(ready=False, unscheduled="0/1 nodes: 1 cannot allocate all claims")
    cluster.at(8, lambda: _put(cluster, world.POD, stuck))
    told = Told()
    with writer(cluster, tmp_path) as to, pytest.raises(NotReady, match="cannot allocate all"):
        apply(world.source(tmp_path), to, Choices(wait_s=60), told, cluster.pace)
    (report,) = told.reports
    assert report.answer == "unsatisfiable"
    assert "NVIDIA T4" in report.sentence and "22Gi" in report.sentence


def test_the_wait_ends_with_what_kserve_says(tmp_path: Path) -> None:
    cluster = Cluster()
    failure = {"lastFailureInfo": {"reason": "NoSupportingRuntime", "message": "no runtime found"}}
    failed = conditions_of_a_failed_service()
    cluster.at(2, cluster.set_status(world.SERVICE, conditions=failed, modelStatus=failure))
    with pytest.raises(NotReady) as caught:
        applied(cluster, tmp_path, world.source(tmp_path), Choices(wait_s=20))
    assert "not ready after 20 s" in str(caught.value)
    assert "PredictorReady ReconcileFailed: expected 0 <= 3600 <= 600" in str(caught.value)
    assert "NoSupportingRuntime: no runtime found" in str(caught.value)
    assert cluster.clock < 30


def test_the_wait_goes_over_a_server_that_restarts(tmp_path: Path) -> None:
    cluster = Cluster()
    world.settle(cluster, 20)

    def restart() -> None:
        cluster.broken = 3

    cluster.at(4, restart)
    told = applied(cluster, tmp_path, world.source(tmp_path))
    assert "503" in told.text and "Trigger models/chat: ready" in told.lines


def test_a_server_that_goes_away_before_the_first_look_is_what_is_waited_for(
    tmp_path: Path,
) -> None:
    cluster = Cluster()

    class Restarting(Told):
        def say(self, line: str, tone: str = "") -> None:
            super().say(line, tone)
            if line == "PodDisruptionBudget models/chat: created":
                cluster.broken = 1

    world.settle(cluster, 4)
    told = Restarting()
    with cluster.running(tmp_path) as kubeconfig:
        writer = ClusterWriter(KubernetesApi.of_context("test", kubeconfig), "models")
        apply(world.source(tmp_path), writer, Choices(wait_s=60), told, cluster.pace)
    assert "waiting for the API server" in told.doing


@pytest.mark.parametrize(
    ("why", "about"),
    [
        ("0/1 nodes are available: 1 cannot allocate all claims", True),
        ("1 Insufficient deviceclass.resource.kubernetes.io/nope", True),
        ("1 Insufficient nvidia.com/gpu", True),
        ("class badkey: selector #0: CEL runtime error: no such key: nokey", True),
        ("1 Insufficient cpu", False),
        ("1 node(s) had untolerated taint {x: y}", False),
    ],
)
def test_what_the_scheduler_says_of_devices_is_told_from_the_rest(why: str, about: bool) -> None:
    assert is_about_devices(why) == about


def conditions_of_a_failed_service() -> list[dict[str, str]]:
    """As KServe orders them: by name, those that only name another among them."""
    reason = {"reason": "ReconcileFailed", "message": "expected 0 <= 3600 <= 600"}
    other = {"reason": "PredictorReady not ready", "severity": "Info"}
    return [
        {"type": "LatestDeploymentReady", "status": "False", **other},
        {"type": "PredictorReady", "status": "False", **reason},
        {"type": "Ready", "status": "False"},
    ]


def test_a_status_of_an_older_generation_is_not_ready(tmp_path: Path) -> None:
    cluster = Cluster()
    world.settle(cluster, 8)

    def stale() -> None:
        cluster.objects[world.SERVICE]["metadata"]["generation"] = 2
        cluster.objects[world.SERVICE]["status"]["observedGeneration"] = 1

    cluster.at(8, stale)
    with pytest.raises(NotReady):
        applied(cluster, tmp_path, world.source(tmp_path), Choices(wait_s=20))


def test_a_service_at_zero_is_ready_and_its_devices_are_left_to_the_first_request(
    tmp_path: Path,
) -> None:
    cluster = Cluster()
    world.settle(cluster)
    told = applied(cluster, tmp_path, world.source(tmp_path))
    assert any(line.startswith("devices of models/chat: none yet") for line in told.lines)


def test_no_image_no_apply(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(world.TEXT)
    found = read_source([tmp_path / "chat.yaml"], Options())
    cluster = Cluster()
    with pytest.raises(InvalidInput, match="--image relume-vllm="):
        applied(cluster, tmp_path, found)
    assert cluster.asked == []


def test_a_server_that_goes_away_is_one_error(tmp_path: Path) -> None:
    cluster = Cluster()
    with writer(cluster, tmp_path) as to:
        pass
    with pytest.raises(Unreachable):
        apply(replace(world.source(tmp_path)), to, Choices(), Told(), cluster.pace)


def _put(cluster: Cluster, path: str, body: dict[str, object]) -> None:
    cluster.put(path, body)


def runtime(name: str, priority: int | None) -> dict[str, object]:
    shown = {"name": "huggingface", "version": "1", "autoSelect": True}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": name},
        "spec": {
            "supportedModelFormats": [
                shown if priority is None else {**shown, "priority": priority}
            ],
            "protocolVersions": ["v1"],
            "containers": [{"name": "kserve-container", "image": "i"}],
        },
    }


@pytest.mark.parametrize("there", ["on the cluster", "in the same files"])
def test_runtimes_that_clash_are_refused_before_anything_is_tried(
    there: str, tmp_path: Path
) -> None:
    """KServe's webhook sees one dry run at a time, and so no clash of two that are both new."""
    cluster = Cluster()
    manifests = [ClusterManifest(runtime("mine", 2), "m.yaml")]
    if there == "on the cluster":
        path = "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes/other"
        cluster.put(path, runtime("other", 2))
    else:
        manifests.insert(0, ClusterManifest(runtime("other", 2), "m.yaml"))
    with pytest.raises(NotApplied) as error:
        applied(cluster, tmp_path, Source(tuple(manifests)))
    (refused,) = error.value.refusals
    assert refused.manifest.name == "mine" and refused.field == "spec.supportedModelFormats"
    assert "the clusterservingruntimes other and mine: give the format" in refused.message
    assert not [one for one in cluster.asked if one.startswith("PATCH")]


def test_a_rendered_service_is_applied_beside_kserves_own_runtimes(tmp_path: Path) -> None:
    cluster = Cluster()
    path = "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes/kserve-huggingfaceserver-"
    for number in (1, 2, 3, 4, 5):
        cluster.put(f"{path}{number}", runtime(f"kserve-huggingfaceserver-{number}", number))
    world.settle(cluster)
    applied(cluster, tmp_path, world.source(tmp_path))
    assert "clusterservingruntimes" in plurals(cluster)
