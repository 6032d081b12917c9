"""`relume conformance`: what a cluster that answers from a table shows of the checklist."""

import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.apply.api import ApiAnswer, Forbidden
from relume.cluster.conformance.checklist import ITEMS, VERSIONS, items_of
from relume.cluster.conformance.examine import examine
from relume.cluster.conformance.product import STATUSES, check, read
from relume.cluster.conformance.report import write

ISVCS = "/apis/serving.kserve.io/v1beta1/inferenceservices"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.serving.kserve.io"
LABEL = {"serving.kserve.io/inferenceservice": "summarize"}


def conditions(**kinds: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": value} for kind, value in kinds.items()]}


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "models"}, **more}


def pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "kserve-container", "env": [{"name": "TOKEN", "value": "s3cret"}]}
    found = named("p", spec={"containers": [container], **spec})
    found["metadata"]["labels"] = LABEL
    return found


GOOD: Mapping[str, Any] = {
    "/apis": {"groups": [{"name": name} for name in ("autoscaling", "custom.metrics.k8s.io")]},
    "/apis/resource.k8s.io/v1": {
        "resources": [
            {"kind": kind}
            for kind in ("DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice")
        ]
    },
    "/apis/resource.k8s.io/v1/resourceslices": [
        {
            "spec": {
                "devices": [
                    {
                        "name": "gpu-0",
                        "attributes": {"gpu.nvidia.com/driverVersion": {"version": "580.65.6"}},
                    }
                ]
            }
        }
    ],
    "/apis/gateway.networking.k8s.io/v1/gatewayclasses": [
        named("istio", status=conditions(Accepted="True"))
    ],
    "/apis/monitoring.coreos.com/v1/podmonitors": [
        named("models", spec={"selector": {"matchLabels": LABEL}})
    ],
    "/api/v1/pods": [pod(resourceClaims=[{"name": "gpu"}])],
    CRD: {"status": conditions(Established="True")},
    ISVCS: [named("summarize", status=conditions(Ready="True"))],
}


class Answers:
    """A cluster as a table of answers; an exception in it is raised."""

    def __init__(self, answers: Mapping[str, Any], *, accepts_broken: bool = False) -> None:
        self.answers = answers
        self.accepts_broken = accepts_broken
        self.sent: list[tuple[str, Mapping[str, str]]] = []

    def get(self, path: str) -> Any:
        answer = self.answers.get(path)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def list(self, path: str, **_: str) -> Sequence[Any] | None:
        found: Sequence[Any] | None = self.get(path)
        return found

    def allowed(self, *_: str) -> bool:
        return True

    def change(self, method: str, path: str, body: Any, *_: str, **query: str) -> ApiAnswer:
        self.sent.append((method, query))
        broken = body["spec"]["predictor"]["minReplicas"] < 0
        refused = broken and not self.accepts_broken
        return ApiAnswer(400 if refused else 201, {"message": "denied"} if refused else body)


def verdicts(api: Answers, version: str = "1.37") -> dict[str, tuple[str, str]]:
    return {each.item.id: (each.seen.outcome, each.seen.saw) for each in examine(api, version)}


def test_each_version_has_the_items_that_it_is_published_with() -> None:
    required = {
        version: {item.id for item in items_of(version) if item.levels[version] == "MUST"}
        for version in VERSIONS
    }
    eight = required["1.37"]
    assert len(eight) == 8
    assert required["1.36"] == eight
    assert required["1.34"] == required["1.35"] == eight | {"dra_support"}
    assert len(items_of("1.37")) == 8 + 7
    assert [item.id for item in ITEMS if item.layer == "ours"] == [
        "advanced_inference_ingress",
        "ai_service_metrics",
        "secure_accelerator_access",
    ]


def test_only_what_was_seen_whole_passes() -> None:
    found = verdicts(Answers(GOOD), "1.35")
    passed = {name for name, (outcome, _) in found.items() if outcome == "pass"}
    assert passed == {"dra_support", "robust_controller"}
    assert not [name for name, (outcome, _) in found.items() if outcome == "fail"]
    assert "580.65.6" in found["driver_runtime_management"][1]


def test_without_a_cluster_nothing_is_known() -> None:
    results = examine(None, "1.37")
    assert {each.seen.outcome for each in results} == {"unknown"}
    assert all(each.evidence is None for each in results)


@pytest.mark.parametrize(
    ("path", "answer", "item", "outcome", "saw"),
    [
        ("/apis/resource.k8s.io/v1", None, "dra_support", "fail", "does not serve DeviceClass"),
        (
            "/apis/resource.k8s.io/v1/resourceslices",
            [],
            "dra_support",
            "fail",
            "no driver publishes",
        ),
        (
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
            None,
            "ai_inference",
            "fail",
            "is not served",
        ),
        (
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
            [named("x")],
            "ai_inference",
            "fail",
            "no controller has accepted",
        ),
        ("/apis", {"groups": [{"name": "autoscaling"}]}, "pod_autoscaling", "fail", "neither"),
        (
            "/apis/monitoring.coreos.com/v1/podmonitors",
            [],
            "ai_service_metrics",
            "fail",
            "chooses the pods of models",
        ),
        (
            "/api/v1/pods",
            [pod(volumes=[{"name": "d", "hostPath": {"path": "/dev/nvidia0"}}])],
            "secure_accelerator_access",
            "fail",
            "models/p: hostPath /dev/nvidia0",
        ),
        (
            "/api/v1/pods",
            [pod(initContainers=[{"name": "i", "securityContext": {"privileged": True}}])],
            "secure_accelerator_access",
            "fail",
            "container i is privileged",
        ),
        (
            "/api/v1/pods",
            [
                pod(
                    initContainers=[
                        {"name": "i", "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}
                    ]
                )
            ],
            "secure_accelerator_access",
            "fail",
            "sets NVIDIA_VISIBLE_DEVICES",
        ),
        ("/api/v1/pods", [], "secure_accelerator_access", "unknown", "no pod"),
        (
            "/api/v1/pods",
            Forbidden("/api/v1/pods: may not be read"),
            "secure_accelerator_access",
            "unknown",
            "may not be read",
        ),
        (CRD, None, "robust_controller", "fail", "not established"),
        (ISVCS, [named("a")], "robust_controller", "unknown", "none is ready"),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    path: str, answer: Any, item: str, outcome: str, saw: str
) -> None:
    found = verdicts(Answers({**GOOD, path: answer}), "1.35")[item]
    assert found[0] == outcome
    assert saw in found[1]


def test_a_webhook_that_takes_a_broken_service_fails_the_item_and_nothing_is_kept() -> None:
    api = Answers(GOOD, accepts_broken=True)
    outcome, saw = verdicts(api)["robust_controller"]
    assert (outcome, saw) == ("fail", "an InferenceService with minReplicas -1 is accepted")
    assert all(query["dryRun"] == "All" for _, query in api.sent)


def test_the_report_holds_every_item_and_the_hash_of_each_file(tmp_path: Path) -> None:
    results = examine(Answers(GOOD), "1.37")
    write(tmp_path, results, version="1.37", cluster="prod")
    report = json.loads((tmp_path / "report.json").read_text())
    for entry in report["items"]:
        if entry["evidence"] is not None:
            content = (tmp_path / entry["evidence"]["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["evidence"]["sha256"]
    everything = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert b"s3cret" not in everything
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert [case.get("name") for case in suite] == [item.id for item in items_of("1.37")]
    assert (tmp_path / "report.html").read_text().count("<tr>") == 1 + len(results)
    written = yaml.safe_load((tmp_path / "PRODUCT-fragment.yaml").read_text())["spec"]
    (operator,) = written["operator"]
    assert operator["status"] == "Implemented"
    assert operator["notes"].startswith("Layer: KServe.")


def whole_product(folder: Path, version: str) -> dict[str, Any]:
    """A PRODUCT.yaml that keeps every rule."""
    (folder / "evidence.json").write_text("{}")
    names = "kubernetesVersion platformName platformVersion vendorName websiteUrl documentationUrl"
    more = ["productLogoUrl", "description", "contactEmailAddress"]
    metadata = dict.fromkeys([*names.split(), *more], "something")
    base = "https://github.com/cncf/k8s-conformance/tree/main/v1.37/base"
    spec: dict[str, list[Any]] = {}
    for item in items_of(version):
        entry = {"id": item.id, "level": item.levels[version], "status": "Implemented"}
        spec.setdefault(item.category, []).append({**entry, "evidence": ["evidence.json"]})
    return {"metadata": {**metadata, "k8sConformanceUrl": base}, "spec": spec}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_product_that_keeps_the_rules_has_no_problem(tmp_path: Path, version: str) -> None:
    assert list(check(whole_product(tmp_path, version), version, tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda p: p["metadata"].pop("vendorName"), "metadata.vendorName: is missing"),
        (lambda p: p["metadata"].update(vendorName="[vendor]"), "still has the placeholder"),
        (lambda p: p["metadata"].update(k8sConformanceUrl="https://x"), "k8sConformanceUrl: write"),
        (lambda p: p["spec"]["operator"].clear(), "spec.operator.robust_controller: is missing"),
        (
            lambda p: p["spec"]["operator"][0].update(status="Partially Implemented"),
            "a MUST is Implemented",
        ),
        (lambda p: p["spec"]["operator"][0].update(status="yes"), f"one of {', '.join(STATUSES)}"),
        (lambda p: p["spec"]["operator"][0].update(level="SHOULD"), "level: is MUST"),
        (lambda p: p["spec"]["operator"][0].update(evidence=[]), "evidence: name what shows it"),
        (lambda p: p["spec"]["operator"][0].update(evidence=["no.txt"]), "there is no file no.txt"),
        (lambda p: p["spec"].update(more=[{"id": "x"}]), "spec.more.x: is no item"),
        (
            lambda p: p["spec"]["accelerators"][0].update(status="N/A", notes=" "),
            "N/A needs a reason",
        ),
    ],
)
def test_each_rule_that_a_product_breaks_is_named(
    tmp_path: Path, change: Any, problem: str
) -> None:
    product = whole_product(tmp_path, "1.37")
    change(product)
    file = tmp_path / "PRODUCT.yaml"
    file.write_text(yaml.safe_dump(product))
    (found,) = check(read(file), "1.37", tmp_path)
    assert problem in found
