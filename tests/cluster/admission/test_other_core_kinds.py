"""Roles and bindings, Ingresses, volumes and their classes, priorities.

Source: kubernetes pkg/apis/{rbac,networking,core,storage,scheduling}/validation/validation.go.
"""

from pathlib import Path
from typing import Any

import pytest

from .documents import check, told

RBAC = "rbac.authorization.k8s.io"


def made(kind: str, api_version: str, **fields: object) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **fields}


RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
ROLE = made("Role", f"{RBAC}/v1", rules=[RULE])
CLUSTER_ROLE = made("ClusterRole", f"{RBAC}/v1", rules=[RULE])
ACCOUNT = {"kind": "ServiceAccount", "name": "a", "namespace": "n"}
BINDING = made(
    "RoleBinding",
    f"{RBAC}/v1",
    roleRef={"apiGroup": RBAC, "kind": "Role", "name": "r"},
    subjects=[ACCOUNT],
)
CLUSTER_BINDING = made(
    "ClusterRoleBinding",
    f"{RBAC}/v1",
    roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": "r"},
    subjects=[ACCOUNT],
)
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
INGRESS = made(
    "Ingress",
    "networking.k8s.io/v1",
    spec={
        "rules": [
            {
                "host": "a.example.com",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]},
            }
        ]
    },
)
VOLUME = made(
    "PersistentVolume",
    "v1",
    spec={
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/data"},
    },
)
CLASS = made("StorageClass", "storage.k8s.io/v1", provisioner="csi.example.com")
PRIORITY = made("PriorityClass", "scheduling.k8s.io/v1", value=1000)

PATH = "spec rules 0 http paths 0"
AT = "spec.rules[0].http.paths[0]"
Row = tuple[dict[str, Any], str, object, str | None, str | None]
ROWS: list[Row] = [
    (ROLE, "rules", [], None, None),
    (ROLE, "rules 0 verbs", [], "rules[0].verbs", "missing-field"),
    (ROLE, "rules 0 resources", None, "rules[0].resources", "missing-field"),
    (ROLE, "rules 0 apiGroups", None, "rules[0].apiGroups", "missing-field"),
    (
        ROLE,
        "rules 0",
        {"nonResourceURLs": ["/a"], "verbs": ["get"]},
        "rules[0].nonResourceURLs",
        "invalid-value",
    ),
    (CLUSTER_ROLE, "rules 0", {"nonResourceURLs": ["/a"], "verbs": ["get"]}, None, None),
    (
        CLUSTER_ROLE,
        "rules 0 nonResourceURLs",
        ["/a"],
        "rules[0].nonResourceURLs",
        "invalid-value",
    ),
    (
        CLUSTER_ROLE,
        "aggregationRule",
        {},
        "aggregationRule.clusterRoleSelectors",
        "missing-field",
    ),
    (BINDING, "roleRef kind", "ClusterRole", None, None),
    (BINDING, "roleRef kind", "User", "roleRef.kind", "unsupported-value"),
    (BINDING, "roleRef apiGroup", "apps", "roleRef.apiGroup", "unsupported-value"),
    (CLUSTER_BINDING, "roleRef kind", "Role", "roleRef.kind", "unsupported-value"),
    (BINDING, "subjects 0 kind", "Robot", "subjects[0].kind", "unsupported-value"),
    (BINDING, "subjects 0 apiGroup", RBAC, "subjects[0].apiGroup", "unsupported-value"),
    (BINDING, "subjects 0 namespace", None, None, None),
    (CLUSTER_BINDING, "subjects 0 namespace", None, "subjects[0].namespace", "missing-field"),
    (CLUSTER_BINDING, "subjects 0", {"kind": "Group", "name": "system:masters"}, None, None),
    (INGRESS, "spec rules 0 host", "*.example.com", None, None),
    (INGRESS, "spec rules 0 host", "10.0.0.1", "spec.rules[0].host", "invalid-value"),
    (INGRESS, "spec rules 0 host", "a_b", "spec.rules[0].host", "invalid-value"),
    (INGRESS, "spec rules", None, "spec.defaultBackend", "one-of"),
    (INGRESS, "spec", {"defaultBackend": BACKEND}, None, None),
    (INGRESS, f"{PATH} pathType", "Regex", f"{AT}.pathType", "unsupported-value"),
    (INGRESS, f"{PATH} path", "a", f"{AT}.path", "invalid-value"),
    (INGRESS, f"{PATH} path", "/a/../b", f"{AT}.path", "invalid-value"),
    (INGRESS, f"{PATH} backend", {}, f"{AT}.backend.service", "one-of"),
    (
        INGRESS,
        f"{PATH} backend service port",
        {"name": "http", "number": 80},
        f"{AT}.backend.service.port.name",
        "one-of",
    ),
    (
        INGRESS,
        f"{PATH} backend service port",
        {},
        f"{AT}.backend.service.port",
        "missing-field",
    ),
    (
        INGRESS,
        f"{PATH} backend service port",
        {"number": 70000},
        f"{AT}.backend.service.port.number",
        "out-of-range",
    ),
    (VOLUME, "spec volumeMode", "Block", None, None),
    (VOLUME, "spec hostPath", None, "spec", "missing-field"),
    (VOLUME, "spec nfs", {"server": "s", "path": "/"}, "spec.hostPath", "one-of"),
    (VOLUME, "spec capacity", None, "spec.capacity.storage", "missing-field"),
    (VOLUME, "spec capacity storage", "-1", "spec.capacity.storage", "invalid-value"),
    (VOLUME, "spec accessModes", None, "spec.accessModes", "missing-field"),
    (VOLUME, "spec accessModes", ["Once"], "spec.accessModes[0]", "unsupported-value"),
    (
        VOLUME,
        "spec persistentVolumeReclaimPolicy",
        "Keep",
        "spec.persistentVolumeReclaimPolicy",
        "unsupported-value",
    ),
    (CLASS, "volumeBindingMode", "WaitForFirstConsumer", None, None),
    (CLASS, "volumeBindingMode", "Later", "volumeBindingMode", "unsupported-value"),
    (CLASS, "reclaimPolicy", "Recycle", "reclaimPolicy", "unsupported-value"),
    (CLASS, "provisioner", "", "provisioner", "missing-field"),
    (CLASS, "provisioner", "a b", "provisioner", "invalid-value"),
    (PRIORITY, "value", 1_000_000_000, None, None),
    (PRIORITY, "value", 1_000_000_001, "value", "invalid-value"),
    (PRIORITY, "metadata name", "system-mine", "metadata.name", "reserved"),
    (PRIORITY, "preemptionPolicy", "Always", "preemptionPolicy", "unsupported-value"),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    ROWS,
    ids=[told(base, path, value, reason) for base, path, value, _, reason in ROWS],
)
def test_another_core_kind(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)
