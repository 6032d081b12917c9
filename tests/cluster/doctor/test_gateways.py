"""A jobs gateway among the documents: what the doctor says of it, and of what does not use it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.doctor import Diagnosis, examine
from relume.cluster.doctor.nats import named_nats
from relume.cluster.render import GatewayOptions, Options
from relume.cluster.render.folder import write
from tests.cluster.render.cases import GPU_SAMPLES, rendered
from tests.cluster.render.rendering import GPU, broker, render_text, service, trigger

Change = Callable[[dict[str, Any]], None]
REASONS = {
    "gateway-open",
    "events-open",
    "gateway-alone",
    "one-copy",
    "no-nats-credentials",
    "connection-held",
}


def folder_of(folder: Path) -> list[dict[str, Any]]:
    """The documents of a rendering with a gateway."""
    options = Options(broker="kafka", gateway=GatewayOptions(nats_credentials_secret="nats"))
    rendering = render_text(folder, service(model=GPU), broker(), trigger(), options=options)
    found = [d for name, d in rendering.documents.items() if not name.endswith("tion.yaml")]
    text = yaml.safe_dump_all([document for group in found for document in group])
    return list(yaml.safe_load_all(text))


def changed(folder: Path, kind: str, change: Change) -> list[Diagnosis]:
    """What the doctor says where `change` was made to the gateway's document of that kind."""
    documents = folder_of(folder)
    for document in documents:
        ours = document["metadata"]["name"] == "relume-gateway" or kind == "Trigger"
        if document["kind"] == kind and ours:
            change(document)
    kept = [document for document in documents if "gone" not in document["metadata"]]
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump_all(kept, sort_keys=False))
    return examine([file])


def reasons(diagnoses: list[Diagnosis]) -> set[str]:
    return {f.reason for one in diagnoses for f in one.findings} & REASONS


def gone(document: dict[str, Any]) -> None:
    document["metadata"]["gone"] = True


def nothing(document: dict[str, Any]) -> None:
    """The rendering as it is."""


def arguments(change: Callable[[list[str]], list[str]]) -> Change:
    def apply(document: dict[str, Any]) -> None:
        container = document["spec"]["template"]["spec"]["containers"][0]
        container["args"] = change(container["args"])

    return apply


def without(*options: str) -> Change:
    return arguments(lambda args: [a for a in args if a.partition("=")[0] not in options])


def spec(**fields: Any) -> Change:
    return lambda document: document["spec"].update(fields)


def held(document: dict[str, Any]) -> None:
    document["spec"]["delivery"]["timeout"] = "PT15M"


def straight(document: dict[str, Any]) -> None:
    document["spec"]["subscriber"] = {
        "ref": {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "name": "chat",
        }
    }


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("Deployment", nothing, set()),
        ("Deployment", without("--keys"), {"gateway-open"}),
        (
            "Deployment",
            arguments(lambda args: ["--oidc-issuer=https://a", *args[1:]]),
            set(),
        ),
        ("Service", spec(type="LoadBalancer"), {"events-open"}),
        ("Service", spec(type="NodePort"), {"events-open"}),
        ("NetworkPolicy", gone, {"events-open"}),
        ("NetworkPolicy", spec(podSelector={"matchLabels": {"a": "b"}}), {"events-open"}),
        ("NetworkPolicy", spec(podSelector={}), set()),
        ("Deployment", spec(replicas=1), {"gateway-alone"}),
        ("Deployment", lambda document: document["spec"].pop("replicas"), {"gateway-alone"}),
        ("Deployment", without("--replicas"), set()),
        (
            "Deployment",
            arguments(lambda args: [a.replace("--replicas=3", "--replicas=1") for a in args]),
            {"one-copy"},
        ),
        ("Deployment", without("--nats-creds"), {"no-nats-credentials"}),
        ("Trigger", held, {"connection-held"}),
        ("Trigger", straight, {"connection-held"}),
    ],
)
def test_what_is_wrong_with_a_gateway_is_said(
    kind: str, change: Change, expected: set[str], tmp_path: Path
) -> None:
    assert reasons(changed(tmp_path, kind, change)) == expected


def test_a_public_gateway_without_access_is_an_error_at_its_arguments(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        without("--keys", "--host")(document)

    documents = folder_of(tmp_path)
    for document in documents:
        if document["metadata"]["name"] == "relume-gateway":
            if document["kind"] == "Deployment":
                change(document)
            if document["kind"] == "Service":
                document["spec"]["type"] = "LoadBalancer"
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    (finding,) = (f for one in examine([file]) for f in one.findings if f.reason == "gateway-open")
    assert finding.severity == "error"
    assert finding.field == "spec.template.spec.containers[0].args"
    assert "LoadBalancer Service relume-gateway" in finding.message


def test_an_ingress_reaches_it_too(tmp_path: Path) -> None:
    documents = folder_of(tmp_path)
    backend = {"service": {"name": "relume-gateway", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i", "namespace": "relume"},
        "spec": {"rules": [{"host": "a.example", "http": {"paths": [path]}}]},
    }
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all([*documents, ingress]))
    (finding,) = (f for one in examine([file]) for f in one.findings if f.reason == "events-open")
    assert "the Ingress i reaches it" in finding.message


def test_options_may_be_written_as_two_words_and_by_the_command(tmp_path: Path) -> None:
    words = ["f.yaml", "--nats", "nats://a:1", "--nats", "nats://b:1", "--replicas", "3", "--keys"]
    container = {"name": "g", "image": "i", "command": ["relume", "gateway"], "args": words}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "other"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}},
        },
    }
    file = tmp_path / "d.yaml"
    file.write_text(yaml.safe_dump(deployment))
    assert named_nats([file]) == (("nats://a:1", "nats://b:1"), 3)
    assert reasons(examine([file])) == {"no-nats-credentials"}
    words[1:] = ["--nats=nats://a:1,nats://b:1", "--replicas=1"]
    file.write_text(yaml.safe_dump(deployment))
    assert named_nats([file]) == (("nats://a:1", "nats://b:1"), 1)


def test_without_a_gateway_no_trigger_is_blamed(tmp_path: Path) -> None:
    assert not reasons(examine([GPU_SAMPLES]))
    assert named_nats([GPU_SAMPLES]) == ((), 3)
    assert named_nats([]) == ((), 3)


def test_the_folder_of_a_rendering_names_its_nats(tmp_path: Path) -> None:
    write(rendered("gateway-kafka"), tmp_path / "out")
    urls, copies = named_nats([tmp_path / "out"])
    assert urls == ("nats://n1.example.com:4222", "nats://n2.example.com:4222")
    assert copies == 3


@pytest.mark.parametrize(
    ("filters", "loops"),
    [
        ("", True),
        ("filters: [{exact: {type: relume.inference.response}}]", True),
        ("filters: [{exact: {type: com.example.ask}}]", False),
        ("filters: [{exact: {source: /namespaces/default/inferenceservices/other}}]", False),
    ],
)
def test_replies_that_come_by_the_gateway_can_loop_too(
    filters: str, loops: bool, tmp_path: Path
) -> None:
    options = Options(broker="kafka", gateway=GatewayOptions(nats_credentials_secret="nats"))
    text = service(model=GPU), broker(), trigger(filters)
    write(render_text(tmp_path, *text, options=options), tmp_path / "out")
    found = [f for one in examine([tmp_path / "out"]) for f in one.findings]
    assert ("reply-loop" in {f.reason for f in found}) is loops
    if loops:
        assert any("come back to chat" in f.message for f in found)
