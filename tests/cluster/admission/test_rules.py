"""Documented validation of Knative Eventing, KServe and DRA, beyond the recorded cases.

Each row: a change to a document that is accepted, the field that is named, the reason; no field
means that it stays accepted. The sources are named in the modules of `relume.cluster.admission`.
"""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.admission import Cluster

from .documents import (
    BOX,
    BROKER,
    CLASS,
    ISVC,
    KSVC,
    REQUEST,
    ROUTE,
    RUNTIME,
    TEMPLATE,
    TRIGGER,
    C,
    changed,
    check,
    hits,
    judged,
    told,
)


@pytest.mark.parametrize(
    "base", [KSVC, ISVC, BROKER, TRIGGER, CLASS, TEMPLATE, RUNTIME, ROUTE], ids=lambda b: b["kind"]
)
def test_what_the_rows_change_is_accepted(tmp_path: Path, base: dict[str, Any]) -> None:
    answer = judged(tmp_path, base)
    assert (answer.verdict, hits(answer)) == ("accepted", set())


EVENT_TYPE = {
    "apiVersion": "eventing.knative.dev/v1beta1",
    "kind": "EventType",
    "metadata": {"name": "e"},
    "spec": {"type": "a"},
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
    (ISVC, "spec predictor sklearn", {"storageUri": "s3://a"}, None, None),
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
    (TRIGGER, "spec broker", "b/c", "spec.broker", "invalid-value"),
    (TRIGGER, "spec broker", "b.c", None, None),
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
    (
        CLASS,
        "spec selectors",
        [{"cel": {"expression": "sets.contains([device.driver], ['a'])"}}],
        None,
        None,
    ),
    (CLASS, "spec suitableNodes", {}, "spec.suitableNodes", "unknown-field"),
    (CLASS, "metadata name", "A", "metadata.name", "invalid-name"),
]
SUBSCRIBER = "spec.subscriber"
ROWS_OTHER += [
    (TRIGGER, "spec subscriber uri", "http://a b/", f"{SUBSCRIBER}.uri", "invalid-value"),
    (TRIGGER, "spec subscriber uri", "http://%zz/", f"{SUBSCRIBER}.uri", "invalid-value"),
    (TRIGGER, "spec subscriber uri", "http://h/%zz", f"{SUBSCRIBER}.uri", "invalid-value"),
    (TRIGGER, "spec subscriber uri", "::", f"{SUBSCRIBER}.uri", "invalid-value"),
    (TRIGGER, "spec subscriber uri", "a_b:c", f"{SUBSCRIBER}.uri", "invalid-value"),
    (TRIGGER, "spec subscriber uri", "http://h:x/", f"{SUBSCRIBER}.uri", "invalid-value"),
    (TRIGGER, "spec subscriber uri", "http://h:99999/", None, None),
    (TRIGGER, "spec subscriber uri", "http://u:p@h/?a=b c#d", None, None),
    (TRIGGER, "spec subscriber uri", "http://u@/", f"{SUBSCRIBER}.uri", "invalid-value"),
    (TRIGGER, "spec subscriber CACerts", "x", f"{SUBSCRIBER}.caCert", "invalid-value"),
    (
        TRIGGER,
        "spec filter",
        {"attributes": {"": "a"}},
        "spec.filter.attributes[]",
        "invalid-value",
    ),
    (
        BROKER,
        "metadata annotations eventing.knative.dev/broker.class",
        "",
        "eventing.knative.dev/broker.class",
        "missing-field",
    ),
    (EVENT_TYPE, "spec type", "", "spec.type", "missing-field"),
    (EVENT_TYPE, "spec source", "", "spec.source", "invalid-value"),
    (EVENT_TYPE, "spec source", "::", "spec.source", "invalid-value"),
    (EVENT_TYPE, "spec source", "/a", None, None),
]
R = "spec spec devices requests"
D = "spec.spec.devices"
ROWS_OTHER += [
    (TEMPLATE, f"{R} 0 name", "A", f"{REQUEST}.name", "invalid-value"),
    (TEMPLATE, f"{R} 0 exactly", None, REQUEST, "one-of"),
    (
        TEMPLATE,
        f"{R} 0 firstAvailable",
        [{"name": "a", "deviceClassName": "c"}],
        REQUEST,
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
        None,
        None,
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
        f"{D}.requests[1]",
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
        f"{D}.constraints[0]",
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
    (TEMPLATE, "spec metadata labels", {"a": "b c"}, "spec.metadata.labels", "invalid-value"),
    (ROUTE, "spec traffic 0 percent", 101, "spec.traffic[0].percent", "out-of-range"),
    (ROUTE, "spec traffic 0 configurationName", None, "spec.traffic[0].revisionName", "one-of"),
    (ROUTE, "spec traffic 0 revisionName", "r-1", "spec.traffic[0].revisionName", "one-of"),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    ROWS_OTHER,
    ids=[told(base, path, value, reason) for base, path, value, _, reason in ROWS_OTHER],
)
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
        ("messaging.knative.dev/v1alpha1", "NatsJetStreamChannel", "unchecked-kind"),
    ],
    ids=[
        "a misspelled kind of a known group",
        "a version of a kind that is not served",
        "a misspelled kind of Kubernetes",
        "an older version of a kind",
        "a kind of a group that we do not know",
        "a kind of a known group without tables",
    ],
)
def test_a_kind_that_no_cluster_has_is_told_from_one_that_we_do_not_know(
    tmp_path: Path, api_version: str, kind: str, reason: str
) -> None:
    document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}
    answer = judged(tmp_path, document)
    assert [f.reason for f in answer.findings] == [reason]
    assert answer.verdict == ("refused" if reason == "no-such-kind" else "unchecked")


@pytest.mark.parametrize(
    "document",
    [[], "text", 5, {}, {"kind": "Broker"}, {"apiVersion": 1}],
    ids=[
        "a list",
        "a text",
        "a number",
        "an empty table",
        "a table without apiVersion",
        "a table whose apiVersion is a number",
    ],
)
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


SLICES: list[tuple[str, object, str | None, str | None]] = [
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
]


@pytest.mark.parametrize(
    ("path", "value", "field", "reason"),
    SLICES,
    ids=[told(SLICE, path, value, reason) for path, value, _, reason in SLICES],
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
    ids=["a model format without a name", "a variable without a name"],
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
