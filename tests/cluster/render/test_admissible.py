"""What is rendered passes strict admission and, in Knative mode, loses nothing to its mask."""

from copy import deepcopy
from typing import Any

import pytest
import yaml

from relume.cluster.render.runtimes import RUNTIMES
from relume.config.durations import go_duration, iso8601_duration
from tests.cluster.render.cases import CASES, rendered
from tests.cluster.render.knative import knative_service, mask
from tests.cluster.render.schemas import problems
from tests.custom_kinds import ORIGINS
from tests.knative_settings import SHIPPED

NAMES = [case.name for case in CASES]
KNATIVE = [case.name for case in CASES if case.options.route != "standard"]
Table = dict[str, Any]


def documents(name: str, *kinds: str) -> list[Table]:
    found = (d for group in rendered(name).documents.values() for d in group)
    return [document for document in found if not kinds or document["kind"] in kinds]


def settings(name: str, config_map: str) -> dict[str, str]:
    text = rendered(name).files.get(f"cluster/{config_map}.yaml")
    return dict(yaml.safe_load(text)["data"]) if text else {}


def revisions(name: str) -> list[Table]:
    """The Knative Services that KServe makes of a rendering."""
    runtimes = {d["metadata"]["name"]: d for d in documents(name, "ClusterServingRuntime")}
    return [
        knative_service(service, runtimes[service["spec"]["predictor"]["model"]["runtime"]])
        for service in documents(name, "InferenceService")
    ]


def pod_of(revision: Table) -> Table:
    spec = dict(revision["spec"]["template"]["spec"])
    for name in ("containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds"):
        del spec[name]
    return spec


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("name", NAMES)
def test_every_document_is_what_its_schema_says(name: str, origin: str) -> None:
    assert [p for document in documents(name) for p in problems(document, origin)] == []


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_every_runtime_is_what_the_schema_says(runtime: Any, origin: str) -> None:
    assert problems(runtime.manifest(), origin) == []


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_schema_check_finds_an_unknown_field_a_wrong_type_and_a_missing_one(
    origin: str,
) -> None:
    (service,) = documents("gpu-kafka", "InferenceService")
    wrong = deepcopy(service)
    wrong["spec"]["predictor"]["gpu"] = 1
    wrong["spec"]["predictor"]["minReplicas"] = "0"
    del wrong["spec"]["predictor"]["model"]["env"][0]["name"]
    assert len(problems(wrong, origin)) == 3
    (template,) = documents("samples-admission", "ResourceClaimTemplate")
    wrong = deepcopy(template)
    wrong["spec"]["spec"]["devices"]["requests"][0]["firstAvailable"][1]["count"] = "2"
    del wrong["spec"]["spec"]["devices"]["requests"][0]["firstAvailable"][0]["deviceClassName"]
    wrong["spec"]["devices"] = []
    assert len(problems(wrong)) == 3


@pytest.mark.parametrize("name", KNATIVE)
def test_knatives_mask_takes_nothing_from_the_pod(name: str) -> None:
    """With the shipped flags and those that the emitted patch turns on (fieldmask.go)."""
    features = {**SHIPPED["features"], **settings(name, "config-features")}
    for revision in revisions(name):
        assert mask(pod_of(revision), features) == pod_of(revision)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("name", KNATIVE)
def test_every_revision_is_what_the_schema_says(name: str, origin: str) -> None:
    assert [p for revision in revisions(name) for p in problems(revision, origin)] == []


@pytest.mark.parametrize("name", KNATIVE)
def test_no_flag_is_asked_for_that_nothing_needs(name: str) -> None:
    asked = settings(name, "config-features")
    for key in asked:
        features = {**SHIPPED["features"], **{k: v for k, v in asked.items() if k != key}}
        assert any(mask(pod_of(r), features) != pod_of(r) for r in revisions(name)), key


def test_the_mask_would_take_claims() -> None:
    (revision,) = revisions("gpu-kafka")
    pod = pod_of(revision)
    pod["resourceClaims"] = [{"name": "device", "resourceClaimTemplateName": "t"}]
    pod["containers"][0]["resources"]["claims"] = [{"name": "device"}]
    kept = mask(pod, dict.fromkeys(SHIPPED["features"], "enabled"))
    assert "resourceClaims" not in kept
    assert "claims" not in kept["containers"][0]["resources"]


@pytest.mark.parametrize("name", KNATIVE)
def test_timeouts_fit_into_each_other(name: str) -> None:
    """activator and queue-proxy < delivery; Knative's maximum covers them all."""
    most = int({**SHIPPED["defaults"], **settings(name, "config-defaults")}[MAX_TIMEOUT])
    for revision in revisions(name):
        spec = revision["spec"]["template"]["spec"]
        notes = revision["spec"]["template"]["metadata"]["annotations"]
        assert spec["timeoutSeconds"] == spec["responseStartTimeoutSeconds"] <= most
        progress = go_duration(notes["serving.knative.dev/progress-deadline"])
        assert progress.is_integer() and progress >= 600
    slowest = max(r["spec"]["template"]["spec"]["timeoutSeconds"] for r in revisions(name))
    if most > int(SHIPPED["defaults"][MAX_TIMEOUT]):
        activator = yaml.safe_load(rendered(name).files["cluster/activator.yaml"])
        assert activator["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == slowest
    default = int(SHIPPED["defaults"]["revision-timeout-seconds"])
    functions = {
        service["metadata"]["name"]: service["spec"]["template"]["spec"].get(
            "timeoutSeconds", default
        )
        for service in documents(name, "Service")
        if service["apiVersion"] == "serving.knative.dev/v1"
    }
    for trigger in documents(name, "Trigger"):
        if trigger["spec"]["subscriber"]["ref"]["name"] == GATEWAY:  # it answers 202 at once
            assert 15 <= iso8601_duration(trigger["spec"]["delivery"]["timeout"]) <= 60
            continue
        longest = functions.get(trigger["spec"]["subscriber"]["ref"]["name"], slowest)
        assert iso8601_duration(trigger["spec"]["delivery"]["timeout"]) > longest


MAX_TIMEOUT = "max-revision-timeout-seconds"
GATEWAY = "relume-gateway"
#: ConfigMaps that the user wrote, for functions, and the jobs gateway's own.
OWN = {
    "tickets": {"webhook-out"},
    **{case.name: {GATEWAY} for case in CASES if case.options.gateway is not None},
}


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_of_the_cluster_is_in_the_base(name: str) -> None:
    (case,) = (case for case in CASES if case.name == name)
    gateways = [] if case.options.gateway is None else [GATEWAY]
    assert [d["metadata"]["name"] for d in documents(name, "Deployment")] == gateways
    assert {d["metadata"]["name"] for d in documents(name, "ConfigMap")} == OWN.get(name, set())
    for file, text in rendered(name).files.items():
        if file.startswith("cluster/") and "config-" in file:
            lines = text.splitlines()
            keys = [i for i, line in enumerate(lines) if line.startswith("  ") and '"' in line]
            assert keys
            assert all(lines[i - 1].startswith("  # ") for i in keys), "each key says why"


@pytest.mark.parametrize("name", NAMES)
def test_kserve_leaves_the_image_alone(name: str) -> None:
    """kserve UpdateImageTag: a digest is left alone, and so is a runtime without a server type."""
    for runtime in documents(name, "ClusterServingRuntime"):
        assert "@sha256:" in runtime["spec"]["containers"][0]["image"]
        assert "annotations" not in runtime["metadata"]
        assert not runtime["metadata"]["name"].startswith("kserve-")
