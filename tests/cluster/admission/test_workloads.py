"""Deployments, StatefulSets, DaemonSets, Jobs, CronJobs and pods: what the API server asks.

Source: kubernetes pkg/apis/{core,apps,batch}/validation/validation.go.
"""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.admission.schedules import check_schedule

from .documents import changed, check, hits, judged, told

POD_SPEC: dict[str, Any] = {"containers": [{"name": "c", "image": "app"}]}
TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"app": "d"}}, "spec": POD_SPEC}


def workload(kind: str, api_version: str = "apps/v1", **spec: object) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "d"}, "spec": spec}


DEPLOYMENT = workload("Deployment", selector={"matchLabels": {"app": "d"}}, template=TEMPLATE)
DAEMONS = workload("DaemonSet", selector={"matchLabels": {"app": "d"}}, template=TEMPLATE)
STATEFUL = workload(
    "StatefulSet", selector={"matchLabels": {"app": "d"}}, template=TEMPLATE, serviceName="d"
)
JOB_SPEC = {"template": {"spec": {**POD_SPEC, "restartPolicy": "Never"}}}
JOB = workload("Job", "batch/v1", **JOB_SPEC)
CRON = workload("CronJob", "batch/v1", schedule="0 6 * * 1", jobTemplate={"spec": JOB_SPEC})
POD = workload("Pod", "v1", **POD_SPEC)

AT = "spec.template.spec"
ROLLING = "spec strategy rollingUpdate"
DAILY = "spec updateStrategy rollingUpdate"
VOLUMES = [{"name": "v", "emptyDir": {}}]
Row = tuple[dict[str, Any], str, object, str | None, str | None]
ROWS: list[Row] = [
    (DEPLOYMENT, "spec replicas", 0, None, None),
    (DEPLOYMENT, "spec replicas", -1, "spec.replicas", "out-of-range"),
    (DEPLOYMENT, "spec minReadySeconds", -1, "spec.minReadySeconds", "out-of-range"),
    (
        DEPLOYMENT,
        ROLLING,
        {"maxSurge": 0, "maxUnavailable": 0},
        "spec.strategy.rollingUpdate.maxUnavailable",
        "invalid-value",
    ),
    (
        DEPLOYMENT,
        ROLLING,
        {"maxSurge": "0%", "maxUnavailable": "0%"},
        "spec.strategy.rollingUpdate.maxUnavailable",
        "invalid-value",
    ),
    (DEPLOYMENT, ROLLING, {"maxSurge": 0}, None, None),
    (DEPLOYMENT, ROLLING, {"maxUnavailable": 0}, None, None),
    (DEPLOYMENT, ROLLING, {"maxSurge": "150%"}, None, None),
    (
        DEPLOYMENT,
        ROLLING,
        {"maxUnavailable": "150%"},
        "spec.strategy.rollingUpdate.maxUnavailable",
        "invalid-value",
    ),
    (
        DEPLOYMENT,
        ROLLING,
        {"maxSurge": "2"},
        "spec.strategy.rollingUpdate.maxSurge",
        "invalid-value",
    ),
    (DEPLOYMENT, "spec strategy", {"type": "Recreate"}, None, None),
    (
        DEPLOYMENT,
        "spec strategy",
        {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}},
        "spec.strategy.rollingUpdate",
        "conflict",
    ),
    (DEPLOYMENT, "spec strategy", {"type": "Blue"}, "spec.strategy.type", "unsupported-value"),
    (
        DEPLOYMENT,
        "spec template spec restartPolicy",
        "Never",
        f"{AT}.restartPolicy",
        "unsupported-value",
    ),
    (
        DEPLOYMENT,
        "spec template spec activeDeadlineSeconds",
        5,
        f"{AT}.activeDeadlineSeconds",
        "not-allowed",
    ),
    (
        DEPLOYMENT,
        "spec progressDeadlineSeconds",
        0,
        "spec.progressDeadlineSeconds",
        "invalid-value",
    ),
    (DAEMONS, DAILY, {"maxSurge": 1, "maxUnavailable": 0}, None, None),
    (DAEMONS, DAILY, {"maxUnavailable": 1}, None, None),
    (
        DAEMONS,
        DAILY,
        {"maxSurge": 1},
        "spec.updateStrategy.rollingUpdate.maxSurge",
        "invalid-value",
    ),
    (
        DAEMONS,
        DAILY,
        {"maxUnavailable": 0},
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        "invalid-value",
    ),
    (STATEFUL, "spec podManagementPolicy", "Parallel", None, None),
    (
        STATEFUL,
        "spec podManagementPolicy",
        "Both",
        "spec.podManagementPolicy",
        "unsupported-value",
    ),
    (JOB, "spec template spec restartPolicy", "OnFailure", None, None),
    (
        JOB,
        "spec template spec restartPolicy",
        "Always",
        f"{AT}.restartPolicy",
        "missing-field",
    ),
    (JOB, "spec template spec restartPolicy", None, f"{AT}.restartPolicy", "missing-field"),
    (JOB, "spec backoffLimit", -1, "spec.backoffLimit", "out-of-range"),
    (JOB, "spec completionMode", "Indexed", "spec.completions", "missing-field"),
    (JOB, "spec selector", {"matchLabels": {"a": "b"}}, "spec.selector", "invalid-value"),
    (JOB, "spec manualSelector", True, "spec.selector", "missing-field"),
    (JOB, "metadata name", "j" * 64, "metadata.name", "invalid-name"),
    (CRON, "spec schedule", "61 * * * *", "spec.schedule", "invalid-value"),
    (CRON, "spec schedule", "@daily", None, None),
    (CRON, "spec schedule", "CRON_TZ=UTC 0 6 * * 1", "spec.schedule", "invalid-value"),
    (CRON, "spec timeZone", "Europe/Berlin", None, None),
    (CRON, "spec timeZone", "Local", "spec.timeZone", "invalid-value"),
    (CRON, "spec concurrencyPolicy", "Queue", "spec.concurrencyPolicy", "unsupported-value"),
    (CRON, "spec failedJobsHistoryLimit", -1, "spec.failedJobsHistoryLimit", "out-of-range"),
    (CRON, "metadata name", "j" * 53, "metadata.name", "invalid-name"),
    (
        CRON,
        "spec jobTemplate spec selector",
        {"matchLabels": {"a": "b"}},
        "spec.jobTemplate.spec.selector",
        "invalid-value",
    ),
    (
        CRON,
        "spec jobTemplate spec template spec restartPolicy",
        "Always",
        "spec.jobTemplate.spec.template.spec.restartPolicy",
        "missing-field",
    ),
    # claims of a pod
    (POD, "spec resourceClaims", [{"name": "g"}], "spec.resourceClaims[0]", "one-of"),
    (POD, "spec resourceClaims", [{"name": "g", "resourceClaimName": "a"}], None, None),
    (
        POD,
        "spec resourceClaims",
        [{"name": "g", "resourceClaimName": "a", "resourceClaimTemplateName": "b"}],
        "spec.resourceClaims[0]",
        "one-of",
    ),
    (
        POD,
        "spec resourceClaims",
        [{"name": "g", "resourceClaimName": "a"}, {"name": "g", "resourceClaimName": "b"}],
        "spec.resourceClaims[1].name",
        "duplicate-item",
    ),
    (
        POD,
        "spec resourceClaims",
        [{"name": "G", "resourceClaimName": "a"}],
        "spec.resourceClaims[0].name",
        "invalid-value",
    ),
    (
        POD,
        "spec containers 0 resources",
        {"claims": [{"name": "g"}]},
        "spec.containers[0].resources.claims[0].name",
        "invalid-value",
    ),
    (
        POD,
        "spec",
        {
            "containers": [
                {"name": "c", "image": "i", "resources": {"claims": [{"name": "g"}] * 2}}
            ],
            "resourceClaims": [{"name": "g", "resourceClaimName": "a"}],
        },
        "spec.containers[0].resources.claims[1].name",
        "duplicate-item",
    ),
    # ports of a pod
    (POD, "spec containers 0 ports", [{"containerPort": 80, "hostPort": 0}], None, None),
    (
        POD,
        "spec containers 0 ports",
        [{"containerPort": 0}],
        "spec.containers[0].ports[0].containerPort",
        "out-of-range",
    ),
    (
        POD,
        "spec containers 0 ports",
        [{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}],
        "spec.containers[0].ports[1].name",
        "duplicate-item",
    ),
    (
        POD,
        "spec containers 0 ports",
        [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}],
        "spec.containers[0].ports[1].hostPort",
        "duplicate-item",
    ),
    (
        POD,
        "spec containers 0 ports",
        [
            {"containerPort": 80, "hostPort": 80},
            {"containerPort": 81, "hostPort": 80, "protocol": "UDP"},
        ],
        None,
        None,
    ),
    (
        POD,
        "spec",
        {
            **POD_SPEC,
            "hostNetwork": True,
            "containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 2}]}
            ],
        },
        "spec.containers[0].ports[0].hostPort",
        "invalid-value",
    ),
    # volumes and mounts
    (
        POD,
        "spec volumes",
        [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}],
        "spec.volumes[1].name",
        "duplicate-item",
    ),
    (
        POD,
        "spec volumes",
        [{"name": "v", "secret": {}}],
        "spec.volumes[0].secret.secretName",
        "missing-field",
    ),
    (
        POD,
        "spec volumes",
        [{"name": "v", "hostPath": {"path": "/a/../b"}}],
        "spec.volumes[0].hostPath.path",
        "invalid-value",
    ),
    (
        POD,
        "spec volumes",
        [{"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "../b"}]}}],
        "spec.volumes[0].configMap.items[0].path",
        "invalid-value",
    ),
    (
        POD,
        "spec volumes",
        [{"name": "v", "secret": {"secretName": "s", "defaultMode": 0o1000}}],
        "spec.volumes[0].secret.defaultMode",
        "out-of-range",
    ),
    (
        POD,
        "spec volumes",
        [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "/t"}}]}}],
        "spec.volumes[0].projected.sources[0].serviceAccountToken.path",
        "invalid-value",
    ),
    (
        POD,
        "spec volumes",
        [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}],
        "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes",
        "missing-field",
    ),
    (
        POD,
        "spec",
        {
            "volumes": VOLUMES,
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "volumeMounts": [
                        {"name": "v", "mountPath": "/a"},
                        {"name": "v", "mountPath": "/a/"},
                    ],
                }
            ],
        },
        "spec.containers[0].volumeMounts[1].mountPath",
        "invalid-value",
    ),
    # the pod itself
    (POD, "spec activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds", "out-of-range"),
    (POD, "spec hostname", "A.b", "spec.hostname", "invalid-value"),
    (POD, "spec dnsPolicy", "None", "spec.dnsConfig.nameservers", "missing-field"),
    (
        POD,
        "spec containers 0 livenessProbe",
        {"periodSeconds": 1},
        "spec.containers[0].livenessProbe.exec",
        "one-of",
    ),
    (
        POD,
        "spec initContainers",
        [{"name": "i", "image": "i", "readinessProbe": {"exec": {"command": ["a"]}}}],
        "spec.initContainers[0].readinessProbe",
        "not-allowed",
    ),
    (
        POD,
        "spec initContainers",
        [
            {
                "name": "i",
                "image": "i",
                "restartPolicy": "Always",
                "readinessProbe": {"exec": {"command": ["a"]}},
            }
        ],
        None,
        None,
    ),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    ROWS,
    ids=[told(base, path, value, reason) for base, path, value, _, reason in ROWS],
)
def test_what_makes_pods(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)


@pytest.mark.parametrize("claim", ["data", "other"])
def test_a_stateful_set_mounts_what_its_templates_claim(tmp_path: Path, claim: str) -> None:
    template = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    document = changed(STATEFUL, "spec volumeClaimTemplates", [template])
    mount = {"name": claim, "mountPath": "/data"}
    document = changed(document, "spec template spec containers 0 volumeMounts", [mount])
    answer = judged(tmp_path, document)
    assert (answer.verdict, hits(answer)) == ("accepted", set())
    later = {(f.reason, f.field, f.severity) for f in answer.findings}
    name = f"{AT}.containers[0].volumeMounts[0].name"
    assert later == (set() if claim == "data" else {("pod-refused", name, "error")})


def test_a_stateful_set_is_taken_whatever_its_pods_are(tmp_path: Path) -> None:
    document = changed(STATEFUL, "spec template spec containers 0 image", None)
    answer = judged(tmp_path, document)
    assert answer.verdict == "accepted"
    assert [(f.reason, f.field) for f in answer.findings] == [
        ("pod-refused", f"{AT}.containers[0].image")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "*/5 0-23 1,15 * mon-fri",
        "0 0 1 jan SUN",
        "? ? ? ? ?",
        "@hourly",
        "@every 1h30m",
        "5/15 * * * *",
        "0,30 2-4/2 * * *",
    ],
)
def test_a_schedule_is_read(text: str) -> None:
    check_schedule(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty spec"),
        ("* * * *", "expected exactly 5 fields, found 4"),
        ("0 0 6 * * 1", "expected exactly 5 fields, found 6"),
        ("61 * * * *", r"end of range \(61\) above maximum \(59\): 61"),
        ("* 24 * * *", "above maximum"),
        ("* * 0 * *", "below minimum"),
        ("* * * 13 *", "above maximum"),
        ("* * * * 7", "above maximum"),
        ("a * * * *", "failed to parse int"),
        ("5-1 * * * *", "beyond end of range"),
        ("*/0 * * * *", "step of range"),
        ("1-2-3 * * * *", "too many hyphens"),
        ("*/2/3 * * * *", "too many slashes"),
        ("@weekdays", "unrecognized descriptor"),
        ("@every soon", "soon"),
        ("５ * * * *", "failed to parse int"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_schedule(text)
