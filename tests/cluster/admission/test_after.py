"""What becomes of an InferenceService in Knative mode after admission, for all its components.

Source: kserve/kserve pkg/controller/v1beta1/inferenceservice (ksvc_reconciler.go builds the Knative
Service of each component, raw_kube_reconciler.go alone reads autoScaling) and
pkg/webhook/admission/pod/storage_initializer_injector.go.
"""

from pathlib import Path
from typing import Any

import pytest

from relume.base.vocabulary import AUTOSCALER_CLASS, DEPLOYMENT_MODE
from relume.cluster.admission import SHIPPED, Cluster
from relume.cluster.admission.after import after_admission
from relume.config.yaml_source import documents

from .documents import ISVC, changed, judged

CUSTOM = {"containers": [{"name": "kserve-container", "image": "app"}]}
INITS, CLAIMS = "kubernetes.podspec-init-containers", "kubernetes.podspec-persistent-volume-claim"


def later(
    folder: Path, document: dict[str, Any], cluster: Cluster = SHIPPED
) -> set[tuple[str, str]]:
    """The reason and field of what is found later, where admission takes the document."""
    answer = judged(folder, document, cluster)
    assert answer.verdict == "accepted", answer.findings
    (root,) = documents(folder / "m.yaml")
    found = after_admission(root.table(), cluster)
    return {(finding.reason, finding.field) for finding in found}


@pytest.mark.parametrize("kind", ["transformer", "explainer"])
@pytest.mark.parametrize(
    ("field", "value", "reason", "where"),
    [
        ("nodeSelector", {"a": "b"}, "reconcile-failed", "nodeSelector"),
        ("timeout", 3600, "reconcile-failed", "timeout"),
        ("tolerations", [{"operator": "Exists"}], "reconcile-failed", "tolerations"),
        (
            "annotations",
            {"autoscaling.knative.dev/window": "1s"},
            "reconcile-failed",
            "annotations.autoscaling.knative.dev/window",
        ),
        (
            "annotations",
            {"autoscaling.knative.dev/min-scale": "1"},
            "annotation-ignored",
            "annotations.autoscaling.knative.dev/min-scale",
        ),
        (
            "resourceClaims",
            [{"name": "g", "resourceClaimName": "a"}],
            "no-device",
            "resourceClaims",
        ),
        ("storageUris", [{"uri": "hf://a/b"}], "reconcile-failed", "storageUris"),
        ("autoScaling", {"metrics": []}, "no-effect", "autoScaling"),
        ("timeout", 600, None, ""),
        ("canaryTrafficPercent", 101, "reconcile-failed", "canaryTrafficPercent"),
        ("canaryTrafficPercent", 100, None, ""),
    ],
)
def test_every_component_becomes_a_knative_service(
    tmp_path: Path, kind: str, field: str, value: object, reason: str | None, where: str
) -> None:
    document = changed(ISVC, f"spec {kind}", {**CUSTOM, field: value})
    found = later(tmp_path, document)
    assert found == ({(reason, f"spec.{kind}.{where}")} if reason else set())


@pytest.mark.parametrize(
    ("length", "fails"),
    [(51, False), (52, True), (53, True)],
    ids=["51 characters fit before -transformer", "52 do not", "53 do not"],
)
def test_the_longest_component_bounds_the_name(tmp_path: Path, length: int, fails: bool) -> None:
    document = changed(ISVC, "metadata name", "n" * length)
    document = changed(document, "spec transformer", CUSTOM)
    found = later(tmp_path, document)
    assert found == ({("reconcile-failed", "metadata.name")} if fails else set())


@pytest.mark.parametrize(
    ("uris", "flag"),
    [
        (["hf://a/b"], INITS),
        (["s3://a/b", "gs://a/b"], INITS),
        (["pvc://a/b"], CLAIMS),
        (["oci://a/b"], None),
        (["oci+native://a/b"], None),
    ],
)
def test_what_storage_uris_become_is_behind_a_flag_of_knative(
    tmp_path: Path, uris: list[str], flag: str | None
) -> None:
    document = changed(ISVC, "spec predictor model storageUri", None)
    listed = [{"uri": uri, "mountPath": f"/mnt/models/{i}"} for i, uri in enumerate(uris)]
    document = changed(document, "spec predictor storageUris", listed)
    failing = ("reconcile-failed", "spec.predictor.storageUris")
    assert later(tmp_path, document) == ({failing} if flag else set())
    if flag:
        assert later(tmp_path, document, Cluster({flag: "enabled"})) == set()
    standard = changed(document, f"metadata annotations {DEPLOYMENT_MODE}", "Standard")
    assert later(tmp_path, standard) == set()


def test_only_knative_mode_splits_requests_between_revisions(tmp_path: Path) -> None:
    document = changed(ISVC, "spec predictor canaryTrafficPercent", 10)
    assert later(tmp_path, document) == set()
    standard = changed(document, f"metadata annotations {DEPLOYMENT_MODE}", "Standard")
    assert later(tmp_path, standard) == {("no-effect", "spec.predictor.canaryTrafficPercent")}


def test_the_flag_is_named_as_the_cause(tmp_path: Path) -> None:
    document = changed(ISVC, "spec predictor model storageUri", None)
    document = changed(document, "spec predictor storageUris", [{"uri": "hf://a/b"}])
    judged(tmp_path, document)
    (root,) = documents(tmp_path / "m.yaml")
    (finding,) = after_admission(root.table(), SHIPPED)
    assert INITS in finding.message
    assert "init container" in finding.message
    assert f"{INITS}: enabled" in finding.fix


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (
            f"metadata annotations {AUTOSCALER_CLASS}",
            "keda",
            f"metadata.annotations.{AUTOSCALER_CLASS}",
        ),
        (
            f"metadata annotations {AUTOSCALER_CLASS}",
            "hpa",
            f"metadata.annotations.{AUTOSCALER_CLASS}",
        ),
        ("spec predictor autoScaling", {"metrics": []}, "spec.predictor.autoScaling"),
        ("spec predictor scaleMetricType", "Utilization", "spec.predictor.scaleMetricType"),
    ],
)
def test_what_only_standard_mode_reads_has_no_effect_in_knative_mode(
    tmp_path: Path, path: str, value: object, where: str
) -> None:
    document = changed(ISVC, path, value)
    assert later(tmp_path, document) == {("no-effect", where)}
    for name in ("Standard", "RawDeployment"):
        standard = changed(document, f"metadata annotations {DEPLOYMENT_MODE}", name)
        assert ("no-effect", where) not in later(tmp_path, standard)
