"""Knative Serving's documented validation, beyond the recorded cases.

Each row: a change to a Service that is accepted, the field that is named, the reason; no field
means that it stays accepted. The sources are named in the modules of `relume.cluster.admission`.
"""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.admission import Cluster

from .documents import AUTO, BOX, KSVC, NOTES, POD, A, C, P, changed, check, hits, judged, told

ROWS_SERVING = [
    (f"{P} affinity", {}, f"{POD}.affinity", "feature-off"),
    (
        f"{P} topologySpreadConstraints",
        [{"maxSkew": 1}],
        f"{POD}.topologySpreadConstraints",
        "feature-off",
    ),
    (f"{P} hostAliases", [{"ip": "1.2.3.4"}], f"{POD}.hostAliases", "feature-off"),
    (f"{P} hostNetwork", True, f"{POD}.hostNetwork", "feature-off"),
    (f"{P} hostPID", True, f"{POD}.hostPID", "feature-off"),
    (f"{P} hostIPC", False, None, None),
    (f"{P} nodeSelector", {}, None, None),
    (f"{P} tolerations", [], None, None),
    (f"{P} shareProcessNamespace", False, f"{POD}.shareProcessNamespace", "feature-off"),
    (f"{P} dnsPolicy", "Default", f"{POD}.dnsPolicy", "feature-off"),
    (f"{P} dnsConfig", {"nameservers": ["1.1.1.1"]}, f"{POD}.dnsConfig", "feature-off"),
    (f"{P} securityContext", {"runAsUser": 1}, f"{POD}.securityContext", "feature-off"),
    (
        f"{P} automountServiceAccountToken",
        True,
        f"{POD}.automountServiceAccountToken",
        "not-allowed",
    ),
    (f"{P} automountServiceAccountToken", False, None, None),
    (f"{P} serviceAccountName", "A_B", f"{POD}.serviceAccountName", "invalid-value"),
    (f"{P} serviceAccountName", "robot", None, None),
    (f"{P} imagePullSecrets", [{"name": "s"}], None, None),
    (f"{P} enableServiceLinks", True, None, None),
    (f"{P} restartPolicy", "Always", f"{POD}.restartPolicy", "unknown-field"),
    (f"{P} timeoutSeconds", 601, f"{POD}.timeoutSeconds", "out-of-range"),
    (f"{P} timeoutSeconds", -1, f"{POD}.timeoutSeconds", "out-of-range"),
    (f"{P} timeoutSeconds", 0, None, None),
    (f"{P} containerConcurrency", -1, f"{POD}.containerConcurrency", "out-of-range"),
    (f"{P} containerConcurrency", 0, None, None),
    (f"{P} containers", None, f"{POD}.containers", "missing-field"),
    (f"{P} containers", [], f"{POD}.containers", "missing-field"),
    (f"{P} containers", [{}], BOX, "missing-field"),
    (f"{C} image", "", f"{BOX}.image", "missing-field"),
    (f"{C} image", "UPPER/case", f"{BOX}.image", "invalid-value"),
    (f"{C} image", "r.io:5000/a/b:1.2@sha256:" + "a" * 64, None, None),
    (f"{C} image", "a@sha256:short", f"{BOX}.image", "invalid-value"),
    (f"{C} name", "queue-proxy", f"{BOX}.name", "reserved"),
    (f"{C} lifecycle", {}, f"{BOX}.lifecycle", "unknown-field"),
    (f"{C} stdin", True, f"{BOX}.stdin", "unknown-field"),
    (f"{C} terminationMessagePolicy", "Never", f"{BOX}.terminationMessagePolicy", "invalid-value"),
    (f"{C} ports", [{"containerPort": 8012}], f"{BOX}.ports.containerPort", "reserved"),
    (f"{C} ports", [{"containerPort": 9091}], f"{BOX}.ports.containerPort", "reserved"),
    (f"{C} ports", [{"containerPort": 70000}], f"{BOX}.ports.containerPort", "out-of-range"),
    (
        f"{C} ports",
        [{"containerPort": 80, "protocol": "UDP"}],
        f"{BOX}.ports.protocol",
        "invalid-value",
    ),
    (
        f"{C} ports",
        [{"containerPort": 80, "name": "web"}],
        f"{BOX}.ports",
        "unsupported-value",
    ),
    (f"{C} ports", [{"containerPort": 80, "name": "h2c"}], None, None),
    (f"{C} image", "a", f"{BOX}.image", "invalid-value"),
    (f"{C} ports", [{"containerPort": 0}], None, None),
    (
        f"{C} resources",
        {"requests": {"nvidia.com/gpu": "1"}},
        f"{BOX}.resources.requests.nvidia.com/gpu",
        "dry-run-refused",
    ),
    (
        f"{C} resources",
        {"limits": {"nvidia.com/gpu": "500m"}},
        f"{BOX}.resources.limits.nvidia.com/gpu",
        "dry-run-refused",
    ),
    (
        f"{C} resources",
        {"limits": {"storage": "1Gi"}},
        f"{BOX}.resources.limits.storage",
        "dry-run-refused",
    ),
    (f"{C} imagePullPolicy", "Often", f"{BOX}.imagePullPolicy", "dry-run-refused"),
    (f"{C} name", "A", f"{BOX}.name", "dry-run-refused"),
    (
        f"{C} securityContext",
        {"seccompProfile": {"type": "Localhost"}},
        f"{BOX}.securityContext.seccompProfile.localhostProfile",
        "dry-run-refused",
    ),
    (
        f"{C} livenessProbe",
        {"httpGet": {"path": "/"}, "successThreshold": 2},
        f"{BOX}.livenessProbe.successThreshold",
        "dry-run-refused",
    ),
    (f"{C} livenessProbe", {"httpGet": {"path": "/"}, "successThreshold": 1}, None, None),
    # Knative writes the port of the other two itself.
    *(
        (
            f"{C} startupProbe",
            {"httpGet": {"path": "/", **port}},
            f"{BOX}.startupProbe.httpGet.port",
            "dry-run-refused",
        )
        for port in ({}, {"port": 0}, {"port": -1}, {"port": 65536})
    ),
    (f"{C} startupProbe", {"httpGet": {"path": "/", "port": 8080}}, None, None),
    (f"{C} image", "localhost:5000/a", f"{BOX}.image", "invalid-value"),
    (f"{C} image", "app:", None, None),
    (f"{C} image", f"app@sha256:{'0' * 64}", None, None),
    (f"{C} image", f"app@sha512:{'0' * 128}", f"{BOX}.image", "invalid-value"),
    (f"{C} image", "ko://app/box", None, None),
    (f"{A} {AUTO}/class", "", None, None),
    (
        f"{C} ports",
        [{"containerPort": 80, "hostPort": 80}],
        f"{BOX}.ports[0].hostPort",
        "unknown-field",
    ),
    (f"{C} env", [{"name": "PORT", "value": "1"}], f"{BOX}.env[0].name", "reserved"),
    (f"{C} env", [{"name": "K_REVISION"}], f"{BOX}.env[0].name", "reserved"),
    (f"{C} env", [{"name": "K_SINK"}], None, None),
    (f"{C} env", [{"name": ""}], f"{BOX}.env[0].name", "missing-field"),
    (
        f"{C} env",
        [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        f"{BOX}.env[0].valueFrom.fieldRef",
        "feature-off",
    ),
    (
        f"{C} env",
        [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        None,
        None,
    ),
    (f"{C} envFrom", [{}], f"{BOX}.envFrom.configMapRef", "one-of"),
    (f"{C} envFrom", [{"secretRef": {"name": "a"}}], None, None),
    (
        f"{C} securityContext",
        {"privileged": True},
        f"{BOX}.securityContext.privileged",
        "not-allowed",
    ),
    (f"{C} securityContext", {"runAsUser": -1}, f"{BOX}.securityContext.runAsUser", "out-of-range"),
    (
        f"{C} securityContext",
        {"capabilities": {"add": ["SYS_ADMIN"]}},
        f"{BOX}.securityContext.capabilities.add",
        "feature-off",
    ),
    (
        f"{C} readinessProbe",
        {"failureThreshold": 3},
        f"{BOX}.readinessProbe.failureThreshold",
        "conflict",
    ),
    (
        f"{C} readinessProbe",
        {"timeoutSeconds": 3},
        f"{BOX}.readinessProbe.timeoutSeconds",
        "conflict",
    ),
    (f"{C} readinessProbe", {"periodSeconds": 1, "failureThreshold": 3}, None, None),
    (
        f"{C} readinessProbe",
        {"periodSeconds": -1},
        f"{BOX}.readinessProbe.periodSeconds",
        "out-of-range",
    ),
    (
        f"{C} readinessProbe",
        {"successThreshold": -1},
        f"{BOX}.readinessProbe.successThreshold",
        "out-of-range",
    ),
    (f"{C} livenessProbe", {"periodSeconds": 1}, f"{BOX}.livenessProbe.httpGet", "one-of"),
    (
        f"{C} livenessProbe",
        {"httpGet": {"port": "web"}},
        f"{BOX}.livenessProbe.httpGet.port",
        "invalid-value",
    ),
    (f"{C} livenessProbe", {"httpGet": {"port": "http"}}, None, None),
    (
        f"{C} livenessProbe",
        {"grpc": {"port": 1}, "exec": {"command": ["x"]}},
        f"{BOX}.livenessProbe.exec",
        "one-of",
    ),
    (
        f"{C} volumeMounts",
        [{"name": "v", "mountPath": "/v"}],
        f"{BOX}.volumeMounts[0].name",
        "invalid-value",
    ),
    (f"{P} volumes", [{"name": "v", "emptyDir": {}}], f"{POD}.volumes[0].name", "invalid-value"),
    (f"{A} {AUTO}/class", "x.autoscaling.knative.dev", f"{NOTES}.{AUTO}/class", "invalid-value"),
    (f"{A} {AUTO}/class", "mine.example.com", None, None),
    (f"{A} {AUTO}/min-scale", "-1", f"{NOTES}.{AUTO}/min-scale", "out-of-range"),
    (f"{A} {AUTO}/min-scale", "1.5", f"{NOTES}.{AUTO}/min-scale", "invalid-value"),
    (f"{A} {AUTO}/max-scale", "3000000000", f"{NOTES}.{AUTO}/max-scale", "out-of-range"),
    (f"{A} {AUTO}/activation-scale", "1", f"{NOTES}.{AUTO}/activation-scale", "out-of-range"),
    (f"{A} {AUTO}/activation-scale", "x", f"{NOTES}.{AUTO}/activation-scale", "invalid-value"),
    (f"{A} {AUTO}/initial-scale", "-1", f"{NOTES}.{AUTO}/initial-scale", "invalid-value"),
    (f"{A} {AUTO}/initial-scale", "3", None, None),
    (
        f"{A} {AUTO}/panic-window-percentage",
        "0",
        f"{NOTES}.{AUTO}/panic-window-percentage",
        "out-of-range",
    ),
    (
        f"{A} {AUTO}/panic-threshold-percentage",
        "109",
        f"{NOTES}.{AUTO}/panic-threshold-percentage",
        "out-of-range",
    ),
    (
        f"{A} {AUTO}/target-utilization-percentage",
        "101",
        f"{NOTES}.{AUTO}/target-utilization-percentage",
        "out-of-range",
    ),
    (f"{A} {AUTO}/target", "many", f"{NOTES}.{AUTO}/target", "invalid-value"),
    (f"{A} {AUTO}/target", "0.01", None, None),
    (f"{A} {AUTO}/target-burst-capacity", "-1", None, None),
    (f"{A} {AUTO}/window", "5s", f"{NOTES}.{AUTO}/window", "out-of-range"),
    (f"{A} {AUTO}/window", "6500ms", f"{NOTES}.{AUTO}/window", "invalid-value"),
    (f"{A} {AUTO}/window", "1h", None, None),
    (f"{A} {AUTO}/scale-down-delay", "61m", f"{NOTES}.{AUTO}/scale-down-delay", "out-of-range"),
    (f"{A} {AUTO}/scaleDownDelay", "61m", f"{NOTES}.{AUTO}/scaleDownDelay", "out-of-range"),
    (f"{A} {AUTO}/metric", "cpu", f"{NOTES}.{AUTO}/metric", "invalid-value"),
    (f"{A} {AUTO}/metric", "rps", None, None),
    (f"{A} {AUTO}/scaleToZeroGracePeriod", "1s", None, None),
    (
        f"{A} serving.knative.dev/progress-deadline",
        "ten",
        f"{NOTES}.serving.knative.dev/progress-deadline",
        "invalid-value",
    ),
    (
        f"{A} serving.knative.dev/progress-deadline",
        "-5s",
        f"{NOTES}.serving.knative.dev/progress-deadline",
        "out-of-range",
    ),
    (
        f"{A} networking.knative.dev/nothing",
        "x",
        NOTES,
        "not-allowed",
    ),
    (
        f"{A} queue.sidecar.serving.knative.dev/cpu-resource-limit",
        "lots",
        f"{NOTES}.[queue.sidecar.serving.knative.dev/cpu-resource-limit]",
        "invalid-value",
    ),
    (
        f"{A} queue.sidecar.serving.knative.dev/resource-percentage",
        "0",
        f"{NOTES}.[queue.sidecar.serving.knative.dev/resource-percentage]",
        "out-of-range",
    ),
    (
        f"metadata annotations {AUTO}/window",
        "10s",
        "metadata.annotations",
        "not-allowed",
    ),
    (
        "metadata annotations serving.knative.dev/rollout-duration",
        "1.5s",
        "metadata.annotations.serving.knative.dev/rollout-duration",
        "invalid-value",
    ),
    ("metadata name", "1s", "metadata.name", "invalid-name"),
    ("metadata name", "a.b", "metadata.name", "invalid-name"),
    ("metadata name", "a" * 64, "metadata.name", "invalid-name"),
    ("metadata name", None, "metadata.name", "missing-field"),
    ("metadata namespace", "A", "metadata.namespace", "invalid-name"),
    ("metadata labels", {"a b": "c"}, "metadata.labels", "invalid-value"),
    ("metadata labels", {"a": "c d"}, "metadata.labels", "invalid-value"),
    ("spec template metadata name", "other-1", "spec.template.metadata.name", "invalid-value"),
    ("spec template metadata name", "s-1", None, None),
    ("spec template metadata name", "s-A", "spec.template.metadata.name", "invalid-name"),
    ("spec traffic", [{"percent": 50}], "spec.traffic", "invalid-value"),
    ("spec traffic", [{"percent": 100, "tag": "A"}], "spec.traffic.tag[0]", "invalid-value"),
    (
        "spec traffic",
        [{"percent": 100, "revisionName": "s-1", "latestRevision": True}],
        "spec.traffic[0].latestRevision",
        "conflict",
    ),
    (
        "spec traffic",
        [{"percent": 100, "configurationName": "s"}],
        "spec.traffic[0].configurationName",
        "not-allowed",
    ),
    ("spec template spec", None, "spec.template.spec.containers", "missing-field"),
    ("spec", None, "spec.template.spec.containers", "missing-field"),
]


@pytest.mark.parametrize(
    ("path", "value", "field", "reason"),
    ROWS_SERVING,
    ids=[told(KSVC, path, value, reason) for path, value, _, reason in ROWS_SERVING],
)
def test_knative_serving(
    tmp_path: Path, path: str, value: object, field: str | None, reason: str | None
) -> None:
    """Checklist A16."""
    check(tmp_path, KSVC, path, value, field, reason)


VOLUMES: list[tuple[dict[str, Any], dict[str, Any], str | None, str | None]] = [
    ({"emptyDir": {"medium": "Disk"}}, {}, "volumes[0].emptyDir.medium", "invalid-value"),
    ({"emptyDir": {"sizeLimit": "-1"}}, {}, "volumes[0].emptyDir.sizeLimit", "invalid-value"),
    ({"secret": {"secretName": "s"}}, {}, None, None),
    (
        {"configMap": {"name": "c", "items": [{"key": "", "path": "p"}]}},
        {},
        "volumes[0].items[0].key",
        "missing-field",
    ),
    ({"projected": {"sources": [{}]}}, {}, "volumes[0].projected[0].secret", "one-of"),
    ({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}, {}, None, None),
    ({}, {}, "volumes[0].secret", "one-of"),
    ({"secret": {}, "emptyDir": {}}, {}, "volumes[0].secret", "one-of"),
    ({"nfs": {"server": "s", "path": "/"}}, {}, "volumes[0].secret", "one-of"),
    ({"csi": {"driver": "d"}}, {}, "volumes[0].csi", "feature-off"),
    ({"ephemeral": {}}, {}, "volumes[0].ephemeral", "feature-off"),
    (
        {"persistentVolumeClaim": {"claimName": "c"}},
        {},
        "volumes[0].persistentVolumeClaim",
        "feature-off",
    ),
    (
        {"emptyDir": {}},
        {"mountPath": "/dev"},
        "containers[0].volumeMounts[0].mountPath",
        "reserved",
    ),
    (
        {"emptyDir": {}},
        {"mountPath": "/a/.."},
        "containers[0].volumeMounts[0].mountPath",
        "reserved",
    ),
    (
        {"emptyDir": {}},
        {"mountPath": "here"},
        "containers[0].volumeMounts[0].mountPath",
        "invalid-value",
    ),
    (
        {"emptyDir": {}},
        {"mountPath": ""},
        "containers[0].volumeMounts[0].mountPath",
        "missing-field",
    ),
    ({"emptyDir": {}}, {"subPath": "x"}, None, None),
]


@pytest.mark.parametrize(
    ("volume", "mount", "field", "reason"),
    VOLUMES,
    ids=[
        f"a volume {volume} mounted with {mount} is "
        f"{f'refused as {reason}' if reason else 'accepted'}"
        for volume, mount, _, reason in VOLUMES
    ],
)
def test_volumes_and_mounts(
    tmp_path: Path,
    volume: dict[str, Any],
    mount: dict[str, Any],
    field: str | None,
    reason: str | None,
) -> None:
    document = changed(KSVC, f"{P} volumes", [{"name": "v", **volume}])
    mounts = [{"name": "v", "mountPath": "/v", **mount}]
    full = f"{POD}.{field}" if field else None
    check(tmp_path, document, f"{C} volumeMounts", mounts, full, reason)


def test_sidecars_have_no_ports_and_no_probes(tmp_path: Path) -> None:
    two = [{"image": "app"}, {"image": "box"}]
    check(tmp_path, KSVC, f"{P} containers", two, f"{POD}.containers[*].ports", "missing-field")
    serving = {"image": "app", "ports": [{"containerPort": 80}]}
    probed = [serving, {"image": "box", "readinessProbe": {"httpGet": {"port": 1}}}]
    path = f"{POD}.containers[1].readinessProbe"
    check(tmp_path, KSVC, f"{P} containers", probed, path, "feature-off")
    check(
        tmp_path,
        KSVC,
        f"{P} containers",
        [serving, serving],
        f"{POD}.containers[*].ports",
        "not-allowed",
    )
    port = [serving, {"image": "box", "env": [{"name": "PORT"}]}]
    check(tmp_path, KSVC, f"{P} containers", port, None, None)
    names = [{**serving, "name": "x"}, {"image": "box", "name": "x"}]
    check(tmp_path, KSVC, f"{P} containers", names, f"{POD}.containers[1].name", "duplicate-item")


@pytest.mark.parametrize(
    ("flag", "path", "value"),
    [
        ("affinity", f"{P} affinity", {}),
        ("nodeselector", f"{P} nodeSelector", {"a": "b"}),
        ("tolerations", f"{P} tolerations", [{"operator": "Exists"}]),
        ("runtimeclassname", f"{P} runtimeClassName", "nvidia"),
        ("schedulername", f"{P} schedulerName", "x"),
        ("priorityclassname", f"{P} priorityClassName", "x"),
        ("hostipc", f"{P} hostIPC", True),
        ("hostpid", f"{P} hostPID", True),
        ("hostnetwork", f"{P} hostNetwork", True),
        ("dnspolicy", f"{P} dnsPolicy", "Default"),
        ("dnsconfig", f"{P} dnsConfig", {"searches": ["a"]}),
        ("hostaliases", f"{P} hostAliases", [{"ip": "1.2.3.4"}]),
        ("shareprocessnamespace", f"{P} shareProcessNamespace", True),
        ("topologyspreadconstraints", f"{P} topologySpreadConstraints", [{"maxSkew": 1}]),
        ("securitycontext", f"{P} securityContext", {"fsGroup": 5}),
        ("init-containers", f"{P} initContainers", [{"name": "i", "image": "app"}]),
        ("fieldref", f"{C} env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
    ],
)
def test_a_flag_opens_its_field(tmp_path: Path, flag: str, path: str, value: object) -> None:
    """Checklist A16."""
    document = changed(KSVC, path, value)
    assert judged(tmp_path, document).verdict == "refused"
    key = f"kubernetes.podspec-{flag}"
    assert judged(tmp_path, document, Cluster({key: "Enabled"})).verdict == "accepted"
    # "Allowed" passes the mask; what asks for "Enabled" by itself still refuses.
    allowed = judged(tmp_path, document, Cluster({key: "Allowed"})).verdict
    assert allowed == ("refused" if flag == "init-containers" else "accepted")


@pytest.mark.parametrize(
    ("flag", "source"),
    [
        ("volumes-hostpath", {"hostPath": {"path": "/m"}}),
        ("volumes-csi", {"csi": {"driver": "d"}}),
        ("volumes-image", {"image": {"reference": "r/x:1"}}),
        (
            "persistent-volume-claim",
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        ),
    ],
)
def test_a_flag_opens_its_volume(tmp_path: Path, flag: str, source: dict[str, Any]) -> None:
    document = changed(KSVC, f"{P} volumes", [{"name": "v", **source}])
    mount = {"name": "v", "mountPath": "/v", "readOnly": True}
    document = changed(document, f"{C} volumeMounts", [mount])
    assert judged(tmp_path, document).verdict == "refused"
    on = Cluster({f"kubernetes.podspec-{flag}": "enabled"})
    assert judged(tmp_path, document, on).verdict == "accepted"


def test_a_claim_to_write_needs_a_second_flag(tmp_path: Path) -> None:
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
    document = changed(KSVC, f"{P} volumes", [claim])
    document = changed(document, f"{C} volumeMounts", [{"name": "v", "mountPath": "/v"}])
    one = {"kubernetes.podspec-persistent-volume-claim": "enabled"}
    assert judged(tmp_path, document, Cluster(one)).verdict == "refused"
    both = one | {"kubernetes.podspec-persistent-volume-write": "enabled"}
    assert judged(tmp_path, document, Cluster(both)).verdict == "accepted"


def test_an_init_container_has_no_probes_and_no_claims(tmp_path: Path) -> None:
    on = Cluster({"kubernetes.podspec-init-containers": "enabled"})
    bad = {
        "name": "i",
        "image": "app",
        "livenessProbe": {"exec": {"command": ["x"]}},
        "resources": {"claims": [{"name": "g"}]},
        "restartPolicy": "Always",
    }
    answer = judged(tmp_path, changed(KSVC, f"{P} initContainers", [bad]), on)
    init = f"{POD}.initContainers[0]"
    assert hits(answer) == {
        ("not-allowed", f"{init}.livenessProbe"),
        ("not-allowed", f"{init}.resources.claims"),
        ("not-allowed", f"{init}.restartPolicy"),
    }
