"""`relume render --llm-d`: pools, objectives and routes are what their APIs say, and fit together.

The CRDs of the Gateway API's extension and of llm-d are not among the published schemas that the
other tests use, so their rules are written here: gateway-api-inference-extension 84436a96,
config/crd/bases/inference.networking.k8s.io_inferencepools.yaml; llm-d-router ebab6879,
config/crd/bases/llm-d.ai_inferenceobjectives.yaml; HTTPRoute of the Gateway API v1.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.base.errors import InvalidInput
from relume.cluster.render import LlmDOptions, Options, Rendering, render
from tests.cluster.render.cases import CASES, rendered

NAMES = [case.name for case in CASES if case.options.llm_d is not None]
KINDS = {
    "InferencePool": "inference.networking.k8s.io/v1",
    "InferenceObjective": "llm-d.ai/v1alpha2",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
}
Table = dict[str, Any]

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: chat, namespace: ai}
spec:
  predictor:
    minReplicas: 1
    model: {modelFormat: {name: vLLM}, storageUri: "hf://org/model"}
"""
TRANSFORMER = '  transformer: {containers: [{image: "example.com/t@sha256:1"}]}\n'


def of_kind(rendering: Rendering, kind: str) -> list[Table]:
    every: list[Any] = [each for group in rendering.documents.values() for each in group]
    return [document for document in every if document["kind"] == kind]


def named(document: Table) -> tuple[str, str]:
    """The namespace of a document, and the name of the service that it belongs to."""
    name = document["metadata"]["name"]
    if document["kind"] == "HTTPRoute":
        assert name.endswith("-pool")  # the name of the service is that of KServe's own route
    name = name.removesuffix("-pool")
    return document["metadata"].get("namespace", "default"), name


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_of_each_for_each_service(name: str) -> None:
    services = {named(each) for each in of_kind(rendered(name), "InferenceService")}
    assert services
    for kind, version in KINDS.items():
        found = of_kind(rendered(name), kind)
        assert {named(each) for each in found} == services
        assert {each["apiVersion"] for each in found} == {version}
        assert all(each.keys() == {"apiVersion", "kind", "metadata", "spec"} for each in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_is_what_its_api_says(name: str) -> None:
    for pool in of_kind(rendered(name), "InferencePool"):
        spec = pool["spec"]
        assert spec.keys() == {"selector", "targetPorts", "appProtocol", "endpointPickerRef"}
        assert spec["selector"].keys() == {"matchLabels"}
        for value in spec["selector"]["matchLabels"].values():
            assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value)
        ports = [each["number"] for each in spec["targetPorts"]]
        assert 1 <= len(ports) <= 8 and len(set(ports)) == len(ports)
        assert ports == ([8080] if name == "llm-d-standard" else [8012])
        assert spec["appProtocol"] in ("http", "kubernetes.io/h2c")
        picker = spec["endpointPickerRef"]
        assert picker.keys() == {"name", "port", "failureMode"}  # a Service needs its port
        assert picker["port"] == {"number": 9002}
        assert picker["failureMode"] in ("FailOpen", "FailClose")


@pytest.mark.parametrize("name", NAMES)
def test_objectives_and_routes_lead_to_a_pool_that_is_there(name: str) -> None:
    pools = {named(each) for each in of_kind(rendered(name), "InferencePool")}
    for objective in of_kind(rendered(name), "InferenceObjective"):
        spec = objective["spec"]
        assert spec["priority"] == 0
        to = spec["poolRef"]
        assert (to["group"], to["kind"]) == ("inference.networking.k8s.io", "InferencePool")
        assert (named(objective)[0], to["name"]) in pools
    for route in of_kind(rendered(name), "HTTPRoute"):
        (rule,) = route["spec"]["rules"]
        (to,) = rule["backendRefs"]
        assert (to["group"], to["kind"]) == ("inference.networking.k8s.io", "InferencePool")
        assert (named(route)[0], to["name"]) in pools
        (match,) = rule["matches"]
        assert match["path"] == {"type": "PathPrefix", "value": "/" + "/".join(named(route))}
        (parent,) = route["spec"]["parentRefs"]
        gateway = f"{parent['namespace']}/{parent['name']}"
        (case,) = (case for case in CASES if case.name == name)
        assert case.options.llm_d is not None and gateway == case.options.llm_d.gateway


@pytest.mark.parametrize("name", NAMES)
def test_a_gateway_waits_as_long_as_the_service_may_take(name: str) -> None:
    timeouts = {
        named(each): each["spec"]["predictor"]["timeout"]
        for each in of_kind(rendered(name), "InferenceService")
    }
    for route in of_kind(rendered(name), "HTTPRoute"):
        (rule,) = route["spec"]["rules"]
        assert rule["timeouts"] == {"request": f"{timeouts[named(route)]}s"}


@pytest.mark.parametrize("name", NAMES)
def test_the_pickers_file_names_only_plugins_that_it_has(name: str) -> None:
    files = [file for file in rendered(name).files if file.startswith("llm-d/")]
    assert len(files) == len(of_kind(rendered(name), "InferencePool"))
    for file in files:
        config = yaml.safe_load(rendered(name).files[file])
        assert (config["apiVersion"], config["kind"]) == (
            "llm-d.ai/v1alpha1",
            "EndpointPickerConfig",
        )
        known = {each.get("name", each["type"]): each for each in config["plugins"]}
        (profile,), layer = config["schedulingProfiles"], config["dataLayer"]
        used = [*profile["plugins"], *layer["sources"], *layer["sources"][0]["extractors"]]
        assert {each["pluginRef"] for each in used} <= known.keys()
        # Read past the queue-proxy, which counts requests.
        scraped = known["metrics-data-source"].get("parameters")
        assert scraped == (None if name == "llm-d-standard" else {"port": 8080})


@pytest.mark.parametrize("name", NAMES)
def test_the_gateway_and_the_picker_reach_the_pods(name: str) -> None:
    for pool in of_kind(rendered(name), "InferencePool"):
        labels = pool["spec"]["selector"]["matchLabels"]
        (policy,) = (
            each for each in of_kind(rendered(name), "NetworkPolicy") if named(each) == named(pool)
        )
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        (port,) = (each["number"] for each in pool["spec"]["targetPorts"])
        (parent,) = of_kind(rendered(name), "HTTPRoute")[0]["spec"]["parentRefs"]
        for peer, wanted in ((parent["namespace"], port), ("llm-d-router-gateway", 8080)):
            rules = [
                rule
                for rule in policy["spec"]["ingress"]
                if wanted in {each["port"] for each in rule["ports"]}
                and (peer in str(rule["from"]) or {"podSelector": {}} in rule["from"])
            ]
            assert rules, (peer, wanted)


def test_a_pool_that_can_be_empty_is_told(tmp_path: Path) -> None:
    file = tmp_path / "it.yaml"
    options = Options(llm_d=LlmDOptions())
    for replicas, told in (("0", 1), ("1", 0)):
        file.write_text(SERVICE.replace("minReplicas: 1", f"minReplicas: {replicas}"))
        notes = [str(n) for n in render([file], options).notes if "pool is empty" in str(n)]
        assert len(notes) == told
        assert all(note.startswith(f"{file}:6: spec.predictor.minReplicas: ") for note in notes)


def test_a_service_with_a_transformer_has_no_pool(tmp_path: Path) -> None:
    file = tmp_path / "it.yaml"
    file.write_text(SERVICE + TRANSFORMER)
    with pytest.raises(InvalidInput, match="no InferenceService in these files that can be a pool"):
        render([file], Options(llm_d=LlmDOptions()))
    other = tmp_path / "other.yaml"
    other.write_text(SERVICE.replace("name: chat", "name: other"))
    both = render([file, other], Options(llm_d=LlmDOptions()))
    assert [named(each) for each in of_kind(both, "InferencePool")] == [("ai", "other")]
    assert any("llm-d would go past this" in str(note) for note in both.notes)


@pytest.mark.parametrize("gateway", ["", "name", "a/", "/b", "A/b", "a/b/c"])
def test_a_gateway_is_a_namespace_and_a_name(gateway: str) -> None:
    with pytest.raises(InvalidInput, match="write NAMESPACE/NAME of a Gateway"):
        LlmDOptions(gateway)


def test_without_the_option_there_is_no_pool() -> None:
    without = [case.name for case in CASES if case.options.llm_d is None]
    assert without
    assert not any(of_kind(rendered(name), kind) for name in without for kind in KINDS)


TRIGGER = """\
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: ask, namespace: ai}
spec:
  broker: events
  subscriber:
    ref: {apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, name: chat}
"""


def test_a_trigger_to_a_pool_posts_to_the_route_of_the_pool(tmp_path: Path) -> None:
    file = tmp_path / "it.yaml"
    file.write_text(SERVICE + TRIGGER)
    options = LlmDOptions(url="http://gateway.kserve.svc.cluster.local")
    rendering = render([file], Options(llm_d=options))
    (trigger,) = of_kind(rendering, "Trigger")
    (route,) = of_kind(rendering, "HTTPRoute")
    (match,) = route["spec"]["rules"][0]["matches"]
    assert trigger["spec"]["subscriber"] == {"uri": f"{options.url}{match['path']['value']}/"}
    assert trigger["spec"]["delivery"]["timeout"] == "PT610S"  # as long as its service may take
    for without in (Options(), Options(llm_d=LlmDOptions())):
        with pytest.raises(
            InvalidInput, match=r"it.yaml:15: .*kind: .*add --llm-d and --llm-d-url"
        ):
            render([file], without)


@pytest.mark.parametrize("url", ["gateway", "http://", "http://a/b", "nats://a"])
def test_the_url_of_a_gateway_has_no_path(url: str) -> None:
    with pytest.raises(InvalidInput, match="write http://HOST"):
        LlmDOptions(url=url)
