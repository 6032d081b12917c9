"""The jobs gateway on a cluster: its documents, the Triggers that deliver to it, its options."""

from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from relume.base.errors import InvalidInput
from relume.cli.main import run
from relume.cluster.render import BROKERS, GatewayOptions, Options, Rendering
from relume.cluster.render.options import BrokerClass, WrongGatewayOption
from relume.config import Plan
from relume.config.loader import load_plan
from tests.cluster.render.cases import CASES, SAMPLES, rendered
from tests.cluster.render.rendering import (
    GPU,
    broker,
    find,
    limits,
    render_text,
    service,
    trigger,
    value_of,
)

NAME = "relume-gateway"
GATEWAY = GatewayOptions(nats_credentials_secret="nats")
GATEWAYS = [case.name for case in CASES if case.options.gateway is not None]
KAFKA = "http://kafka-broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}"
Output = pytest.CaptureFixture[str]


def made(
    folder: Path, *manifests: str, kind: BrokerClass | None = "kafka", **more: Any
) -> Rendering:
    gateway = GatewayOptions(nats_credentials_secret="nats", **more)
    return render_text(folder, *manifests, options=Options(broker=kind, gateway=gateway))


def pod_of(rendering: Rendering) -> Any:
    return find(rendering, "Deployment")["spec"]["template"]["spec"]


def arguments(rendering: Rendering) -> list[str]:
    (container,) = pod_of(rendering)["containers"]
    listed: list[str] = container["args"]
    return listed


def served(rendering: Rendering, folder: Path) -> Plan:
    """What the gateway reads from its ConfigMap."""
    file = folder / "services.yaml"
    file.write_text(find(rendering, "ConfigMap", NAME)["data"]["services.yaml"])
    return load_plan([file])


def egress(rendering: Rendering, port: int) -> list[Any]:
    """The peers that are reached on `port`, None for everybody."""
    found = find(rendering, "NetworkPolicy", NAME)["spec"]["egress"]
    return [
        way.get("to") for way in found if any(one["port"] == port for one in way.get("ports", ()))
    ]


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_gateway_reads_every_service_that_a_trigger_sends_to_it(
    name: str, tmp_path: Path
) -> None:
    plan = served(rendered(name), tmp_path)
    known = {(one.namespace, one.name) for one in plan.services}
    paths = [
        document["spec"]["subscriber"]["uri"].split("/")[2:4]
        for group in rendered(name).documents.values()
        for document in group
        if document["kind"] == "Trigger" and document["spec"]["subscriber"]["ref"]["name"] == NAME  # type: ignore[call-overload,index]
    ]
    assert paths
    assert {(namespace, service) for namespace, service in paths} <= known
    assert plan.cannot_run == ()


@pytest.mark.parametrize("name", GATEWAYS)
def test_every_trigger_of_a_model_delivers_to_the_gateway(name: str) -> None:
    for group in rendered(name).documents.values():
        for document in group:
            if document["kind"] == "Trigger":
                ref = document["spec"]["subscriber"]["ref"]  # type: ignore[call-overload,index]
                assert ref["kind"] == "Service"


def test_what_the_gateway_knows_of_a_service(tmp_path: Path) -> None:
    args = "args: [--served-model-name, big, '$(OTHER)', --max-model-len=9]"
    args += ", env: [{name: A, value: b}]"
    rendering = made(
        tmp_path,
        service("maxReplicas: 3, containerConcurrency: 7, timeout: 600", f"{GPU}, {args}"),
        broker(),
        trigger(),
    )
    plan = served(rendering, tmp_path)
    (one,) = plan.services
    assert (one.namespace, one.name) == ("default", "chat")
    assert (one.max_replicas, one.container_concurrency) == (3, 7)
    assert one.args == ("--served-model-name", "chat", "big")
    assert one.env == {}
    assert "hf://a/b" not in rendering.files["base/relume/gateway.yaml"]


def test_other_services_make_other_pods(tmp_path: Path) -> None:
    def digest(concurrency: int) -> object:
        text = service(f"containerConcurrency: {concurrency}", GPU)
        template = find(made(tmp_path, text), "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["relume.dev/services"]

    assert digest(1) == digest(1) != digest(2)


def test_a_trigger_delivers_to_the_route_and_names_its_broker(tmp_path: Path) -> None:
    text = trigger().replace("name: chat}}", "name: chat}, uri: '/v1/embeddings?a=b'}")
    rendering = made(tmp_path, service(model=GPU), broker(), text)
    subscriber, rule = value_of(rendering, "Trigger", "spec.subscriber")
    assert rule == "gateway-door"
    assert subscriber["ref"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "name": NAME,
        "namespace": "relume",
    }
    assert subscriber["uri"] == "/events/default/chat/v1/embeddings?a=b&broker=default/b"
    without = made(tmp_path, service(model=GPU), broker(), trigger())
    uri = find(without, "Trigger")["spec"]["subscriber"]["uri"]
    assert uri == "/events/default/chat/?broker=default/b"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", {"timeout": "PT30S", "retry": 10, "backoffPolicy": "exponential"}),
        ("timeout: PT310S, retry: 3", {"timeout": "PT30S", "retry": 10}),
        ("timeout: PT20S, retry: 12", {"timeout": "PT20S", "retry": 12}),
        ("timeout: PT2S", {"timeout": "PT30S"}),
        ("backoffPolicy: linear, backoffDelay: PT5S", {"backoffPolicy": "linear"}),
    ],
)
def test_its_delivery_fits_a_door_that_answers_at_once(
    given: str, expected: dict[str, object], tmp_path: Path
) -> None:
    text = trigger(f"delivery: {{{given}}}" if given else "")
    rendering = made(tmp_path, service(model=GPU), broker(), text)
    delivery = find(rendering, "Trigger")["spec"]["delivery"]
    assert expected.items() <= delivery.items()
    assert delivery["backoffDelay"] in ("PT1S", "PT5S")


def test_what_a_delivery_hides_of_its_brokers_is_repeated(tmp_path: Path) -> None:
    sink = "deadLetterSink: {uri: 'http://dead.example'}"
    spec = f"delivery: {{timeout: PT310S, retry: 20, format: json, {sink}}}"
    rendering = made(tmp_path, service(model=GPU), broker(spec), trigger())
    delivery = find(rendering, "Trigger")["spec"]["delivery"]
    assert delivery["timeout"] == "PT30S"
    assert (delivery["retry"], delivery["format"]) == (20, "json")
    assert "deadLetterSink" not in delivery


def test_a_service_behind_a_transformer_keeps_its_trigger(tmp_path: Path) -> None:
    front = "spec: {transformer: {containers: [{image: 'i@sha256:1'}]}, predictor:"
    behind = service(model=GPU).replace("spec: {predictor:", front)
    other = service(model=GPU).replace("name: chat", "name: other")
    rendering = made(tmp_path, behind, other, broker(), trigger())
    spec = find(rendering, "Trigger")["spec"]
    assert spec["subscriber"]["ref"]["kind"] == "InferenceService"
    assert spec["delivery"]["timeout"] != "PT30S"
    assert find(rendering, "ClusterRole")
    assert [one.name for one in served(rendering, tmp_path).services] == ["other"]
    assert any("does not serve it" in str(note) for note in rendering.notes)


def test_a_trigger_to_something_else_is_untouched(tmp_path: Path) -> None:
    elsewhere = trigger().replace(
        "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: chat}",
        "{apiVersion: v1, kind: Service, name: sink}",
    )
    rendering = made(tmp_path, service(model=GPU), broker(), elsewhere)
    spec = find(rendering, "Trigger")["spec"]
    assert spec["subscriber"] == {"ref": {"apiVersion": "v1", "kind": "Service", "name": "sink"}}
    assert "delivery" not in spec


def test_without_a_service_there_is_nothing_to_serve(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no InferenceService") as error:
        made(tmp_path, broker())
    assert error.value.reason == "nothing-to-serve"


@pytest.mark.parametrize("kind", BROKERS)
def test_replies_go_to_the_ingress_of_the_brokers_class(kind: BrokerClass, tmp_path: Path) -> None:
    rendering = made(tmp_path, service(model=GPU), broker(), trigger(), kind=kind)
    (url,) = (one for one in arguments(rendering) if one.startswith("--broker-url="))
    host = {
        "kafka": "kafka-broker-ingress.knative-eventing",
        "mt": "broker-ingress.knative-eventing",
        "nats": "nats-broker-ingress.knative-eventing",
        "rabbitmq": "{name}-broker-ingress.{namespace}",
    }[kind]
    assert url.startswith(f"--broker-url=http://{host}.svc")
    # Where the dispatchers of a class run beside their Brokers, they may come in from there.
    (way,) = find(rendering, "NetworkPolicy", NAME)["spec"]["ingress"]
    names = way["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
    assert ("default" in names) is (kind in ("rabbitmq", "nats"))


def test_brokers_of_two_classes_cannot_both_get_replies(tmp_path: Path) -> None:
    def of_class(name: str, kind: str) -> str:
        text = broker(annotations=f"eventing.knative.dev/broker.class: {kind}")
        return text.replace("name: b,", f"name: {name},")

    second = trigger().replace("name: t,", "name: u,").replace("broker: b", "broker: c")
    rendering = made(
        tmp_path,
        service(model=GPU),
        of_class("b", "Kafka"),
        of_class("c", "RabbitMQBroker"),
        trigger(),
        second,
        kind=None,
    )
    assert f"--broker-url={KAFKA}" in arguments(rendering)
    kinds = {
        name: find(rendering, "Trigger", name)["spec"]["subscriber"]["ref"]["kind"]
        for name in ("t", "u")
    }
    assert kinds == {"t": "Service", "u": "InferenceService"}
    assert any("of one class" in str(note) for note in rendering.notes)
    chosen = made(
        tmp_path,
        service(model=GPU),
        of_class("b", "Kafka"),
        of_class("c", "RabbitMQBroker"),
        trigger(),
        second,
        kind=None,
        broker_url="http://x/{namespace}/{name}",
    )
    assert "--broker-url=http://x/{namespace}/{name}" in arguments(chosen)
    assert find(chosen, "Trigger", "u")["spec"]["subscriber"]["ref"]["kind"] == "Service"


def test_the_pod_may_do_little(tmp_path: Path) -> None:
    rendering = made(tmp_path, service(model=GPU))
    pod = pod_of(rendering)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
    assert writable == ["/tmp"]
    grace = next(one for one in arguments(rendering) if one.startswith("--grace="))
    seconds = int(grace.removeprefix("--grace=").removesuffix("s"))
    stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > stop + seconds
    namespace = find(rendering, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_argument_is_an_option_of_the_command() -> None:
    from relume.cli.machine.gateway import command

    assert isinstance(command, click.Command)
    known = {word for option in command.params for word in option.opts}
    for case in GATEWAYS:
        options = {one.partition("=")[0] for one in arguments(rendered(case)) if one[0] == "-"}
        assert options <= known


def test_nats_is_reached_by_its_namespace_or_by_its_port(tmp_path: Path) -> None:
    text = service(model=GPU)
    (peers,) = egress(made(tmp_path, text), 4222)
    expression = peers[0]["namespaceSelector"]["matchExpressions"][0]
    assert expression["values"] == ["nats"]
    urls = ("tls://n1.example.com:4443", "tls://n2.example.com:4443")
    elsewhere = made(tmp_path, text, nats_urls=urls)
    assert egress(elsewhere, 4443) == [None]
    assert egress(elsewhere, 4222) == []
    assert [f"--nats={url}" for url in urls] == [
        one for one in arguments(elsewhere) if one.startswith("--nats=")
    ]


def test_an_issuer_of_tokens_is_reached(tmp_path: Path) -> None:
    text = service(model=GPU)
    assert egress(made(tmp_path, text), 8443) == []
    issuer = "https://login.example.com:8443/x"
    rendering = made(tmp_path, text, oidc_issuer=issuer, oidc_audience="relume")
    assert egress(rendering, 8443) == [None]
    assert {f"--oidc-issuer={issuer}", "--oidc-audience=relume"} <= set(arguments(rendering))


def test_usage_goes_to_a_sink_that_is_reached(tmp_path: Path) -> None:
    text = service(model=GPU)
    assert not any(one.startswith("--sink") for one in arguments(made(tmp_path, text)))
    inside = made(tmp_path, text, sink="http://usage.billing.svc.cluster.local")
    assert "--sink=http://usage.billing.svc.cluster.local" in arguments(inside)
    ways = find(inside, "NetworkPolicy", NAME)["spec"]["egress"]
    expression = ways[-1]["to"][0]["namespaceSelector"]["matchExpressions"][0]
    assert expression["values"] == ["billing"]
    outside = made(tmp_path, text, sink="https://usage.example.com/in")
    assert egress(outside, 443) == [None]


def test_a_broker_in_a_namespace_without_services_gets_no_replies(tmp_path: Path) -> None:
    def elsewhere(text: str) -> str:
        return text.replace("metadata: {", "metadata: {namespace: events, ")

    far = trigger().replace("name: chat}}", "name: chat, namespace: default}}")
    rendering = made(tmp_path, service(model=GPU), elsewhere(broker()), elsewhere(far))
    ref = find(rendering, "Trigger")["spec"]["subscriber"]["ref"]
    assert ref["kind"] == "InferenceService"
    assert any("none of them is in events" in str(note) for note in rendering.notes)


def test_in_standard_mode_the_gateway_calls_the_predictors_pods(tmp_path: Path) -> None:
    options = Options("standard", gateway=GATEWAY)
    rendering = render_text(tmp_path, service(model=limits("nvidia.com/gpu")), options=options)
    (peers,) = egress(rendering, 8080)
    assert peers[0]["podSelector"]["matchExpressions"][0]["operator"] == "Exists"
    (way,) = find(rendering, "NetworkPolicy", "chat")["spec"]["ingress"]
    assert "relume" in way["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"]


def test_the_credentials_are_a_secret_of_the_users(tmp_path: Path) -> None:
    rendering = made(tmp_path, service(model=GPU))
    assert "--nats-creds=/etc/relume/nats/nats.creds" in arguments(rendering)
    (volume,) = (v for v in pod_of(rendering)["volumes"] if v["name"] == "nats")
    assert volume["secret"]["secretName"] == "nats"
    assert any("kubectl create secret generic nats -n relume" in str(n) for n in rendering.notes)
    without = render_text(tmp_path, service(model=GPU), options=Options(gateway=GatewayOptions()))
    assert not any(one.startswith("--nats-creds") for one in arguments(without))


def test_a_namespace_of_the_users_is_not_made_again(tmp_path: Path) -> None:
    own = "{apiVersion: v1, kind: Namespace, metadata: {name: relume, labels: {team: a}}}\n"
    rendering = made(tmp_path, own, service(model=GPU))
    assert find(rendering, "Namespace")["metadata"]["labels"] == {"team": "a"}
    rendering = made(tmp_path, service(model=GPU), namespace="default")
    documents = [d["kind"] for group in rendering.documents.values() for d in group]
    assert "Namespace" not in documents


def test_the_values_for_nats_are_explained_and_no_manifest() -> None:
    rendering = rendered("gateway-samples")
    text = rendering.files["nats-values.yaml"]
    values = yaml.safe_load(text)
    assert values["config"]["cluster"] == {"enabled": True, "replicas": 3}
    assert values["config"]["jetstream"]["fileStore"]["pvc"]["enabled"] is True
    assert values["container"]["merge"]["resources"]["limits"]["memory"] == "2Gi"
    assert "nats-values.yaml" not in rendering.documents
    decided = [d for d in rendering.decisions if d.file == "nats-values.yaml"]
    assert decided and all(d.reason in " ".join(text.replace("#", "").split()) for d in decided)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nats_urls": ("http://n:4222",)}, "--nats-url http://n:4222"),
        ({"nats_urls": ("nats://",)}, "--nats-url nats://"),
        ({"nats_urls": ("nats://h:99999",)}, "--nats-url"),
        ({"oidc_issuer": "https://a"}, "write both"),
        ({"oidc_issuer": "http://a", "oidc_audience": "b"}, "https://"),
        ({"namespace": "A_b"}, "--gateway-namespace A_b"),
        ({"nats_credentials_secret": "-"}, "--nats-credentials-secret -"),
        ({"service_url": "http://{name}"}, "--service-url"),
        ({"broker_url": "{namespace}/{name}"}, "--broker-url"),
        ({"sink": "usage.billing"}, "--sink usage.billing"),
    ],
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongGatewayOption, match=said):
        GatewayOptions(**wrong)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(WrongGatewayOption) as error:
        GatewayOptions(nats_urls=("nats://user:hunter2@n:4222",))
    assert "hunter2" not in str(error.value)


def test_the_command_renders_a_gateway(tmp_path: Path, capsys: Output) -> None:
    words = ["--gateway", "--nats-credentials-secret", "n", "--nats-url", "nats://a.example:4222"]
    assert run(["render", str(SAMPLES), "-o", str(tmp_path), *words]) == 0
    assert "relume-gateway has no image yet" in capsys.readouterr().err
    assert "--nats=nats://a.example:4222" in (tmp_path / "base/relume/gateway.yaml").read_text()
    assert (tmp_path / "nats-values.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nats-url", "nats://a:1"), "--nats-url is for the jobs gateway: add --gateway"),
        (("--gateway", "--oidc-issuer", "https://a"), "write both"),
        (("--gateway", "--image", "relume-gatewy=a@sha256:1"), "relume-gateway"),
    ],
)
def test_wrong_words_exit_2_and_write_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: Output
) -> None:
    assert run(["render", str(SAMPLES), "-o", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
