"""Services, network policies, claims of volumes, autoscalers, Secrets and config maps.

Source: kubernetes pkg/apis/{core,networking,autoscaling}/validation/validation.go.
"""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.doctor import examine
from tests.config.manifests import together

from .documents import TEMPLATE, changed, check, hits, judged, told


def made(kind: str, api_version: str = "v1", **spec: object) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}


SERVICE = made("Service", ports=[{"port": 80}])
NODE_PORT = made("Service", type="NodePort", ports=[{"port": 80}])
NAMED = made("Service", type="ExternalName", externalName="example.com")
POLICY = made("NetworkPolicy", "networking.k8s.io/v1", podSelector={}, ingress=[{}], egress=[{}])
CLAIM = made(
    "PersistentVolumeClaim",
    accessModes=["ReadWriteOnce"],
    resources={"requests": {"storage": "1Gi"}},
)
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
SCALER = made("HorizontalPodAutoscaler", "autoscaling/v2", maxReplicas=3, scaleTargetRef=TARGET)
OLD_SCALER = made("HorizontalPodAutoscaler", "autoscaling/v1", maxReplicas=3, scaleTargetRef=TARGET)
CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}

Row = tuple[dict[str, Any], str, object, str | None, str | None]
ROWS: list[Row] = [
    (SERVICE, "spec ports 0 nodePort", 0, None, None),
    (SERVICE, "spec ports 0 nodePort", 30080, "spec.ports[0].nodePort", "conflict"),
    (NODE_PORT, "spec ports 0 nodePort", 30080, None, None),
    (NODE_PORT, "spec ports 0 nodePort", 0, None, None),
    (NODE_PORT, "spec ports 0 nodePort", 80, "spec.ports[0].nodePort", "out-of-range"),
    (NODE_PORT, "spec clusterIP", "None", "spec.clusterIP", "conflict"),
    (SERVICE, "spec clusterIP", "None", None, None),
    (SERVICE, "spec clusterIP", "10.0.0.300", "spec.clusterIP", "invalid-value"),
    (SERVICE, "spec type", "Cluster", "spec.type", "unsupported-value"),
    (SERVICE, "spec ports", None, "spec.ports", "missing-field"),
    (SERVICE, "spec ports 0 port", 0, "spec.ports[0].port", "out-of-range"),
    (SERVICE, "spec ports 0 targetPort", "http", None, None),
    (SERVICE, "spec ports 0 targetPort", "80", "spec.ports[0].targetPort", "invalid-value"),
    (SERVICE, "spec ports 0 targetPort", 70000, "spec.ports[0].targetPort", "out-of-range"),
    (SERVICE, "spec ports 0 protocol", "ICMP", "spec.ports[0].protocol", "unsupported-value"),
    (SERVICE, "spec ports 0 appProtocol", "a b", "spec.ports[0].appProtocol", "invalid-value"),
    (
        SERVICE,
        "spec ports",
        [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}],
        "spec.ports[1]",
        "duplicate-item",
    ),
    (
        SERVICE,
        "spec ports",
        [{"port": 53, "name": "a"}, {"port": 53, "name": "b", "protocol": "UDP"}],
        None,
        None,
    ),
    (SERVICE, "spec sessionAffinity", "Cookie", "spec.sessionAffinity", "unsupported-value"),
    (
        SERVICE,
        "spec externalTrafficPolicy",
        "Local",
        "spec.externalTrafficPolicy",
        "invalid-value",
    ),
    (NODE_PORT, "spec externalTrafficPolicy", "Local", None, None),
    (NODE_PORT, "spec loadBalancerClass", "a/b", "spec.loadBalancerClass", "not-allowed"),
    (NAMED, "spec externalName", None, "spec.externalName", "missing-field"),
    (NAMED, "spec externalName", "a_b", "spec.externalName", "invalid-value"),
    (NAMED, "spec clusterIP", "10.0.0.1", "spec.clusterIP", "not-allowed"),
    (POLICY, "spec policyTypes", ["Ingress", "Egress"], None, None),
    (POLICY, "spec policyTypes", ["Both"], "spec.policyTypes[0]", "unsupported-value"),
    (POLICY, "spec ingress 0 from", [{"podSelector": {}}], None, None),
    (POLICY, "spec ingress 0 from", [{}], "spec.ingress[0].from[0]", "missing-field"),
    (
        POLICY,
        "spec ingress 0 from",
        [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}],
        "spec.ingress[0].from[0]",
        "one-of",
    ),
    (
        POLICY,
        "spec egress 0 to",
        [{"ipBlock": {"cidr": "10.0.0.0/33"}}],
        "spec.egress[0].to[0].ipBlock.cidr",
        "invalid-value",
    ),
    (
        POLICY,
        "spec egress 0 to",
        [{"ipBlock": {"cidr": "10.0.0.1"}}],
        "spec.egress[0].to[0].ipBlock.cidr",
        "invalid-value",
    ),
    (
        POLICY,
        "spec egress 0 to",
        [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
        None,
        None,
    ),
    (
        POLICY,
        "spec egress 0 to",
        [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}],
        "spec.egress[0].to[0].ipBlock.except[0]",
        "invalid-value",
    ),
    (
        POLICY,
        "spec egress 0 to",
        [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}}],
        "spec.egress[0].to[0].ipBlock.except[0]",
        "invalid-value",
    ),
    (POLICY, "spec ingress 0 ports", [{"port": 80, "endPort": 90}], None, None),
    (
        POLICY,
        "spec ingress 0 ports",
        [{"port": 80, "endPort": 79}],
        "spec.ingress[0].ports[0].endPort",
        "invalid-value",
    ),
    (
        POLICY,
        "spec ingress 0 ports",
        [{"port": "http", "endPort": 90}],
        "spec.ingress[0].ports[0].endPort",
        "invalid-value",
    ),
    (
        POLICY,
        "spec ingress 0 ports",
        [{"endPort": 90}],
        "spec.ingress[0].ports[0].endPort",
        "invalid-value",
    ),
    (CLAIM, "spec volumeMode", "Block", None, None),
    (CLAIM, "spec volumeMode", "Tape", "spec.volumeMode", "unsupported-value"),
    (CLAIM, "spec accessModes", None, "spec.accessModes", "missing-field"),
    (CLAIM, "spec accessModes", ["ReadWrite"], "spec.accessModes[0]", "unsupported-value"),
    (
        CLAIM,
        "spec accessModes",
        ["ReadWriteOnce", "ReadWriteOncePod"],
        "spec.accessModes",
        "conflict",
    ),
    (CLAIM, "spec resources", None, "spec.resources.requests.storage", "missing-field"),
    (
        CLAIM,
        "spec resources requests storage",
        "0",
        "spec.resources.requests.storage",
        "invalid-value",
    ),
    (CLAIM, "spec storageClassName", "", None, None),
    (CLAIM, "spec storageClassName", "A", "spec.storageClassName", "invalid-value"),
    (SCALER, "spec minReplicas", 3, None, None),
    (SCALER, "spec minReplicas", 4, "spec.maxReplicas", "invalid-value"),
    (OLD_SCALER, "spec minReplicas", 4, "spec.maxReplicas", "invalid-value"),
    (SCALER, "spec minReplicas", 0, "spec.minReplicas", "invalid-value"),
    (SCALER, "spec maxReplicas", 0, "spec.maxReplicas", "invalid-value"),
    (SCALER, "spec scaleTargetRef name", "", "spec.scaleTargetRef.name", "missing-field"),
    (SCALER, "spec metrics", [{"type": "Resource", "resource": CPU}], None, None),
    (SCALER, "spec metrics", [{"type": "Memory"}], "spec.metrics[0].type", "unsupported-value"),
    (SCALER, "spec metrics", [{"type": "Resource"}], "spec.metrics[0].resource", "missing-field"),
    (
        SCALER,
        "spec metrics",
        [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}],
        "spec.metrics[0].resource.target.averageUtilization",
        "missing-field",
    ),
    (
        SCALER,
        "spec metrics",
        [
            {
                "type": "Resource",
                "resource": CPU,
                "pods": {"metric": {"name": "a"}, "target": {"type": "Value", "value": "1"}},
            }
        ],
        "spec.metrics[0].pods",
        "one-of",
    ),
    (
        SCALER,
        "spec behavior",
        {"scaleDown": {"stabilizationWindowSeconds": 3601}},
        "spec.behavior.scaleDown.stabilizationWindowSeconds",
        "out-of-range",
    ),
    (
        SCALER,
        "spec behavior",
        {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 60}]}},
        "spec.behavior.scaleUp.policies[0].value",
        "out-of-range",
    ),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    ROWS,
    ids=[told(base, path, value, reason) for base, path, value, _, reason in ROWS],
)
def test_a_core_kind(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)


def data(kind: str, **fields: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, **fields}


TLS = "kubernetes.io/tls"
DOCKER = "kubernetes.io/dockerconfigjson"


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (data("ConfigMap", data={"a": "1"}, binaryData={"b": "YQ=="}), set()),
        (
            data("ConfigMap", data={"a": "1"}, binaryData={"a": "YQ=="}),
            {("duplicate-item", "data[a]")},
        ),
        (data("ConfigMap", data={"..a": "1"}), {("invalid-value", "data...a")}),
        (data("ConfigMap", data={"a": "x" * (1 << 20)}), set()),
        (data("ConfigMap", data={"a": "x" * ((1 << 20) + 1)}), {("too-many", "data")}),
        (data("ConfigMap", binaryData={"a": "Y Q=="}), {("invalid-value", "binaryData.a")}),
        (data("ConfigMap", binaryData={"a": "YQ\n==\n"}), set()),
        (data("Secret", type=TLS, stringData={"tls.crt": "", "tls.key": ""}), set()),
        (
            data("Secret", type=TLS, data={}),
            {("missing-field", "data[tls.crt]"), ("missing-field", "data[tls.key]")},
        ),
        (data("Secret", type="kubernetes.io/basic-auth", stringData={"username": "a"}), set()),
        (
            data("Secret", type="kubernetes.io/basic-auth"),
            {("missing-field", "data[username]"), ("missing-field", "data[password]")},
        ),
        (
            data("Secret", type="kubernetes.io/ssh-auth", stringData={"ssh-privatekey": ""}),
            {("missing-field", "data[ssh-privatekey]")},
        ),
        (data("Secret", type=DOCKER, stringData={".dockerconfigjson": "{}"}), set()),
        (
            data("Secret", type=DOCKER, stringData={".dockerconfigjson": "hunter2"}),
            {("invalid-value", "data[.dockerconfigjson]")},
        ),
        (
            data("Secret", type="kubernetes.io/service-account-token"),
            {("missing-field", "metadata.annotations[kubernetes.io/service-account.name]")},
        ),
        (data("Secret", type="example.com/own", data={"a": "YQ=="}), set()),
    ],
    ids=[
        "two maps with keys of their own are accepted",
        "a key in both maps is refused",
        "a key that begins with two dots is refused",
        "a map of one mebibyte is accepted",
        "a map of more than one mebibyte is refused",
        "base64 with a space in it is refused",
        "base64 with line ends in it is accepted",
        "a certificate and a key may be empty",
        "a Secret of TLS without its keys is refused",
        "a login needs one of its two",
        "a login with neither is refused",
        "an empty SSH key is refused",
        "a registry's login in JSON is accepted",
        "a registry's login that is not JSON is refused",
        "a token names its account",
        "a type of one's own asks for nothing",
    ],
)
def test_config_maps_and_secrets(
    tmp_path: Path, document: dict[str, Any], found: set[tuple[str, str]]
) -> None:
    answer = judged(tmp_path, document)
    assert hits(answer) == found
    assert "hunter2" not in " ".join(f"{f.message} {f.fix}" for f in answer.findings)


def test_a_secret_in_plain_text_is_told_where_to_write_it(tmp_path: Path) -> None:
    answer = judged(tmp_path, data("Secret", data={"HF_TOKEN": "hf_notbase64!"}))
    (finding,) = answer.findings
    assert finding.message == "illegal base64 data (value not shown)"
    assert "stringData" in finding.fix


@pytest.mark.parametrize("field", ["name", "generateName", "namespace", "finalizers"])
def test_a_template_of_claims_hands_on_labels_and_annotations_only(
    tmp_path: Path, field: str
) -> None:
    value = ["a/b"] if field == "finalizers" else "a"
    check(
        tmp_path,
        TEMPLATE,
        "spec metadata",
        {field: value},
        f"spec.metadata.{field}",
        "not-allowed",
    )
    check(tmp_path, TEMPLATE, "spec metadata", {"labels": {"a": "b"}}, None, None)


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
@pytest.mark.parametrize(
    "kind", ["ResourceClaim", "ResourceClaimTemplate", "ResourceSlice", "DeviceClass"]
)
def test_a_version_of_dra_that_is_off_is_not_served(
    tmp_path: Path, version: str, kind: str
) -> None:
    from relume.cluster.admission import Cluster

    document = {
        "apiVersion": f"resource.k8s.io/{version}",
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": {},
    }
    answer = judged(tmp_path, document)
    assert hits(answer) == {("no-such-kind", "apiVersion")}
    assert "off by default" in answer.findings[0].message
    on = Cluster({f"resource.k8s.io/{version}": "enabled"})
    assert ("no-such-kind", "apiVersion") not in hits(judged(tmp_path, document, on))


def test_an_unknown_version_of_dra_is_not_told_to_use_one_that_is_off(tmp_path: Path) -> None:
    document = {**TEMPLATE, "apiVersion": "resource.k8s.io/v1alpha2"}
    (finding,) = judged(tmp_path, document).findings
    assert finding.fix == "Write resource.k8s.io/v1."


@pytest.mark.parametrize(
    ("toleration", "field", "reason"),
    [
        ({"operator": "Equal"}, None, None),
        ({"effect": "NoSchedule"}, None, None),
        ({"operator": "Exists"}, None, None),
        ({"key": "é"}, "key", "invalid-value"),
        ({"operator": "Exists", "value": "x"}, "value", "invalid-value"),
        ({"effect": "PreferNoSchedule"}, "effect", "unsupported-value"),
    ],
    ids=[
        "an equality without a key is accepted",
        "an effect alone is accepted",
        "everything is accepted",
        "a key that is no label name is refused",
        "a value beside Exists is refused",
        "an effect that only nodes have is refused",
    ],
)
def test_what_a_request_of_devices_puts_up_with(
    tmp_path: Path, toleration: dict[str, str], field: str | None, reason: str | None
) -> None:
    path = "spec spec devices requests 0 exactly tolerations"
    where = "spec.spec.devices.requests[0].exactly.tolerations[0]"
    check(tmp_path, TEMPLATE, path, [toleration], f"{where}.{field}" if field else None, reason)


@pytest.mark.parametrize(
    ("label", "namespace", "verdict"),
    [("true", "ops", "accepted"), ("false", "ops", "refused"), ("true", "others", "refused")],
)
def test_admin_access_is_open_in_a_namespace_whose_label_says_so(
    tmp_path: Path, label: str, namespace: str, verdict: str
) -> None:
    given = (
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ops\n"
        f'  labels: {{resource.kubernetes.io/admin-access: "{label}"}}\n'
    )
    claim = (
        "apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\n"
        f"metadata: {{name: c, namespace: {namespace}}}\n"
        "spec: {devices: {requests: [{name: g, exactly: "
        "{deviceClassName: d, adminAccess: true, allocationMode: All}}]}}\n"
    )
    (tmp_path / "m.yaml").write_text(together(claim, given))
    assert examine([tmp_path / "m.yaml"])[0].verdict == verdict


def test_a_toleration_of_nodes_still_needs_its_key(tmp_path: Path) -> None:
    pod = made("Pod", containers=[{"name": "c", "image": "i"}], tolerations=[{"value": "x"}])
    assert hits(judged(tmp_path, pod)) == {("missing-field", "spec.tolerations[0].key")}
    pod = changed(pod, "spec tolerations 0", {"operator": "Exists"})
    assert hits(judged(tmp_path, pod)) == set()
