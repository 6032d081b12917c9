"""Which kinds a cluster serves, and how much is said to be known of each."""

from pathlib import Path

import pytest
import yaml

from relume.cluster.admission import Cluster
from relume.cluster.doctor import examine
from relume.cluster.findings import verdict

from .documents import TEMPLATE, changed, check, hits, judged

OLDER = ("resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2")


def bare(api_version: str, kind: str) -> dict[str, object]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}


@pytest.mark.parametrize("version", OLDER)
def test_a_version_that_is_off_by_default_is_not_served(tmp_path: Path, version: str) -> None:
    answer = judged(tmp_path, changed(TEMPLATE, "apiVersion", version))
    assert answer.verdict == "refused"
    (finding,) = answer.findings
    assert (finding.reason, finding.field) == ("no-such-kind", "apiVersion")
    assert "the version is off by default" in finding.message
    assert f"--runtime-config={version}=true" in finding.fix
    assert finding.fix.startswith("Write resource.k8s.io/v1")


@pytest.mark.parametrize("version", OLDER)
def test_a_cluster_that_serves_it_is_believed(tmp_path: Path, version: str) -> None:
    asked, told = Cluster(serves=frozenset({version, "apps/v1"})), Cluster({version: "enabled"})
    for cluster in (asked, told):
        answer = judged(tmp_path, changed(TEMPLATE, "apiVersion", version), cluster)
        assert "no-such-kind" not in {finding.reason for finding in answer.findings}


def test_a_cluster_that_was_asked_decides_what_is_served(tmp_path: Path) -> None:
    served = Cluster(serves=frozenset({"apps/v1", "eventing.knative.dev/v2", "policy/v1beta1"}))
    for api_version, kind, expected in (
        ("v1", "Namespace", "accepted"),
        ("eventing.knative.dev/v1", "Broker", "refused"),
        ("eventing.knative.dev/v2", "Broker", "unchecked"),
        ("policy/v1beta1", "PodDisruptionBudget", "unchecked"),
        ("keda.sh/v1alpha1", "ScaledObject", "refused"),
    ):
        answer = judged(tmp_path, bare(api_version, kind), served)
        assert answer.verdict == expected, kind
    (finding,) = judged(tmp_path, bare("eventing.knative.dev/v1", "Broker"), served).findings
    assert finding.fix == "Write eventing.knative.dev/v2."


def test_a_kind_that_a_crd_beside_defines_is_unchecked(tmp_path: Path) -> None:
    crd = {
        **bare("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        "spec": {
            "group": "serving.kserve.io",
            "names": {"kind": "Kettle", "plural": "kettles"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    }
    crd["metadata"] = {"name": "kettles.serving.kserve.io"}
    file = tmp_path / "m.yaml"
    file.write_text(yaml.safe_dump_all([crd, bare("serving.kserve.io/v1", "Kettle")]))
    assert [one.verdict for one in examine([file])][1:] == ["unchecked"]
    file.write_text(yaml.safe_dump(bare("serving.kserve.io/v1", "Kettle")))
    assert [one.verdict for one in examine([file])] == ["refused"]


@pytest.mark.parametrize(
    ("api_version", "kind", "expected"),
    [
        ("v1", "Namespace", "accepted"),
        ("v1", "ServiceAccount", "accepted"),
        ("coordination.k8s.io/v1", "Lease", "fields-only"),
        ("autoscaling.internal.knative.dev/v1alpha1", "PodAutoscaler", "fields-only"),
        ("sources.knative.dev/v1alpha1", "RabbitmqSource", "unchecked"),
        ("sinks.knative.dev/v1alpha1", "RedisStreamSink", "unchecked"),
        ("bindings.knative.dev/v1", "KafkaBinding", "unchecked"),
        ("keda.sh/v1alpha1", "ScaledObject", "unchecked"),
        ("internal.kafka.eventing.knative.dev/v1alpha1", "ConsumerGroup", "unchecked"),
        ("serving.kserve.io/v1alpha1", "Predictor", "unchecked"),
        ("sources.knative.dev/v1", "PingSourc", "refused"),
        ("sources.knative.dev/v1beta1", "PingSource", "refused"),
        ("serving.kserve.io/v1alpha1", "InferenceModel", "refused"),
        ("serving.kserve.io/v1", "InferenceService", "refused"),
        ("flows.knative.dev/v1", "Choice", "refused"),
    ],
)
def test_what_was_not_judged_is_never_accepted(
    tmp_path: Path, api_version: str, kind: str, expected: str
) -> None:
    assert judged(tmp_path, bare(api_version, kind)).verdict == expected


def test_what_is_wrong_counts_for_more_than_how_little_was_judged(tmp_path: Path) -> None:
    lease = bare("coordination.k8s.io/v1", "Lease")
    assert judged(tmp_path, lease | {"spec": {"holder": "a"}}).verdict == "pruned"
    assert judged(tmp_path, lease | {"spec": {"leaseDurationSeconds": "a"}}).verdict == "refused"
    unknown = bare("keda.sh/v1alpha1", "ScaledObject") | {"metadata": {"name": "A"}}
    assert judged(tmp_path, unknown).verdict == "refused"
    assert verdict(()) == "accepted"


def test_a_missing_field_is_refused_where_its_zero_value_is(tmp_path: Path) -> None:
    service = bare("serving.kserve.io/v1alpha2", "LLMInferenceService")
    answer = judged(tmp_path, service | {"spec": {"model": {}}})
    assert (answer.verdict, hits(answer)) == ("accepted", set())
    assert [(f.reason, f.field) for f in answer.findings] == [("left-empty", "spec.model.uri")]
    scaling = {"model": {"uri": "hf://a/b"}, "scaling": {"wva": {"hpa": {}}}}
    answer = judged(tmp_path, service | {"spec": scaling})
    assert hits(answer) == {("missing-field", "spec.scaling.maxReplicas")}


ROLE = {**bare("rbac.authorization.k8s.io/v1", "ClusterRole"), "rules": [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
]}  # fmt: skip
BINDING = {
    **bare("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
    "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "n"}],
}


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    [
        (ROLE, "rules 0 verbs", ["list"], None, None),
        (ROLE, "rules 0 verbs", [], "rules[0].verbs", "missing-field"),
        (ROLE, "rules 0 resources", None, "rules[0].resources", "missing-field"),
        (ROLE, "rules 0", {"nonResourceURLs": ["/healthz"], "verbs": ["get"]}, None, None),
        (ROLE, "rules 0 nonResourceURLs", ["/a"], "rules[0].nonResourceURLs", "invalid-value"),
        (BINDING, "subjects 0 name", "b", None, None),
        (BINDING, "subjects 0 namespace", None, "subjects[0].namespace", "missing-field"),
        (BINDING, "subjects 0 kind", "Robot", "subjects[0].kind", "unsupported-value"),
        (BINDING, "roleRef kind", "Role", "roleRef.kind", "unsupported-value"),
    ],
)
def test_roles_and_their_bindings(
    tmp_path: Path,
    base: dict[str, object],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)
