"""How a document is read before any rule is asked: words, numbers, repeated fields, a status."""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.doctor import Diagnosis, examine
from relume.config.fields import did_you_mean

from .documents import ISVC, KSVC, RUNTIME, changed, check, hits, judged


def examined(folder: Path, text: str) -> Diagnosis:
    (folder / "m.yaml").write_text(text)
    (one,) = examine([folder / "m.yaml"])
    return one


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p}\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: i}]}}
"""
SERVICE = """apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: s}
spec:
  template: {spec: {containerConcurrency: REPLICAS, containers: [{image: app}]}}
"""


@pytest.mark.parametrize("word", ["1e3", "y", "n", "0o17", "010", "0x1F", "1_000", "4.0", "on"])
def test_a_word_that_is_no_text_is_refused_where_text_must_be(tmp_path: Path, word: str) -> None:
    found = examined(tmp_path, f"{CONFIG_MAP}data: {{a: {word}}}\n")
    (finding,) = found.findings
    assert (found.verdict, finding.reason, finding.field) == ("refused", "wrong-type", "data.a")
    assert finding.fix == f'write "{word}" in quotes'  # as it was written, not as it was read


@pytest.mark.parametrize("word", ["~", "null", "Null", "NULL", ""])
def test_a_null_is_no_value(tmp_path: Path, word: str) -> None:
    assert examined(tmp_path, f"{CONFIG_MAP}data: {{a: {word}}}\n").verdict == "accepted"


def test_a_node_named_n_is_a_boolean(tmp_path: Path) -> None:
    text = f"{POD}spec: {{nodeName: n, containers: [{{name: a, image: i}}]}}\n"
    found = examined(tmp_path, text)
    assert [(f.reason, f.field) for f in found.findings] == [("wrong-type", "spec.nodeName")]
    assert examined(tmp_path, text.replace(": n,", ": 'n',")).verdict == "accepted"


def test_a_key_that_is_a_boolean_is_the_field_true(tmp_path: Path) -> None:
    found = examined(tmp_path, f"{CONFIG_MAP}data: {{y: a, 'true': b}}\n")
    assert [(f.reason, f.field) for f in found.findings] == [("repeated-field", "data.true")]


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        ("4.0", "accepted"),
        ("1e1", "accepted"),
        ("0o17", "accepted"),
        ("0x1F", "accepted"),
        ("010", "accepted"),
        ("1_0", "accepted"),
        ("4.5", "refused"),
        ("1e-1", "refused"),
        ("1e12", "refused"),
        ("'4'", "refused"),
    ],
)
@pytest.mark.parametrize("base", [DEPLOYMENT, SERVICE], ids=["Deployment", "Knative Service"])
def test_a_whole_number_is_one_however_it_is_written(
    tmp_path: Path, base: str, number: str, verdict: str
) -> None:
    assert examined(tmp_path, base.replace("REPLICAS", number)).verdict == verdict


def test_octal_and_exponents_are_counted_as_the_server_counts_them(tmp_path: Path) -> None:
    over = examined(tmp_path, SERVICE.replace("REPLICAS", "0o1752"))  # 1002
    assert [(f.reason, f.field) for f in over.findings if f.severity == "error"] == [
        ("out-of-range", "spec.template.spec.containerConcurrency")
    ]


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        (f"{CONFIG_MAP}data: {{a: '1', a: '2'}}\n", "data.a", 4),
        (f"{CONFIG_MAP}data: {{a: '1'}}\nkind: ConfigMap\n", "kind", 5),
        (
            f"{POD}spec:\n  containers:\n  - name: a\n    image: b\n    image: c\n",
            "spec.containers[0].image",
            8,
        ),
    ],
)
def test_a_field_that_is_there_twice_is_pruned(
    tmp_path: Path, text: str, field: str, line: int
) -> None:
    found = examined(tmp_path, text)
    assert found.verdict == "pruned"
    (finding,) = found.findings
    assert (finding.reason, finding.field, finding.line) == ("repeated-field", field, line)


def test_of_a_field_that_is_there_twice_the_last_one_is_judged(tmp_path: Path) -> None:
    text = f"{CONFIG_MAP}data: {{a: 1, a: '2'}}\n"
    assert examined(tmp_path, text).verdict == "pruned"
    text = f"{CONFIG_MAP}data: {{a: '2', a: 1}}\n"
    assert examined(tmp_path, text).verdict == "refused"


@pytest.mark.parametrize(
    ("status", "verdict", "field"),
    [
        ({}, "accepted", None),
        ({"url": "http://a", "observedGeneration": 1}, "accepted", None),
        ({"conditions": [{"type": "Ready"}]}, "accepted", None),
        ({"ready": True}, "pruned", "status.ready"),
        ({"url": 5}, "refused", "status.url"),
        ("up", "refused", "status"),
    ],
    ids=[
        "an empty status is accepted",
        "a status with fields that it has is accepted",
        "a status that lacks a required field is accepted",
        "a field that a status does not have is pruned",
        "a value of another type is refused",
        "a status that is no table is refused",
    ],
)
@pytest.mark.parametrize("base", [KSVC, ISVC], ids=["Knative Service", "InferenceService"])
def test_a_status_that_is_sent_is_dropped_and_must_be_readable(
    tmp_path: Path, base: dict[str, Any], status: object, verdict: str, field: str | None
) -> None:
    answer = judged(tmp_path, {**base, "status": status})
    if base is ISVC and verdict == "pruned":  # its CRD leaves the status open
        verdict, field = "accepted", None
    assert answer.verdict == verdict
    assert {where for _, where in hits(answer)} == ({field} if field else set())


def test_a_status_of_kubernetes_own_kinds_is_decoded_too(tmp_path: Path) -> None:
    found = examined(tmp_path, DEPLOYMENT.replace("REPLICAS", "1") + "status: {replicas: many}\n")
    assert found.verdict == "refused"
    found = examined(tmp_path, DEPLOYMENT.replace("REPLICAS", "1") + "status: {ready: 1}\n")
    assert found.verdict == "pruned"


@pytest.mark.parametrize("kind", ["ServingRuntime", "ClusterServingRuntime"])
@pytest.mark.parametrize(
    ("amount", "reason"), [(0.5, "wrong-type"), (2, None), ("500m", None), ("0.5", None)]
)
def test_a_fraction_is_no_quantity_in_a_runtime(
    tmp_path: Path, kind: str, amount: object, reason: str | None
) -> None:
    base = {**RUNTIME, "kind": kind}
    path = "spec containers 0 resources limits cpu"
    where = "spec.containers[0].resources.limits.cpu" if reason else None
    check(tmp_path, base, path, amount, where, reason)


@pytest.mark.parametrize(
    ("base", "path"),
    [
        (ISVC, "spec predictor model resources limits cpu"),
        (KSVC, "spec template spec containers 0 resources limits cpu"),
    ],
    ids=["InferenceService", "Knative Service"],
)
def test_a_webhook_that_decodes_takes_a_fraction(
    tmp_path: Path, base: dict[str, Any], path: str
) -> None:
    check(tmp_path, base, path, 0.5, None, None)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("replica", ["replicas", "selector"], "; did you mean replicas?"),
        ("conatiners", ["containers", "volumes"], "; did you mean containers?"),
        ("evn", ["env", "image"], "; did you mean env?"),
        ("storage", ["storageUri", "name"], "; did you mean storageUri?"),
        ("retries", ["retry", "timeout"], "; did you mean retry?"),
        ("data", ["metadata", "spec"], ""),
        ("gpu", ["image", "env"], ""),
    ],
)
def test_a_suggestion_helps_or_is_not_made(name: str, known: list[str], hint: str) -> None:
    assert did_you_mean(name, known) == hint


def test_a_field_that_is_there_already_is_not_suggested(tmp_path: Path) -> None:
    document = changed(ISVC, "spec predictor minReplicas", 1)
    answer = judged(tmp_path, changed(document, "spec predictor minReplica", 2))
    (finding,) = [f for f in answer.findings if f.reason == "unknown-field"]
    assert "minReplicas?" not in finding.message


MAPPING: dict[str, Any] = {
    "apiVersion": "serving.knative.dev/v1beta1",
    "kind": "DomainMapping",
    "metadata": {"name": "app.example.com", "namespace": "a"},
    "spec": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "s"}},
}


@pytest.mark.parametrize(
    ("path", "value", "field", "reason"),
    [
        ("spec tls", {"secretName": "s"}, None, None),
        ("spec ref namespace", "a", None, None),
        ("spec ref namespace", "b", "spec.ref.namespace", "conflict"),
        ("spec ref apiVersion", None, "spec.ref.apiVersion", "missing-field"),
        ("spec ref kind", None, "spec.ref.kind", "missing-field"),
        ("spec ref group", "serving.knative.dev", "spec.ref.group", "feature-off"),
        ("spec ref", None, "spec.ref.name", "missing-field"),
        ("spec host", "a", "spec.host", "unknown-field"),
        ("metadata name", "myapp", "metadata.name", "invalid-name"),
        ("metadata name", "App.example.com", "metadata.name", "invalid-name"),
        ("metadata name", "a.b.svc.cluster.local", "metadata.name", "invalid-name"),
        ("metadata generateName", "a", "metadata.generateName", "not-allowed"),
    ],
)
def test_a_domain_mapping(
    tmp_path: Path, path: str, value: object, field: str | None, reason: str | None
) -> None:
    check(tmp_path, MAPPING, path, value, field, reason)


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}}, None),
        (
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "/b"}]}},
            "configMap.items[0].path",
        ),
        (
            {"secret": {"name": "c", "items": [{"key": "a", "path": "x/../../b"}]}},
            "secret.items[0].path",
        ),
        ({"serviceAccountToken": {"path": "/b"}}, "serviceAccountToken.path"),
    ],
)
def test_the_paths_of_a_knative_services_volumes_stay_inside_them(
    tmp_path: Path, source: dict[str, Any], field: str | None
) -> None:
    volume = {"name": "v", "projected": {"sources": [source]}}
    document = changed(KSVC, "spec template spec volumes", [volume])
    mount = {"name": "v", "mountPath": "/data"}
    where = f"spec.template.spec.volumes[0].projected.sources[0].{field}" if field else None
    check(
        tmp_path,
        document,
        "spec template spec containers 0 volumeMounts",
        [mount],
        where,
        "dry-run-refused",
    )


def test_an_event_policy_is_refused_with_its_true_cause(tmp_path: Path) -> None:
    policy = {
        "apiVersion": "eventing.knative.dev/v1alpha1",
        "kind": "EventPolicy",
        "metadata": {"name": "p"},
        "spec": {"from": [{"sub": "a"}]},
    }
    (finding,) = judged(tmp_path, policy).findings
    assert (finding.reason, finding.field) == ("feature-off", "kind")
    assert "oidc-authentication feature not enabled" in finding.message
    assert "authentication-oidc: enabled" in finding.fix
