"""Who reaches the jobs gateway, and whom it reaches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from relume.base.vocabulary import (
    EVENTING_NAMESPACE,
    SERVICE_LABEL,
    SERVING_NAMESPACE,
    JsonValue,
)
from relume.cluster.render import rules
from relume.cluster.render.draft import Book
from relume.cluster.render.guards import GATEWAYS, PROXY_PORTS, namespaces, ports
from relume.cluster.render.options import DeviceRoute, GatewayOptions
from relume.cluster.render.runtimes import GATEWAY_IMAGE
from relume.cluster.render.runtimes import PORT as PREDICTOR_PORT

#: Pods with this label may call the gateway, in every namespace.
CALLERS: Mapping[str, JsonValue] = {"relume.dev/jobs": "caller"}
_NATS_PORT = 4222
_PORTS = {"http": 80, "https": 443}


class _Named(Protocol):
    @property
    def namespace(self) -> str: ...


def add_network_policy(
    file: str,
    services: Sequence[_Named],
    triggers: Sequence[tuple[str, str]],
    pods: Mapping[str, JsonValue],
    port: int,
    chosen: GatewayOptions,
    route: DeviceRoute,
    book: Book,
) -> None:
    """The NetworkPolicy of the gateway's pods; `triggers` as for `render_gateway`."""
    beside = sorted({namespace for namespace, kind in triggers if kind in ("rabbitmq", "nats")})
    callers: list[JsonValue] = [
        namespaces(EVENTING_NAMESPACE, *beside),
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {**CALLERS}}},
    ]
    label = "=".join(str(word) for word in next(iter(CALLERS.items())))
    spec: dict[str, JsonValue] = {
        "podSelector": {"matchLabels": {**pods}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": callers, "ports": ports(port)}],
        "egress": list(_ways_out(services, beside, chosen, route)),
    }
    reasons = {
        "ingress": (
            "Brokers' dispatchers, by their namespaces, and pods with the label "
            f"{label} in any namespace"
        ),
        "egress": "DNS, NATS, the predictors and what holds their requests, the Brokers' ingress",
    }
    book.begin(
        file,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        GATEWAY_IMAGE,
        rules.NETWORK,
        spec,
        reasons,
        namespace=chosen.namespace,
    )


def _ways_out(
    services: Sequence[_Named], beside: Sequence[str], chosen: GatewayOptions, route: DeviceRoute
) -> Iterator[JsonValue]:
    dns: list[JsonValue] = [{"port": 53, "protocol": name} for name in ("UDP", "TCP")]
    # Some clusters have DNS on 5353 behind the port 53 of its Service.
    dns += [{"port": 5353, "protocol": name} for name in ("UDP", "TCP")]
    yield {"ports": dns}
    yield from _to_nats(chosen.nats_urls)
    own = sorted({one.namespace for one in services})
    predictors: JsonValue = {
        **namespaces(*own),
        "podSelector": {"matchExpressions": [{"key": SERVICE_LABEL, "operator": "Exists"}]},
    }
    if route == "standard":
        yield {"to": [predictors], "ports": ports(PREDICTOR_PORT)}
    else:
        yield {"to": [predictors], "ports": ports(*PROXY_PORTS)}
        # The networking layer's proxies, or the activator that holds a request at zero.
        yield {"to": [namespaces(SERVING_NAMESPACE, *GATEWAYS)]}
    yield {"to": [namespaces(EVENTING_NAMESPACE, *beside)]}
    if chosen.sink is not None:
        namespace = _namespace_in(urlsplit(chosen.sink).hostname)
        # Behind a Service the port of its pods counts, which its URL does not say.
        port = urlsplit(chosen.sink).port or _PORTS[urlsplit(chosen.sink).scheme]
        yield {"to": [namespaces(namespace)]} if namespace else {"ports": ports(port)}
    if chosen.oidc_issuer is not None:
        yield {"ports": ports(urlsplit(chosen.oidc_issuer).port or 443)}


def _to_nats(urls: Sequence[str]) -> Iterator[JsonValue]:
    """The servers: by their namespace where the name is a Service's, else by their port alone."""
    ways: dict[tuple[str, int], None] = {}
    for url in urls:
        parts = urlsplit(url)
        ways[_namespace_in(parts.hostname), parts.port or _NATS_PORT] = None
    for namespace, port in ways:
        if namespace:
            yield {"to": [namespaces(namespace)], "ports": ports(port)}
        else:
            yield {"ports": ports(port)}


def _namespace_in(host: str | None) -> str:
    """The namespace in the name of a Service, "" for any other name."""
    words = (host or "").split(".")
    return words[1] if len(words) > 2 and words[2] == "svc" else ""
