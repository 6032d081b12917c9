"""Validation of KServe's kinds beside InferenceService and its runtimes.

Each row: a change to a document that is accepted, the field that is named, the reason; no field
means that it stays accepted. The sources are named in the modules of `relume.cluster.admission`.
"""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.admission.go_templates import open_blocks, template_error

from .documents import changed, check, hits, judged, told
from .other_documents import CACHE, CONFIG, GRAPH, GROUP, KSERVE, LLM, OLD, STORAGE, TRAINED

BOXES = {"containers": [{"name": "main"}]}
HPA: dict[str, Any] = {"maxReplicas": 2, "wva": {"hpa": {}}}
TRIGGERS = [{"type": "prometheus", "metadata": {"query": "a"}}]
KEDA: dict[str, Any] = {"maxReplicas": 2, "keda": {"triggers": TRIGGERS}}
CLAIM = "serving.kserve.io/exp-dra"
GATEWAY = {"name": "gw", "namespace": "n"}
TIER = {"fileSystem": {"pvc": {"ref": {"name": "c"}}}}
STEPS = "spec nodes root steps"

Rows = list[tuple[dict[str, Any], str, object, str | None, str | None]]
SMALLER: Rows = [
    (GRAPH, "metadata name", "9lives", "metadata.name", "invalid-name"),
    (GRAPH, "spec nodes", {"first": {"routerType": "Sequence"}}, "spec.nodes", "missing-field"),
    (GRAPH, "spec nodes root routerType", "Foo", "spec.nodes.root.routerType", "unsupported-value"),
    (GRAPH, "spec nodes root routerType", "Sequence", None, None),
    (GRAPH, f"{STEPS} 1 weight", 70, "spec.nodes.root.steps", "conflict"),
    (GRAPH, f"{STEPS} 1 weight", None, "spec.nodes.root.steps[1].weight", "missing-field"),
    (GRAPH, f"{STEPS} 1 name", "x", "spec.nodes.root.steps[1].name", "duplicate-item"),
    (GRAPH, f"{STEPS} 1 serviceName", None, "spec.nodes.root.steps[1].nodeName", "one-of"),
    (GRAPH, f"{STEPS} 1 nodeName", "n", "spec.nodes.root.steps[1].nodeName", "one-of"),
    (TRAINED, "metadata name", "a.b", "metadata.name", "invalid-name"),
    (TRAINED, "spec model storageUri", "hf://a/b", "spec.model.storageUri", "invalid-value"),
    (TRAINED, "spec model memory", None, "spec.model.memory", "missing-field"),
    (CACHE, "spec nodeGroups", None, "spec.nodeGroups", "missing-field"),
    (CACHE, "spec nodeGroups", [], "spec.nodeGroups", "out-of-range"),
    (STORAGE, "spec formats", [], "spec.formats", "unknown-field"),
]
SERVICE: Rows = [
    (LLM, "apiVersion", f"{GROUP}/v1beta1", "apiVersion", "no-such-kind"),
    (LLM, "spec replica", 1, "spec.replica", "unknown-field"),
    (LLM, "spec model uri", 5, "spec.model.uri", "wrong-type"),
    (LLM, "spec replicas", -1, "spec.replicas", "out-of-range"),
    (LLM, "spec baseRefs", ["a"], "spec.baseRefs[0]", "wrong-type"),
    (LLM, "spec worker", BOXES, "spec.worker", "conflict"),
    (LLM, "spec prefill", {"worker": BOXES}, "spec.prefill.worker", "conflict"),
    (LLM, "spec parallelism", {"tensor": 0}, "spec.parallelism.tensor", "out-of-range"),
    (LLM, "spec parallelism", {"tensor": 2}, None, None),
    (LLM, "spec parallelism", {"data": 2, "dataLocal": 1}, None, None),
    (LLM, "spec parallelism", {"data": 2}, "spec.parallelism.dataLocal", "missing-field"),
    (OLD, "spec parallelism", {"dataLocal": 2}, "spec.parallelism.data", "missing-field"),
    (
        LLM,
        "spec parallelism",
        {"data": 2, "dataLocal": 1, "pipeline": 2},
        "spec.parallelism",
        "conflict",
    ),
    (LLM, "spec scaling", HPA, None, None),
    (LLM, "spec scaling", KEDA, None, None),
    (LLM, "spec scaling", {"maxReplicas": 2}, "spec.scaling.wva", "one-of"),
    (LLM, "spec scaling", HPA | KEDA, "spec.scaling.wva", "one-of"),
    (LLM, "spec scaling", {"wva": {"hpa": {}}}, "spec.scaling.maxReplicas", "missing-field"),
    (LLM, "spec scaling", HPA | {"wva": {}}, "spec.scaling.wva.hpa", "one-of"),
    (LLM, "spec scaling", HPA | {"minReplicas": 3}, "spec.scaling.minReplicas", "conflict"),
    (
        LLM,
        "spec scaling",
        HPA | {"wva": {"hpa": {}, "variantCost": "cheap"}},
        "spec.scaling.wva.variantCost",
        "invalid-value",
    ),
    (
        LLM,
        "spec scaling",
        {"maxReplicas": 2, "wva": {"keda": {"advanced": {"scalingModifiers": {"formula": "a"}}}}},
        "spec.scaling.wva.keda.advanced.scalingModifiers",
        "not-allowed",
    ),
    (
        LLM,
        "spec scaling",
        {"maxReplicas": 2, "keda": {"triggers": TRIGGERS, "idleReplicaCount": 0}},
        "spec.scaling.minReplicas",
        "missing-field",
    ),
    (
        LLM,
        "spec scaling",
        {"maxReplicas": 2, "minReplicas": 1, "keda": {"triggers": TRIGGERS, "idleReplicaCount": 1}},
        "spec.scaling.keda.idleReplicaCount",
        "conflict",
    ),
    (
        LLM,
        "spec scaling",
        {"maxReplicas": 1, "keda": {}},
        "spec.scaling.keda.triggers",
        "missing-field",
    ),
    (LLM, "spec prefill", {"scaling": KEDA}, None, None),
    (LLM, "spec rolloutStrategy", {"maxSurge": "25%", "maxUnavailable": 0}, None, None),
    (
        LLM,
        "spec rolloutStrategy",
        {"maxSurge": 0, "maxUnavailable": "50%"},
        "spec.rolloutStrategy",
        "conflict",
    ),
    (
        LLM,
        "spec rolloutStrategy",
        {"maxSurge": "150%"},
        "spec.rolloutStrategy.maxSurge",
        "invalid-value",
    ),
    (
        LLM,
        "spec rolloutStrategy",
        {"maxSurge": "x"},
        "spec.rolloutStrategy.maxSurge",
        "invalid-value",
    ),
    (
        LLM,
        "spec rolloutStrategy",
        {"maxSurge": -1},
        "spec.rolloutStrategy.maxSurge",
        "invalid-value",
    ),
    (LLM, "spec kvCacheOffloading", {"cpu": "1Gi", "secondary": [TIER]}, None, None),
    (
        LLM,
        "spec kvCacheOffloading",
        {"cpu": "1Gi", "secondary": [{}]},
        "spec.kvCacheOffloading.secondary[0].fileSystem",
        "missing-field",
    ),
    (
        LLM,
        "spec kvCacheOffloading",
        {"cpu": "1Gi", "secondary": [{"fileSystem": {"pvc": {}}}]},
        "spec.kvCacheOffloading.secondary[0].fileSystem.pvc.spec",
        "one-of",
    ),
]
ROUTED: Rows = [
    (LLM, "spec router", {"route": {}, "gateway": {}, "scheduler": {}}, None, None),
    (LLM, "spec router", {"route": {"http": {}}, "gateway": {"refs": [GATEWAY]}}, None, None),
    (
        OLD,
        "spec router",
        {"route": {"http": {"refs": [{"name": "r"}], "spec": {}}}},
        "spec.router.route.http",
        "conflict",
    ),
    (
        LLM,
        "spec router",
        {"route": {"http": {"refs": [{"name": "r"}]}}, "gateway": {}},
        "spec.router.route.http.refs",
        "conflict",
    ),
    (
        LLM,
        "spec router",
        {
            "route": {"http": {"spec": {"parentRefs": [{"name": "other"}]}}},
            "gateway": {"refs": [GATEWAY]},
        },
        "spec.router.route.http.spec",
        "conflict",
    ),
    (LLM, "spec router", {"route": {"group": "g", "weight": 5}}, None, None),
    (LLM, "spec router", {"route": {"group": "g"}}, "spec.router.route.weight", "missing-field"),
    (LLM, "spec router", {"route": {"weight": 5}}, "spec.router.route.group", "missing-field"),
    (
        LLM,
        "spec router",
        {"route": {"group": "g", "weight": 5}, "ingress": {}},
        "spec.router.route.group",
        "conflict",
    ),
    (
        LLM,
        "spec router",
        {"route": {"group": "g", "weight": 5, "http": {"refs": [{"name": "r"}]}}},
        "spec.router.route.group",
        "conflict",
    ),
    (
        LLM,
        "spec router",
        {"scheduler": {"replicas": 0}},
        "spec.router.scheduler.replicas",
        "invalid-value",
    ),
    (
        LLM,
        "spec router",
        {"scheduler": {"config": {}}},
        "spec.router.scheduler.config.inline",
        "one-of",
    ),
    (
        LLM,
        "spec router",
        {"scheduler": {"config": {"inline": "text"}}},
        "spec.router.scheduler.config.inline",
        "wrong-type",
    ),
    (
        LLM,
        "spec router",
        {"scheduler": {"config": {"inline": {}}}},
        "spec.router.scheduler.config.inline",
        "invalid-value",
    ),
    (
        LLM,
        "spec router",
        {
            "scheduler": {
                "pool": {
                    "spec": {
                        "selector": {"matchLabels": {"a": "b"}},
                        "targetPorts": [{"number": 8000}, {"number": 8000}],
                        "endpointPickerRef": {"name": "e", "port": {"number": 9002}},
                    }
                }
            }
        },
        "spec.router.scheduler.pool.spec.targetPorts[1].number",
        "duplicate-item",
    ),
    (LLM, "spec model lora", {"adapters": [{"name": "x", "uri": "hf://a/c"}]}, None, None),
    (
        LLM,
        "spec model lora",
        {"adapters": [{"uri": "hf://a/c"}]},
        "spec.model.lora.adapters[0].name",
        "missing-field",
    ),
    (
        OLD,
        "spec model lora",
        {"adapters": [{"name": "x", "uri": "hf://a/c"}, {"name": "x", "uri": "hf://a/d"}]},
        "spec.model.lora.adapters[1].name",
        "duplicate-item",
    ),
    (
        LLM,
        "spec model lora",
        {"adapters": [{"name": "l", "uri": "hf://a/c"}]},
        "spec.model.lora.adapters[0].name",
        "invalid-value",
    ),
    (LLM, "spec model lora", {"maxRank": 0}, "spec.model.lora.maxRank", "out-of-range"),
    (
        LLM,
        "spec model confidential",
        {"enabled": True, "resourceId": "vault://a"},
        "spec.model.confidential.resourceId",
        "invalid-value",
    ),
    (LLM, f"metadata annotations {CLAIM}-device-class", "gpu", None, None),
    (
        LLM,
        "metadata annotations",
        {f"{CLAIM}-device-count": "2"},
        f"metadata.annotations[{CLAIM}-device-class]",
        "missing-field",
    ),
    (
        LLM,
        "metadata annotations",
        {f"{CLAIM}-device-class": "gpu", f"{CLAIM}-device-count": "0"},
        f"metadata.annotations.{CLAIM}-device-count",
        "invalid-value",
    ),
    (CONFIG, "spec baseRefs", [{"name": "a"}], "spec.baseRefs", "not-allowed"),
    (CONFIG, "spec scaling", HPA | KEDA, "spec.scaling.wva", "one-of"),
    (CONFIG, "spec model name", "{{ .Spec.Model.Name }}", None, None),
    (CONFIG, "spec model name", "{{ .Foo", "spec.model.name", "invalid-expression"),
    (CONFIG, "spec model name", "{{ if .Spec.Prefill }}a", "spec.model.name", "invalid-expression"),
]


@pytest.mark.parametrize("base", KSERVE, ids=lambda base: f"{base['kind']} {base['apiVersion']}")
def test_what_the_rows_change_is_accepted(tmp_path: Path, base: dict[str, Any]) -> None:
    answer = judged(tmp_path, base)
    assert (answer.verdict, hits(answer)) == ("accepted", set())


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    [*SMALLER, *SERVICE, *ROUTED],
    ids=[told(b, path, value, reason) for b, path, value, _, reason in SMALLER + SERVICE + ROUTED],
)
def test_kserves_other_kinds(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)


def test_replicas_and_scaling_exclude_each_other(tmp_path: Path) -> None:
    for base in (LLM, OLD, CONFIG):
        both = changed(changed(base, "spec replicas", 1), "spec scaling", HPA)
        assert ("conflict", "spec") in hits(judged(tmp_path, both))


@pytest.mark.parametrize(
    ("prefill", "field"),
    [
        (HPA, None),
        (KEDA, "spec.prefill.scaling"),
        ({"maxReplicas": 2, "wva": {"keda": {}}}, "spec.prefill.scaling.wva"),
    ],
    ids=["the same actuator", "another mode", "another actuator"],
)
def test_decode_and_prefill_are_scaled_in_one_way(
    tmp_path: Path, prefill: dict[str, Any], field: str | None
) -> None:
    decode = changed(LLM, "spec scaling", HPA)
    answer = judged(tmp_path, changed(decode, "spec prefill", {"scaling": prefill}))
    assert hits(answer) == ({("conflict", field)} if field else set())


def test_an_older_version_takes_no_parent_that_is_a_gateway_too(tmp_path: Path) -> None:
    reference = {"name": "gw", "namespace": "n"}
    route = {"http": {"spec": {"parentRefs": [reference]}}}
    router = {"route": route, "gateway": {"refs": [reference]}}
    new, old = (judged(tmp_path, changed(base, "spec router", router)) for base in (LLM, OLD))
    assert (hits(new), old.verdict) == (set(), "refused")


def test_of_a_route_that_is_written_out_only_the_fields_are_judged(tmp_path: Path) -> None:
    router = {"route": {"http": {"spec": {"rules": [{}]}}}}
    assert judged(tmp_path, changed(LLM, "spec router", router)).verdict == "fields-only"
    wrong = {"route": {"http": {"spec": {"rulez": []}}}}
    assert judged(tmp_path, changed(LLM, "spec router", wrong)).verdict == "pruned"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("no template", None),
        ("{{ .Spec.Model.Name }}-{{- .ObjectMeta.Name -}}", None),
        ("{{ ChildName .ObjectMeta.Name `-pool` }}", None),
        ("{{ or .Spec.Parallelism.Data 1 }} {{ shutdownTimeout nil 15 }}", None),
        ("{{/* a comment */}}{{ $x := .Spec }}", None),
        ("a }} b", None),
        ("{{ .Foo", "without"),
        ('{{ ChildName .ObjectMeta.Name "-pool" }}', "backquotes"),
        ("{{ .Foo ; .Bar }}", "bad character U+003B"),
        ("{{ lower .Foo }}", 'function "lower" not defined'),
    ],
)
def test_a_config_is_one_go_template(text: str, wrong: str | None) -> None:
    found = template_error(text)
    assert found is None if wrong is None else wrong in (found or "")


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("{{ if .A }}a{{ else }}b{{ end }}", 0),
        ("{{- range .A -}}", 1),
        ("{{ end }}", -1),
        ("{{ with .A }}{{ if .B }}{{ end }}", 1),
    ],
)
def test_blocks_are_counted(text: str, depth: int) -> None:
    assert open_blocks(text) == depth
