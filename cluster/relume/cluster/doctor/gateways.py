"""The jobs gateway among the documents: who may call it, what it loses, who does not use it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relume.cluster.admission.judge import child, content, entries, fields, number
from relume.cluster.doctor.graph import GATEWAY, NumberedDocuments, key, models, named, subscriber
from relume.cluster.findings import Finding, at
from relume.config.durations import iso8601_duration
from relume.config.nodes import Node, Table

_LABEL = "app.kubernetes.io/name"
#: An event is stored within a second or refused with 503 within ten.
_LONGEST_DELIVERY_S = 60.0
_COPIES = 3  # what relume gateway asks for by itself
_PUBLIC = ("LoadBalancer", "NodePort")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Deployment of `relume gateway`. `arguments` have their values, "" for flags."""

    number: int
    document: Table
    container: Node
    arguments: Sequence[tuple[str, str]]

    @property
    def namespace(self) -> str:
        return key(self.document)[1]

    @property
    def nats_urls(self) -> tuple[str, ...]:
        """Where its NATS is, as it names it: options are repeated, or separated by commas."""
        return tuple(url for value in self.values("--nats") for url in value.split(",") if url)

    @property
    def copies(self) -> int:
        """How many copies of its streams it asks for."""
        said = self.values("--replicas")
        return int(said[-1]) if said and said[-1].isdecimal() else _COPIES

    @property
    def pod_labels(self) -> Mapping[str, str]:
        labels = fields(child(self.document, "spec", "template", "metadata", "labels"))
        return {name: content(node) for name, node in labels.items()}

    def values(self, option: str) -> tuple[str, ...]:
        """What an option was given, in order; ("",) for a flag that is there."""
        return tuple(value for name, value in self.arguments if name == option)


def gateways(documents: NumberedDocuments) -> list[Gateway]:
    """The Deployments that run the jobs gateway: by their label, or by their command."""
    found = []
    for number_, document in named(documents, "Deployment").values():
        labels = fields(child(document, "spec", "template", "metadata", "labels"))
        ours = content(labels.get(_LABEL)) == GATEWAY
        for container in entries(document, "spec", "template", "spec", "containers"):
            words = [
                content(word) for part in ("command", "args") for word in entries(container, part)
            ]
            if ours or words[:2] == ["relume", "gateway"]:
                found.append(Gateway(number_, document, container, _pairs(words)))
                break
    return found


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Options with their values, written as `--name=value` or as two words."""
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            pairs.append((name, value if equals else ""))
        elif pairs and pairs[-1][1] == "":
            pairs[-1] = pairs[-1][0], word
    return pairs


def judge_gateways(documents: NumberedDocuments) -> Iterator[tuple[int, Finding]]:
    """What is wrong with the gateways, and Triggers that do not use one."""
    found = gateways(documents)
    for gateway in found:
        for finding in _of_gateway(gateway, documents):
            yield gateway.number, finding
    if found:
        yield from _held(documents)


def _of_gateway(gateway: Gateway, documents: NumberedDocuments) -> Iterator[Finding]:
    args = child(gateway.container, "args") or gateway.container
    public = _public_service(gateway, documents)
    host = gateway.values("--host")
    reachable = bool(host) and host[-1] not in _LOOPBACK
    if (reachable or public) and not (gateway.values("--keys") or gateway.values("--oidc-issuer")):
        where = f"the {public} reaches it" if public else f"it listens on {host[-1]}"
        message = f"{where}, and it asks nobody for a key or a token"
        yield at(args, "gateway-open", message)
    if gateway.values("--open-events") and (public or not _guarded(gateway, documents)):
        why = f"the {public} reaches it" if public else "no NetworkPolicy selects its pods"
        yield at(args, "events-open", f"--open-events, and {why}")
    replicas = child(gateway.document, "spec", "replicas")
    if (number(replicas) or 1) < 2:
        message = "one gateway alone" if replicas is None else f"replicas: {content(replicas)}"
        node = replicas or child(gateway.document, "spec") or gateway.document
        yield at(node, "gateway-alone", message, field="spec.replicas")
    if gateway.copies < 2:
        yield at(args, "one-copy", f"--replicas {gateway.copies}: one copy of every stream")
    if not gateway.values("--nats-creds"):
        yield at(args, "no-nats-credentials", "it connects to NATS without --nats-creds")


def _public_service(gateway: Gateway, documents: NumberedDocuments) -> str:
    """The Service or the Ingress by which the outside reaches it, "" for none."""
    behind = set()
    for _, service in named(documents, "Service").values():
        selector = fields(child(service, "spec", "selector"))
        chosen = {name: content(node) for name, node in selector.items()}
        kind = content(service, "spec", "type")
        if key(service)[1] != gateway.namespace or not chosen:
            continue
        if chosen.items() <= gateway.pod_labels.items():
            behind.add(key(service)[2])
            if kind in _PUBLIC:
                return f"{kind} Service {key(service)[2]}"
    for _, ingress in named(documents, "Ingress").values():
        if key(ingress)[1] == gateway.namespace and behind & set(_backends(ingress)):
            return f"Ingress {key(ingress)[2]}"
    return ""


def _backends(ingress: Table) -> Iterator[str]:
    yield content(ingress, "spec", "defaultBackend", "service", "name")
    for rule in entries(ingress, "spec", "rules"):
        for path in entries(rule, "http", "paths"):
            yield content(path, "backend", "service", "name")


def _guarded(gateway: Gateway, documents: NumberedDocuments) -> bool:
    """Whether a NetworkPolicy says who comes in to its pods."""
    for _, policy in named(documents, "NetworkPolicy").values():
        chosen = fields(child(policy, "spec", "podSelector", "matchLabels"))
        labels = {name: content(node) for name, node in chosen.items()}
        types = [content(one) for one in entries(policy, "spec", "policyTypes")]
        if (
            key(policy)[1] == gateway.namespace
            and labels.items() <= gateway.pod_labels.items()
            and (not types or "Ingress" in types)
        ):
            return True
    return False


def _held(documents: NumberedDocuments) -> Iterator[tuple[int, Finding]]:
    """Triggers whose deliveries last for minutes beside a gateway."""
    known = models(documents)
    doors = {
        (key(service)[1], key(service)[2])
        for _, service in named(documents, "Service").values()
        if content(fields(child(service, "spec", "selector")).get(_LABEL)) == GATEWAY
    }
    for number_, trigger in named(documents, "Trigger").values():
        kind, namespace, name = subscriber(trigger) or ("", "", "")
        node = child(trigger, "spec", "subscriber") or trigger
        if kind == "InferenceService" and (kind, namespace, name) in known:
            message = f"the Trigger delivers to InferenceService {namespace}/{name} itself"
            yield number_, at(node, "connection-held", message)
        timeout = child(trigger, "spec", "delivery", "timeout")
        if (namespace, name) in doors and _seconds(timeout) > _LONGEST_DELIVERY_S:
            assert timeout is not None
            message = f"the gateway answers at once, and not after {content(timeout)}"
            yield number_, at(timeout, "connection-held", message, "Write PT30S.")


def _seconds(node: Node | None) -> float:
    try:
        return 0.0 if node is None else iso8601_duration(content(node))
    except ValueError:
        return 0.0
