"""What cannot work on a cluster is refused with file, line and field, before a file is written."""

from pathlib import Path
from typing import Any

import pytest

from relume.base.errors import InvalidManifest
from relume.cluster.render import Options
from tests.cluster.render.rendering import GPU, broker, find, limits, render_text, service, trigger

MODEL = "spec.predictor.model"
LIMITS = f"{MODEL}.resources.limits"
CLASS = "deviceclass.resource.kubernetes.io/"
CLAIMS = "resourceClaims: [{name: gpu, resourceClaimTemplateName: t}]"
FALLBACK = "relume.dev/fallbacks: "

KNATIVE: list[tuple[str, dict[str, str], str, str]] = [
    ("claims of the pod", {"predictor": CLAIMS}, "spec.predictor.resourceClaims", "no field"),
    (
        "claims of the container",
        {"model": "resources: {claims: [{name: gpu}]}"},
        f"{MODEL}.resources.claims",
        "become ready without a device",
    ),
    (
        "a grace period",
        {"predictor": "terminationGracePeriodSeconds: 60"},
        "spec.predictor.terminationGracePeriodSeconds",
        "grace period",
    ),
    ("a node", {"predictor": "nodeName: x"}, "spec.predictor.nodeName", "no such field"),
    ("a second port", {"model": "ports: [{containerPort: 9}]"}, f"{MODEL}.ports[0]", "8080"),
    ("a life cycle", {"model": "lifecycle: {}"}, f"{MODEL}.lifecycle", "no such field"),
    (
        "a privileged container",
        {"model": "securityContext: {privileged: true}"},
        f"{MODEL}.securityContext.privileged",
        "no such field",
    ),
]
ANYWHERE: list[tuple[str, dict[str, str], str, str]] = [
    ("no whole device", {"model": limits("nvidia.com/gpu", "0.5")}, f"{LIMITS}.nvidia.com/gpu", ""),
    ("no device", {"model": limits("nvidia.com/gpu", "0")}, f"{LIMITS}.nvidia.com/gpu", "from 1"),
    (
        "devices of two vendors",
        {"model": "resources: {limits: {nvidia.com/gpu: 1, amd.com/gpu: 1}}"},
        f"{LIMITS}.amd.com/gpu",
        "one vendor",
    ),
    (
        "two MIG devices",
        {"model": limits(CLASS + "llm-mig-1g-10gb", "2")},
        f"{LIMITS}.{CLASS}llm-mig-1g-10gb",
        "larger profile",
    ),
    (
        "a MIG device of a plugin beside a GPU",
        {"model": "resources: {limits: {nvidia.com/gpu: 1, nvidia.com/mig-1g.5gb: 1}}"},
        f"{LIMITS}.nvidia.com/mig-1g.5gb",
        "larger profile",
    ),
    (
        "two MIG devices to fall back on",
        {"model": GPU, "annotations": FALLBACK + "llm-mig-1g-10gb=2"},
        "metadata.annotations.relume.dev/fallbacks",
        "larger profile",
    ),
    (
        "a request without its limit",
        {"model": "resources: {requests: {nvidia.com/gpu: 1}}"},
        f"{MODEL}.resources.requests.nvidia.com/gpu",
        "equal the limit",
    ),
    (
        "a class that nobody knows",
        {"model": limits(CLASS + "mine")},
        f"{LIMITS}.{CLASS}mine",
        "name the runtime",
    ),
    ("a TPU", {"model": limits(CLASS + "llm-tpu-v6e")}, f"{LIMITS}.{CLASS}llm-tpu-v6e", "Google"),
    (
        "a GPU runtime without a GPU",
        {"model": "runtime: relume-vllm"},
        f"{MODEL}.runtime",
        "ask for none",
    ),
    (
        "the CPU runtime with a GPU",
        {"model": f"{GPU}, runtime: relume-vllm-cpu"},
        f"{MODEL}.runtime",
        "runs on the CPU",
    ),
    (
        "another vendor's runtime",
        {"model": f"{GPU}, runtime: relume-vllm-amd"},
        f"{MODEL}.runtime",
        "not NVIDIA",
    ),
    (
        "fallbacks of nothing",
        {"annotations": FALLBACK + "llm-gpu-16g"},
        "metadata.annotations.relume.dev/fallbacks",
        "beside one device",
    ),
    (
        "fallbacks that cannot be read",
        {"model": GPU, "annotations": FALLBACK + "'llm-gpu-16g=x'"},
        "metadata.annotations.relume.dev/fallbacks",
        "CLASS=COUNT",
    ),
    (
        "another vendor's fallback",
        {"model": GPU, "annotations": FALLBACK + "llm-amd-192g"},
        "metadata.annotations.relume.dev/fallbacks",
        "AMD",
    ),
    (
        "eight fallbacks, nine alternatives",
        {"model": GPU, "annotations": FALLBACK + "'" + ",".join(["llm-gpu-16g"] * 8) + "'"},
        "metadata.annotations.relume.dev/fallbacks",
        "at most 7",
    ),
    (
        "a budget that is no duration",
        {"annotations": "relume.dev/cold-start-budget: '600'"},
        "metadata.annotations.relume.dev/cold-start-budget",
        "unit",
    ),
]
OWN_CLAIM = (
    "a claim of the user's own, on an unknown device",
    {"predictor": CLAIMS},
    "spec.predictor.resourceClaims",
    "name the runtime",
)
STANDARD: list[tuple[str, dict[str, str], str, str]] = [
    (
        "a claim with the name of ours",
        {"model": GPU, "predictor": CLAIMS.replace("name: gpu", "name: device")},
        "spec.predictor.resourceClaims[0].name",
        "choose another name",
    ),
    ("a target", {"predictor": "scaleTarget: 4"}, "spec.predictor.scaleTarget", "CPU or memory"),
    ("a metric", {"predictor": "scaleMetric: rps"}, "spec.predictor.scaleMetric", "CPU or memory"),
    (
        "a device plugin's MIG slice",
        {"model": limits("nvidia.com/mig-1g.10gb")},
        f"{LIMITS}.nvidia.com/mig-1g.10gb",
        "needs a DeviceClass",
    ),
]


def refused(tmp_path: Path, parts: dict[str, str], options: Options) -> InvalidManifest:
    with pytest.raises(InvalidManifest) as error:
        render_text(tmp_path, service(**parts), options=options)
    assert error.value.file == tmp_path / "m.yaml"
    assert 1 <= error.value.line <= 4
    return error.value


@pytest.mark.parametrize(
    ("route", "parts", "field", "why"),
    [
        pytest.param(route, *case[1:], id=f"{route}: {case[0]}")
        for route, cases in (
            ("extended-resource", [*KNATIVE, *ANYWHERE]),
            ("admission", [*KNATIVE, *ANYWHERE, STANDARD[-1]]),
            ("standard", [*ANYWHERE, OWN_CLAIM, *STANDARD]),
        )
        for case in cases
    ],
)
def test_it_is_refused_at_its_field(
    route: Any, parts: dict[str, str], field: str, why: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, parts, Options(route))
    assert error.field == field
    assert why in str(error)


@pytest.mark.parametrize("parts", [case[1] for case in KNATIVE if case[0] != "a second port"])
def test_standard_mode_takes_what_knative_has_no_field_for(
    parts: dict[str, str], tmp_path: Path
) -> None:
    runtime = {"predictor": parts.get("predictor", ""), "model": parts.get("model", "")}
    runtime["model"] = ", ".join(filter(None, (runtime["model"], "runtime: relume-vllm-cpu")))
    render_text(tmp_path, service(**runtime), options=Options("standard"))


def test_a_claim_of_the_users_own_stays_in_standard_mode(tmp_path: Path) -> None:
    text = service(CLAIMS, "runtime: relume-vllm, resources: {claims: [{name: gpu}]}")
    rendering = render_text(tmp_path, text, options=Options("standard"))
    made = find(rendering, "InferenceService")["spec"]["predictor"]
    assert made["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "t"}]
    assert made["model"]["resources"]["claims"] == [{"name": "gpu"}]


@pytest.mark.parametrize("where", ["folder", "'file:///models/a'"])
def test_a_folder_of_this_machine_is_refused(where: str, tmp_path: Path) -> None:
    text = service().replace("'hf://a/b'", where)
    with pytest.raises(InvalidManifest, match="a folder of this machine is not there") as error:
        render_text(tmp_path, text)
    assert error.value.field == f"{MODEL}.storageUri"


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ("[{prefix: {type: a}}]", "spec.filters[0]"),
        ("[{exact: {type: a}}, {not: {exact: {type: b}}}]", "spec.filters[1]"),
        ("[{exact: {type: a}}, {exact: {type: b}}]", "spec.filters[1].exact.type"),
    ],
)
def test_filters_that_rabbitmq_cannot_compare_are_refused(
    filters: str, field: str, tmp_path: Path
) -> None:
    documents = (service(), broker(), trigger(f"filters: {filters}"))
    with pytest.raises(InvalidManifest) as error:
        render_text(tmp_path, *documents, options=Options(broker="rabbitmq"))
    assert error.value.field == field
    render_text(tmp_path, *documents, options=Options(broker="kafka"))
