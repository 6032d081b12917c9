"""Documented validation beyond the recorded cases, kind by kind.

Each row: a change to a document that is accepted, the verdict, the field, the reason. The sources
are named in the modules of `relume.config.admission`.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.config.admission import SHIPPED, Admission, Cluster, admit
from relume.config.yaml_source import documents

KSVC = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "s"},
    "spec": {
        "template": {"metadata": {"annotations": {}}, "spec": {"containers": [{"image": "a"}]}}
    },
}
ISVC = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "i", "annotations": {}},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "vLLM"}, "storageUri": "hf://a/b"}}},
}
BROKER = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Broker",
    "metadata": {"name": "b", "annotations": {}},
    "spec": {"delivery": {"retry": 1}},
}
TRIGGER = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Trigger",
    "metadata": {"name": "t", "annotations": {}},
    "spec": {"broker": "b", "subscriber": {"uri": "http://h/"}, "filters": []},
}
CLASS = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "DeviceClass",
    "metadata": {"name": "c"},
    "spec": {"selectors": [{"cel": {"expression": "device.driver == 'a'"}}]},
}
TEMPLATE = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "t"},
    "spec": {
        "spec": {"devices": {"requests": [{"name": "g", "exactly": {"deviceClassName": "c"}}]}}
    },
}
RUNTIME = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "r"},
    "spec": {
        "supportedModelFormats": [{"name": "vLLM", "autoSelect": True, "priority": 2}],
        "containers": [{"name": "kserve-container", "image": "a"}],
    },
}
ROUTE = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Route",
    "metadata": {"name": "r"},
    "spec": {"traffic": [{"configurationName": "c", "percent": 100}]},
}

POD = "spec.template.spec"
BOX = f"{POD}.containers[0]"
NOTES = "spec.template.metadata.annotations"
REQUEST = "spec.spec.devices.requests[0]"


def changed(base: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """`base` with `value` at a path of fields and [numbers], where " " parts the steps."""
    made: Any = yaml.safe_load(yaml.safe_dump(base))
    here = made
    *steps, last = path.split(" ")
    for step in steps:
        here = here[int(step)] if step.isdigit() else here.setdefault(step, {})
    if last.isdigit():
        here.extend([None] * (int(last) + 1 - len(here)))
        here[int(last)] = value
    elif value is None:
        here.pop(last, None)
    else:
        here[last] = value
    return made  # type: ignore[no-any-return]


def judged(folder: Path, document: object, cluster: Cluster = SHIPPED) -> Admission:
    (folder / "m.yaml").write_text(yaml.safe_dump(document))
    (root,) = documents(folder / "m.yaml")
    return admit(root, cluster)


def hits(answer: Admission) -> set[tuple[str, str]]:
    return {(f.reason, f.field) for f in answer.findings if f.effect != "none"}


@pytest.mark.parametrize(
    "base", [KSVC, ISVC, BROKER, TRIGGER, CLASS, TEMPLATE, RUNTIME, ROUTE], ids=lambda b: b["kind"]
)
def test_what_the_rows_change_is_accepted(tmp_path: Path, base: dict[str, Any]) -> None:
    answer = judged(tmp_path, base)
    assert (answer.verdict, hits(answer)) == ("accepted", set())


P = "spec template spec"
C = f"{P} containers 0"
A = "spec template metadata annotations"
AUTO = "autoscaling.knative.dev"
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
    (f"{C} ports", [{"containerPort": 8012}], f"{BOX}.ports[0].containerPort", "reserved"),
    (f"{C} ports", [{"containerPort": 9091}], f"{BOX}.ports[0].containerPort", "reserved"),
    (f"{C} ports", [{"containerPort": 70000}], f"{BOX}.ports[0].containerPort", "out-of-range"),
    (
        f"{C} ports",
        [{"containerPort": 80, "protocol": "UDP"}],
        f"{BOX}.ports[0].protocol",
        "invalid-value",
    ),
    (
        f"{C} ports",
        [{"containerPort": 80, "name": "web"}],
        f"{BOX}.ports[0].name",
        "unsupported-value",
    ),
    (f"{C} ports", [{"containerPort": 80, "name": "h2c"}], None, None),
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
    (f"{C} envFrom", [{}], f"{BOX}.envFrom[0].configMapRef", "one-of"),
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
        f"{NOTES}.networking.knative.dev/nothing",
        "not-allowed",
    ),
    (
        f"{A} queue.sidecar.serving.knative.dev/cpu-resource-limit",
        "lots",
        f"{NOTES}.queue.sidecar.serving.knative.dev/cpu-resource-limit",
        "invalid-value",
    ),
    (
        f"{A} queue.sidecar.serving.knative.dev/resource-percentage",
        "0",
        f"{NOTES}.queue.sidecar.serving.knative.dev/resource-percentage",
        "out-of-range",
    ),
    (
        f"metadata annotations {AUTO}/window",
        "10s",
        f"metadata.annotations.{AUTO}/window",
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
    ("metadata labels", {"a b": "c"}, "metadata.labels.a b", "invalid-value"),
    ("metadata labels", {"a": "c d"}, "metadata.labels.a", "invalid-value"),
    ("spec template metadata name", "other-1", "spec.template.metadata.name", "invalid-value"),
    ("spec template metadata name", "s-1", None, None),
    ("spec template metadata name", "s-A", "spec.template.metadata.name", "invalid-name"),
    ("spec traffic", [{"percent": 50}], "spec.traffic", "invalid-value"),
    ("spec traffic", [{"percent": 100, "tag": "A"}], "spec.traffic[0].tag", "invalid-value"),
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


@pytest.mark.parametrize(("path", "value", "field", "reason"), ROWS_SERVING)
def test_knative_serving(
    tmp_path: Path, path: str, value: object, field: str | None, reason: str | None
) -> None:
    check(tmp_path, KSVC, path, value, field, reason)


def check(
    folder: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    answer = judged(folder, changed(base, path, value))
    if field is None:
        assert (answer.verdict, hits(answer)) == ("accepted", set())
        return
    assert (reason, field) in hits(answer)
    assert answer.verdict == ("pruned" if reason == "unknown-field" else "refused")


VOLUMES: list[tuple[dict[str, Any], dict[str, Any], str | None, str | None]] = [
    ({"emptyDir": {"medium": "Disk"}}, {}, "volumes[0].emptyDir.medium", "invalid-value"),
    ({"emptyDir": {"sizeLimit": "-1"}}, {}, "volumes[0].emptyDir.sizeLimit", "invalid-value"),
    ({"secret": {"secretName": "s"}}, {}, None, None),
    (
        {"configMap": {"name": "c", "items": [{"key": "", "path": "p"}]}},
        {},
        "volumes[0].configMap.items[0].key",
        "missing-field",
    ),
    ({"projected": {"sources": [{}]}}, {}, "volumes[0].projected.sources[0].secret", "one-of"),
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


@pytest.mark.parametrize(("volume", "mount", "field", "reason"), VOLUMES)
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
    two = [{"image": "a"}, {"image": "b"}]
    check(tmp_path, KSVC, f"{P} containers", two, f"{POD}.containers[*].ports", "missing-field")
    serving = {"image": "a", "ports": [{"containerPort": 80}]}
    probed = [serving, {"image": "b", "readinessProbe": {"httpGet": {"port": 1}}}]
    path = f"{POD}.containers[1].readinessProbe.httpGet"
    check(tmp_path, KSVC, f"{P} containers", probed, path, "feature-off")
    check(
        tmp_path,
        KSVC,
        f"{P} containers",
        [serving, serving],
        f"{POD}.containers[*].ports",
        "not-allowed",
    )
    port = [serving, {"image": "b", "env": [{"name": "PORT"}]}]
    check(tmp_path, KSVC, f"{P} containers", port, None, None)
    names = [{**serving, "name": "x"}, {"image": "b", "name": "x"}]
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
        ("init-containers", f"{P} initContainers", [{"name": "i", "image": "a"}]),
        ("fieldref", f"{C} env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
    ],
)
def test_a_flag_opens_its_field(tmp_path: Path, flag: str, path: str, value: object) -> None:
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
        "image": "a",
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


ROWS_OTHER: list[tuple[dict[str, Any], str, object, str | None, str | None]] = [
    (ISVC, "spec predictor minReplicas", -1, "spec.predictor.minReplicas", "out-of-range"),
    (ISVC, "spec predictor maxReplicas", -1, "spec.predictor.maxReplicas", "out-of-range"),
    (ISVC, "spec predictor scaleMetric", "cpu", "spec.predictor.scaleMetric", "unsupported-value"),
    (
        ISVC,
        "spec predictor logger",
        {"mode": "some", "url": "x"},
        "spec.predictor.logger.mode",
        "unsupported-value",
    ),
    (ISVC, "spec predictor model name", "x", "spec.predictor.model.name", "not-allowed"),
    (
        ISVC,
        "spec predictor model env",
        [{"name": "PYTHONPATH", "value": "x"}],
        "spec.predictor.model.env[0].name",
        "not-allowed",
    ),
    (ISVC, "spec predictor model", None, "spec.predictor", "one-of"),
    (ISVC, "spec predictor sklearn", {"storageUri": "s3://a"}, "spec.predictor", "one-of"),
    (
        ISVC,
        "spec predictor deploymentStrategy",
        {"type": "Recreate"},
        "spec.predictor.deploymentStrategy",
        "not-allowed",
    ),
    (
        ISVC,
        "metadata annotations serving.kserve.io/autoscalerClass",
        "kpa",
        "metadata.annotations.serving.kserve.io/autoscalerClass",
        "unsupported-value",
    ),
    (ISVC, "metadata name", "9lives", "metadata.name", "invalid-name"),
    (ISVC, "spec predictor model storageUri", 5, "spec.predictor.model.storageUri", "wrong-type"),
    (ISVC, "spec predictor model storag", "x", "spec.predictor.model.storag", "unknown-field"),
    (ISVC, "spec predictor timeout", 3600, None, None),
    (ISVC, "spec predictor minReplicas", 0, None, None),
    (
        ISVC,
        "spec predictor storageUris",
        [{"uri": "hf://a/b", "mountPath": "/x"}],
        "spec.predictor.storageUris",
        "one-of",
    ),
    (
        ISVC,
        "spec canary",
        [{"predictor": {"name": "c"}, "trafficPercent": 5}],
        "spec.canary",
        "not-allowed",
    ),
    (
        RUNTIME,
        "spec supportedModelFormats 1",
        {"name": "vLLM", "version": "2", "autoSelect": True, "priority": 3},
        "spec.supportedModelFormats[1].priority",
        "conflict",
    ),
    (
        RUNTIME,
        "spec supportedModelFormats 0 priority",
        0,
        "spec.supportedModelFormats[0].priority",
        "out-of-range",
    ),
    (RUNTIME, "spec containers", None, "spec.containers", "missing-field"),
    (RUNTIME, "spec initContainers", [], "spec.initContainers", "unknown-field"),
    (
        BROKER,
        "spec delivery backoffPolicy",
        "quadratic",
        "spec.delivery.backoffPolicy",
        "invalid-value",
    ),
    (BROKER, "spec delivery format", "xml", "spec.delivery.format", "invalid-value"),
    (BROKER, "spec delivery format", "json", None, None),
    (BROKER, "spec delivery backoffDelay", "1s", "spec.delivery.backoffDelay", "invalid-value"),
    (BROKER, "spec delivery backoffDelay", "P1DT2H", None, None),
    (BROKER, "spec delivery backoffDelay", "P1Y", None, None),
    (BROKER, "spec delivery timeout", "PT0.01S", "spec.delivery.timeout", "invalid-value"),
    (BROKER, "spec delivery timeout", "PT0.5S", None, None),
    (BROKER, "spec delivery timeout", "P", "spec.delivery.timeout", "invalid-value"),
    (
        BROKER,
        "spec delivery deadLetterSink",
        {},
        "spec.delivery.deadLetterSink.ref",
        "missing-field",
    ),
    (
        BROKER,
        "spec delivery deadLetterSink",
        {"uri": "/path"},
        "spec.delivery.deadLetterSink.uri",
        "invalid-value",
    ),
    (BROKER, "spec delivery wait", "PT1S", "spec.delivery.wait", "undecodable-field"),
    (
        BROKER,
        "spec config",
        {"kind": "ConfigMap", "name": "c"},
        "spec.config.apiVersion",
        "missing-field",
    ),
    (BROKER, "spec", None, None, None),
    (TRIGGER, "spec broker", None, "spec.broker", "missing-field"),
    (TRIGGER, "spec brokerRef", {"name": "b"}, "spec.broker", "one-of"),
    (
        TRIGGER,
        "spec subscriber",
        {"ref": {"kind": "Service", "name": "s"}},
        "spec.subscriber.ref.apiVersion",
        "missing-field",
    ),
    (
        TRIGGER,
        "spec subscriber",
        {"ref": {"apiVersion": "v1", "kind": "Service", "name": "s"}},
        None,
        None,
    ),
    (
        TRIGGER,
        "spec subscriber",
        {"ref": {"apiVersion": "v1", "kind": "Service", "name": "s"}, "uri": "http://h/"},
        "spec.subscriber.uri",
        "conflict",
    ),
    (TRIGGER, "spec subscriber", {"uri": "/only/a/path"}, "spec.subscriber.uri", "invalid-value"),
    (
        TRIGGER,
        "spec filters",
        [{"exact": {"My": "x"}}],
        "spec.filters[0].exact[My]",
        "invalid-value",
    ),
    (
        TRIGGER,
        "spec filters",
        [{"all": [{"exact": {"a": "b"}, "cesql": "TRUE"}]}],
        "spec.filters[0].all[0]",
        "one-of",
    ),
    (
        TRIGGER,
        "spec filters",
        [{"not": {"cesql": "("}}],
        "spec.filters[0].not.cesql",
        "invalid-expression",
    ),
    (
        TRIGGER,
        "spec filters",
        [{"any": [{"like": {"a": "b"}}]}],
        "spec.filters[0].any[0].like",
        "undecodable-field",
    ),
    (TRIGGER, "spec filters", [{}], None, None),
    (TRIGGER, "spec filters", [{"cesql": "EXISTS subject AND LENGTH(subject) > 3"}], None, None),
    (TRIGGER, "spec filter", {"attributes": {"a": 1}}, "spec.filter.attributes.a", "wrong-type"),
    (
        TRIGGER,
        "metadata annotations eventing.knative.dev/injection",
        "on",
        "metadata.annotations[eventing.knative.dev/injection]",
        "invalid-value",
    ),
    (
        TRIGGER,
        "metadata annotations knative.dev/dependency",
        "{}",
        "metadata.annotations[knative.dev/dependency].kind",
        "missing-field",
    ),
    (CLASS, "spec extendedResourceName", "gpu", "spec.extendedResourceName", "invalid-value"),
    (CLASS, "spec extendedResourceName", "nvidia.com/gpu", None, None),
    (
        CLASS,
        "spec extendedResourceName",
        "requests.nvidia.com/gpu",
        "spec.extendedResourceName",
        "invalid-value",
    ),
    (
        CLASS,
        "spec extendedResourceName",
        "nvidia.com/" + "g" * 64,
        "spec.extendedResourceName",
        "invalid-value",
    ),
    (CLASS, "spec selectors", [{}], "spec.selectors[0].cel", "missing-field"),
    (
        CLASS,
        "spec selectors",
        [{"cel": {"expression": "device.driver"}}],
        "spec.selectors[0].cel.expression",
        "invalid-expression",
    ),
    (
        CLASS,
        "spec selectors",
        [{"cel": {"expression": "device.driver == "}}],
        "spec.selectors[0].cel.expression",
        "invalid-expression",
    ),
    (
        CLASS,
        "spec selectors",
        [{"cel": {"expression": "device.capacity['a'].memory.compareTo(quantity('1Gi')) >= 0"}}],
        None,
        None,
    ),
    (CLASS, "spec selectors", [{"cel": {"expression": "true"}}] * 33, "spec.selectors", "too-many"),
    (CLASS, "spec config", [{"opaque": {"driver": "a.b", "parameters": {"x": 1}}}], None, None),
    (CLASS, "spec config", [{}], "spec.config[0].opaque", "missing-field"),
    (
        CLASS,
        "spec config",
        [{"opaque": {"driver": "a_b", "parameters": {}}}],
        "spec.config[0].opaque.driver",
        "invalid-value",
    ),
    (CLASS, "spec suitableNodes", {}, "spec.suitableNodes", "unknown-field"),
    (CLASS, "metadata name", "A", "metadata.name", "invalid-name"),
]
R = "spec spec devices requests"
D = "spec.spec.devices"
ROWS_OTHER += [
    (TEMPLATE, f"{R} 0 name", "A", f"{REQUEST}.name", "invalid-value"),
    (TEMPLATE, f"{R} 0 exactly", None, f"{REQUEST}.exactly", "one-of"),
    (
        TEMPLATE,
        f"{R} 0 firstAvailable",
        [{"name": "a", "deviceClassName": "c"}],
        f"{REQUEST}.exactly",
        "one-of",
    ),
    (TEMPLATE, f"{R} 0 deviceClassName", "c", f"{REQUEST}.deviceClassName", "unknown-field"),
    (
        TEMPLATE,
        f"{R} 0 exactly deviceClassName",
        "",
        f"{REQUEST}.exactly.deviceClassName",
        "missing-field",
    ),
    (
        TEMPLATE,
        f"{R} 0 exactly deviceClassName",
        "C",
        f"{REQUEST}.exactly.deviceClassName",
        "invalid-value",
    ),
    (
        TEMPLATE,
        f"{R} 0 exactly allocationMode",
        "Some",
        f"{REQUEST}.exactly.allocationMode",
        "unsupported-value",
    ),
    (TEMPLATE, f"{R} 0 exactly allocationMode", "All", None, None),
    (TEMPLATE, f"{R} 0 exactly count", -1, f"{REQUEST}.exactly.count", "invalid-value"),
    (TEMPLATE, f"{R} 0 exactly adminAccess", True, f"{REQUEST}.exactly.adminAccess", "feature-off"),
    (TEMPLATE, f"{R} 0 exactly count", 0, None, None),
    (
        TEMPLATE,
        f"{R} 0 exactly tolerations",
        [{"operator": "Exists", "value": "x"}],
        f"{REQUEST}.exactly.tolerations[0].value",
        "invalid-value",
    ),
    (
        TEMPLATE,
        f"{R} 0 exactly tolerations",
        [{"value": "x"}],
        f"{REQUEST}.exactly.tolerations[0].key",
        "missing-field",
    ),
    (
        TEMPLATE,
        f"{R} 0 exactly tolerations",
        [{"operator": "Exists", "effect": "Never"}],
        f"{REQUEST}.exactly.tolerations[0].effect",
        "unsupported-value",
    ),
    (TEMPLATE, f"{R} 0 exactly tolerations", [{"operator": "Exists"}], None, None),
    (TEMPLATE, f"{R} 0 exactly capacity", {"requests": {"memory": "1Gi"}}, None, None),
    (
        TEMPLATE,
        f"{R} 0 exactly capacity",
        {"requests": {"memory": "lots"}},
        f"{REQUEST}.exactly.capacity.requests.memory",
        "invalid-value",
    ),
    (
        TEMPLATE,
        f"{R} 1",
        {"name": "g", "exactly": {"deviceClassName": "c"}},
        f"{D}.requests[1].name",
        "duplicate-item",
    ),
    (
        TEMPLATE,
        "spec spec devices constraints",
        [{"requests": ["h"], "matchAttribute": "a.b/c"}],
        f"{D}.constraints[0].requests[0]",
        "invalid-value",
    ),
    (
        TEMPLATE,
        "spec spec devices constraints",
        [{"requests": ["g"]}],
        f"{D}.constraints[0].matchAttribute",
        "one-of",
    ),
    (
        TEMPLATE,
        "spec spec devices constraints",
        [{"matchAttribute": "resource.kubernetes.io/pcieRoot"}],
        None,
        None,
    ),
    (
        TEMPLATE,
        "spec spec devices constraints",
        [{"matchAttribute": "a.b/no-dash"}],
        f"{D}.constraints[0].matchAttribute",
        "invalid-value",
    ),
    (
        TEMPLATE,
        "spec spec devices config",
        [{"requests": ["g"], "opaque": {"driver": "a.b", "parameters": {}}}],
        None,
        None,
    ),
    (
        TEMPLATE,
        "spec spec devices config",
        [{"requests": ["g/x"], "opaque": {"driver": "a.b", "parameters": {}}}],
        f"{D}.config[0].requests[0]",
        "invalid-value",
    ),
    (TEMPLATE, "spec metadata labels", {"a": "b c"}, "spec.metadata.labels.a", "invalid-value"),
    (ROUTE, "spec traffic 0 percent", 101, "spec.traffic[0].percent", "out-of-range"),
    (ROUTE, "spec traffic 0 configurationName", None, "spec.traffic[0].revisionName", "one-of"),
    (ROUTE, "spec traffic 0 revisionName", "r-1", "spec.traffic[0].revisionName", "one-of"),
]


@pytest.mark.parametrize(("base", "path", "value", "field", "reason"), ROWS_OTHER)
def test_eventing_kserve_and_dra(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)


@pytest.mark.parametrize(
    ("api_version", "kind", "reason"),
    [
        ("eventing.knative.dev/v1", "Triger", "no-such-kind"),
        ("eventing.knative.dev/v1beta1", "Trigger", "no-such-kind"),
        ("apps/v1", "Deploymnt", "no-such-kind"),
        ("resource.k8s.io/v1alpha3", "DeviceClass", "no-such-kind"),
        ("monitoring.coreos.com/v1", "ServiceMonitor", "unchecked-kind"),
        ("messaging.knative.dev/v1", "InMemoryChannel", "unchecked-kind"),
    ],
)
def test_a_kind_that_no_cluster_has_is_told_from_one_that_we_do_not_know(
    tmp_path: Path, api_version: str, kind: str, reason: str
) -> None:
    document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}
    answer = judged(tmp_path, document)
    assert [f.reason for f in answer.findings] == [reason]
    assert answer.verdict == ("refused" if reason == "no-such-kind" else "accepted")


@pytest.mark.parametrize("document", [[], "text", 5, {}, {"kind": "Broker"}, {"apiVersion": 1}])
def test_what_is_no_manifest_is_refused(tmp_path: Path, document: object) -> None:
    answer = judged(tmp_path, document)
    assert answer.verdict == "refused"


SLICE = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceSlice",
    "metadata": {"name": "s"},
    "spec": {
        "driver": "gpu.example.com",
        "nodeName": "n",
        "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "a", "attributes": {"model": {"string": "x"}}}],
    },
}


@pytest.mark.parametrize(
    ("path", "value", "field", "reason"),
    [
        ("metadata labels", {"a": "b"}, None, None),
        ("spec allNodes", True, "spec.nodeName", "one-of"),
        ("spec nodeName", None, "spec.nodeName", "one-of"),
        ("spec driver", "GPU", "spec.driver", "invalid-value"),
        ("spec pool resourceSliceCount", 0, "spec.pool.resourceSliceCount", "invalid-value"),
        ("spec devices 0 name", "A", "spec.devices[0].name", "invalid-value"),
        ("spec devices 1", {"name": "a"}, "spec.devices[1].name", "duplicate-item"),
        (
            "spec devices 0 attributes",
            {"a-b": {"int": 1}},
            "spec.devices[0].attributes.a-b",
            "invalid-value",
        ),
        ("spec devices 0 attributes", {"a": {}}, "spec.devices[0].attributes.a", "one-of"),
        ("spec devices 0 capacity", {"memory": {"value": "80Gi"}}, None, None),
        ("spec devices", [{"name": f"d{i}"} for i in range(129)], "spec.devices", "too-many"),
    ],
)
def test_resource_slices(
    tmp_path: Path, path: str, value: object, field: str | None, reason: str | None
) -> None:
    check(tmp_path, SLICE, path, value, field, reason)


@pytest.mark.parametrize(
    ("base", "path", "value", "field"),
    [
        (ISVC, "spec predictor model modelFormat", {}, "spec.predictor.model.modelFormat.name"),
        (ISVC, "spec predictor model env", [{"value": "x"}], "spec.predictor.model.env[0].name"),
    ],
)
def test_a_field_that_a_defaulting_webhook_fills_in_is_accepted_with_a_word(
    tmp_path: Path, base: dict[str, Any], path: str, value: object, field: str
) -> None:
    answer = judged(tmp_path, changed(base, path, value))
    assert answer.verdict == "accepted"
    assert ("left-empty", field) in {(f.reason, f.field) for f in answer.findings}


def test_what_a_webhook_refuses_itself_is_not_said_to_be_accepted(tmp_path: Path) -> None:
    answer = judged(tmp_path, changed(KSVC, f"{C} env", [{"value": "x"}]))
    assert hits(answer) == {("missing-field", f"{BOX}.env[0].name")}
    assert "left-empty" not in {finding.reason for finding in answer.findings}


def test_an_inference_service_needs_its_predictor(tmp_path: Path) -> None:
    for path in ("spec", "spec predictor"):
        answer = judged(tmp_path, changed(ISVC, path, None))
        assert answer.verdict == "refused", path


def test_flows_name_the_item_that_is_wrong(tmp_path: Path) -> None:
    sequence = {
        "apiVersion": "flows.knative.dev/v1",
        "kind": "Sequence",
        "metadata": {"name": "s"},
        "spec": {"steps": [{"uri": "http://a/"}, {"delivery": {"retry": 1}}]},
    }
    assert hits(judged(tmp_path, sequence)) == {("invalid-value", "spec.steps[1]")}
    policy = {
        "apiVersion": "eventing.knative.dev/v1alpha1",
        "kind": "EventPolicy",
        "metadata": {"name": "p"},
        "spec": {"from": [{"sub": "x"}]},
    }
    assert hits(judged(tmp_path, policy)) == {("feature-off", "kind")}
    on = Cluster({"authentication-oidc": "enabled"})
    assert judged(tmp_path, policy, on).verdict == "accepted"
    event = {
        "apiVersion": "eventing.knative.dev/v1beta3",
        "kind": "EventType",
        "metadata": {"name": "e"},
        "spec": {"attributes": [{"name": n, "required": True} for n in ("type", "source", "id")]},
    }
    answer = judged(tmp_path, event)
    assert hits(answer) == {("missing-field", "spec.attributes.specversion")}
