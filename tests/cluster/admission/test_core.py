"""Kubernetes' own kinds and admission policies: what the API server asks beyond their types."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.doctor import examine
from tests.config.manifests import service, together

from .documents import check, hits, judged, told

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": "app"}]},
        },
    },
}
POLICY: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingAdmissionPolicy",
    "metadata": {"name": "p"},
    "spec": {
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ]
        },
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "mutations": [
            {
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": "Object{}"},
            }
        ],
    },
}
CORE_SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "s"},
    "spec": {"ports": [{"port": 80}]},
}
BUDGET: dict[str, Any] = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "b"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
}
CONFIG_MAP: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "m"},
    "data": {"a.yaml": "x"},
}

BOX = "spec template spec containers 0"
AT = "spec.template.spec.containers[0]"
RULES = "spec matchConstraints resourceRules 0"
ROWS: list[tuple[dict[str, Any], str, object, str | None, str | None]] = [
    (DEPLOYMENT, "spec replicas", "2", "spec.replicas", "wrong-type"),
    (DEPLOYMENT, "spec selector", None, "spec.selector", "missing-field"),
    (DEPLOYMENT, "spec selector matchLabels app", "x", "spec.template.metadata.labels", "conflict"),
    (
        DEPLOYMENT,
        "spec strategy",
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
        None,
        None,
    ),
    (DEPLOYMENT, "spec strategi", {}, "spec.strategi", "unknown-field"),
    (
        DEPLOYMENT,
        "spec template spec containers",
        [],
        "spec.template.spec.containers",
        "missing-field",
    ),
    (
        DEPLOYMENT,
        "spec template spec restartPolicy",
        "Sometimes",
        "spec.template.spec.restartPolicy",
        "unsupported-value",
    ),
    (DEPLOYMENT, f"{BOX} name", "C", f"{AT}.name", "invalid-value"),
    (DEPLOYMENT, f"{BOX} image", None, f"{AT}.image", "missing-field"),
    (DEPLOYMENT, f"{BOX} imagePullPolicy", "Maybe", f"{AT}.imagePullPolicy", "unsupported-value"),
    (
        DEPLOYMENT,
        f"{BOX} ports",
        [{"containerPort": 0}],
        f"{AT}.ports[0].containerPort",
        "out-of-range",
    ),
    (
        DEPLOYMENT,
        f"{BOX} ports",
        [{"containerPort": 1, "name": "UP"}],
        f"{AT}.ports[0].name",
        "invalid-value",
    ),
    (DEPLOYMENT, f"{BOX} env", [{"name": "A=B"}], f"{AT}.env[0].name", "invalid-value"),
    (
        DEPLOYMENT,
        f"{BOX} env",
        [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
        f"{AT}.env[0].valueFrom",
        "one-of",
    ),
    (
        DEPLOYMENT,
        f"{BOX} resources",
        {"limits": {"gpu": 1}},
        f"{AT}.resources.limits.gpu",
        "invalid-value",
    ),
    (
        DEPLOYMENT,
        f"{BOX} resources",
        {"limits": {"nvidia.com/gpu": "0.5"}},
        f"{AT}.resources.limits.nvidia.com/gpu",
        "invalid-value",
    ),
    (
        DEPLOYMENT,
        f"{BOX} resources",
        {"limits": {"cpu": 1}, "requests": {"cpu": "1500m"}},
        f"{AT}.resources.requests.cpu",
        "conflict",
    ),
    (
        DEPLOYMENT,
        f"{BOX} resources",
        {"requests": {"nvidia.com/gpu": 1}},
        f"{AT}.resources.requests.nvidia.com/gpu",
        "conflict",
    ),
    (
        DEPLOYMENT,
        f"{BOX} resources",
        {"limits": {"deviceclass.resource.kubernetes.io/a": 1, "hugepages-2Mi": "2Mi"}},
        None,
        None,
    ),
    (
        DEPLOYMENT,
        f"{BOX} volumeMounts",
        [{"name": "v", "mountPath": "/v"}],
        f"{AT}.volumeMounts[0].name",
        "invalid-value",
    ),
    (POLICY, "spec mutations", [], "spec.mutations", "missing-field"),
    (
        POLICY,
        "spec mutations 0 patchType",
        "Patch",
        "spec.mutations[0].patchType",
        "unsupported-value",
    ),
    (
        POLICY,
        "spec mutations 0 applyConfiguration",
        None,
        "spec.mutations[0].expression",
        "missing-field",
    ),
    (POLICY, "spec failurePolicy", "Maybe", "spec.failurePolicy", "unsupported-value"),
    (POLICY, "spec reinvocationPolicy", None, "spec.reinvocationPolicy", "missing-field"),
    (
        POLICY,
        f"{RULES} operations",
        ["READ"],
        "spec.matchConstraints.resourceRules[0].operations[0]",
        "unsupported-value",
    ),
    (
        POLICY,
        f"{RULES} resources",
        None,
        "spec.matchConstraints.resourceRules[0].resources",
        "missing-field",
    ),
    (
        POLICY,
        "spec matchConditions",
        [{"name": "a", "expression": ""}],
        "spec.matchConditions[0].expression",
        "missing-field",
    ),
    (CORE_SERVICE, "spec ports", [], "spec.ports", "missing-field"),
    (CORE_SERVICE, "spec ports 0 port", 70000, "spec.ports[0].port", "out-of-range"),
    (
        CORE_SERVICE,
        "spec ports",
        [{"port": 1, "name": "a"}, {"port": 2}],
        "spec.ports[1].name",
        "missing-field",
    ),
    (CORE_SERVICE, "spec clusterIP", "None", None, None),
    (CORE_SERVICE, "metadata name", "1s", "metadata.name", "invalid-name"),
    (BUDGET, "spec maxUnavailable", 1, "spec.minAvailable", "one-of"),
    (BUDGET, "spec minAvailable", "half", "spec.minAvailable", "invalid-value"),
    (BUDGET, "spec minAvailable", "50%", None, None),
    (CONFIG_MAP, "data", {"a/b": "x"}, "data.a/b", "invalid-value"),
    (CONFIG_MAP, "data", {"a": 5}, "data.a", "wrong-type"),
    (CONFIG_MAP, "metadata labels", {"a/b/c": "x"}, "metadata.labels", "invalid-value"),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    ROWS,
    ids=[told(base, path, value, reason) for base, path, value, _, reason in ROWS],
)
def test_kubernetes_own_kinds(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    assert judged(tmp_path, base).verdict == "accepted"
    check(tmp_path, base, path, value, field, reason)


@pytest.mark.parametrize(
    ("name", "data", "field"),
    [
        ("config-defaults", {"revision-timeout-seconds": "900"}, "revision-timeout-seconds"),
        (
            "config-defaults",
            {"revision-timeout-seconds": "900", "max-revision-timeout-seconds": "1200"},
            None,
        ),
        (
            "config-defaults",
            {"revision-response-start-timeout-seconds": "400"},
            "revision-response-start-timeout-seconds",
        ),
        (
            "config-defaults",
            {"max-revision-timeout-seconds": "200"},
            "max-revision-timeout-seconds",
        ),
        (
            "config-defaults",
            {"max-revision-timeout-seconds": "ten"},
            "max-revision-timeout-seconds",
        ),
        ("config-autoscaler", {"stable-window": "5s"}, "stable-window"),
        ("config-autoscaler", {"initial-scale": "0"}, "initial-scale"),
        ("config-autoscaler", {"initial-scale": "0", "allow-zero-initial-scale": "true"}, None),
        ("config-autoscaler", {"target-burst-capacity": "-0.5"}, "target-burst-capacity"),
        ("config-autoscaler", {"max-scale-limit": "5"}, "max-scale-limit"),
        ("config-autoscaler", {"max-scale-up-rate": "1"}, "max-scale-up-rate"),
        ("config-elsewhere", {"stable-window": "5s"}, None),
    ],
    ids=[
        "a default timeout above the largest one is refused",
        "a default timeout up to a raised largest one is accepted",
        "a time to the first byte above the timeout is refused",
        "a largest timeout below the shipped default is refused",
        "a timeout that is no number is refused",
        "a stable window below 6 s is refused",
        "an initial scale of 0 is refused while it is not allowed",
        "an initial scale of 0 is accepted where it is allowed",
        "a burst capacity between -1 and 0 is refused",
        "a limit of the scale without a scale below it is refused",
        "a rate of scaling up of 1 is refused",
        "a config map of another name is not judged",
    ],
)
def test_knatives_own_config_maps(
    tmp_path: Path, name: str, data: dict[str, str], field: str | None
) -> None:
    metadata = {"name": name, "namespace": "knative-serving"}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    fields = {where for _, where in hits(judged(tmp_path, document))}
    assert fields == ({f"data.{field}"} if field else set())


def test_a_binding_needs_its_policy(tmp_path: Path) -> None:
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "b"},
        "spec": {},
    }
    assert hits(judged(tmp_path, binding)) == {("missing-field", "spec.policyName")}


def test_what_is_in_a_secret_is_not_repeated(tmp_path: Path) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"pin": 1234567},
        "data": {"key": "not base64 hunter2!"},
    }
    answer = judged(tmp_path, secret)
    assert {f.field for f in answer.findings} == {"stringData.pin", "data.key"}
    said = " ".join(f"{f.message} {f.fix}" for f in answer.findings)
    assert "1234567" not in said
    assert "hunter2" not in said


def test_a_pod_that_will_be_refused_later_is_said_of_a_service(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        service(
            model="resources: {limits: {nvidia.com/gpu: '0.5'}}\nenv: [{name: 'A=B', value: x}]"
        )
    )
    (one,) = examine([tmp_path / "m.yaml"])
    later = {f.field for f in one.findings if f.reason == "pod-refused"}
    model = "spec.predictor.model"
    assert later == {f"{model}.resources.limits.nvidia.com/gpu", f"{model}.env[0].name"}
    assert one.verdict == "accepted"


@pytest.mark.parametrize(
    ("toleration", "wrong"),
    [
        ({"operator": "Exists"}, None),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "PreferNoSchedule"}, None),
        ({"key": "a", "operator": " "}, "operator"),
        ({"key": "é", "operator": "Exists"}, "key"),
        ({"operator": "Equal"}, "key"),
        ({"key": "a", "effect": "Never"}, "effect"),
    ],
    ids=[
        "every taint is accepted",
        "a taint of one key and effect is accepted",
        "an operator of spaces is refused",
        "a key that is no label name is refused",
        "an equality without a key is refused",
        "an effect that does not exist is refused",
    ],
)
def test_what_a_pod_puts_up_with_is_judged(
    tmp_path: Path, toleration: dict[str, str], wrong: str | None
) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "tolerations": [toleration]},
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(pod))
    (one,) = examine([tmp_path / "m.yaml"])
    refused = {f.field for f in one.findings if f.severity == "error"}
    assert refused == ({f"spec.tolerations[0].{wrong}"} if wrong else set())


def test_config_maps_of_knative_among_the_files_are_the_clusters_settings(tmp_path: Path) -> None:
    features = (
        "apiVersion: v1\nkind: ConfigMap\n"
        "metadata: {name: config-features, namespace: knative-serving}\n"
        "data: {kubernetes.podspec-tolerations: enabled}\n"
    )
    wish = service("tolerations: [{operator: Exists}]")
    (tmp_path / "m.yaml").write_text(together(wish, features))
    first, _ = examine([tmp_path / "m.yaml"])
    assert first.findings == () or {f.severity for f in first.findings} == {"info"}
    (tmp_path / "m.yaml").write_text(wish)
    (alone,) = examine([tmp_path / "m.yaml"])
    assert "reconcile-failed" in {f.reason for f in alone.findings}


def test_what_lies_over_an_installed_part_need_not_be_whole(tmp_path: Path) -> None:
    patch = (
        "apiVersion: apps/v1\nkind: Deployment\n"
        "metadata: {name: activator, namespace: knative-serving}\n"
        "spec: {template: {spec: {terminationGracePeriodSeconds: 900}}}\n"
    )
    kustomize = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n"
    (tmp_path / "m.yaml").write_text(together(patch, kustomize))
    # what is for kustomize alone is no document of a cluster
    assert [one.verdict for one in examine([tmp_path / "m.yaml"])] == ["accepted"]
