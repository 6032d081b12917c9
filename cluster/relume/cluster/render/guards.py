"""What stands around a predictor: who may call it, how nodes drain, and who scrapes it."""

from relume.base.vocabulary import EVENTING_NAMESPACE, SERVICE_LABEL, SERVING_NAMESPACE
from relume.cluster.render import rules
from relume.cluster.render.draft import Book, Draft, JsonValue
from relume.cluster.render.options import DeviceRoute
from relume.cluster.render.originals import Original
from relume.cluster.render.podspec import PORT

_NETWORKING = "networking.k8s.io/v1"
#: Where the proxies of the usual networking layers of Knative and KServe run.
GATEWAYS = (
    "contour-external",
    "contour-internal",
    "envoy-gateway-system",
    "istio-system",
    "kourier-system",
)
_PROXY_PORTS = (8012, 8013, 8112)  # queue-proxy: HTTP/1, HTTP/2, TLS
_AUTOSCALER_PORT = 9090  # queue-proxy's figures for the autoscaler
_USER_METRICS_PORT = 9091
MONITORING = "monitoring"


def add_guards(original: Original, route: DeviceRoute, book: Book) -> None:
    """The NetworkPolicy and the PodDisruptionBudget of one service's pods, in every revision."""
    policy = _begin(book, original.file, _NETWORKING, "NetworkPolicy", original)
    policy.set(("spec", "podSelector"), _pods(original), rules.NETWORK)
    reason = "not Egress: KServe downloads the model from inside the same pod"
    policy.set(("spec", "policyTypes"), ["Ingress"], rules.NETWORK, reason)
    policy.set(("spec", "ingress"), _ingress(route), rules.NETWORK)
    budget = _begin(book, original.file, "policy/v1", "PodDisruptionBudget", original)
    budget.set(("spec", "maxUnavailable"), 1, rules.DISRUPTION)
    reason = "a replica that is still loading serves nobody, and must not hold up a drain"
    budget.set(("spec", "unhealthyPodEvictionPolicy"), "AlwaysAllow", rules.DISRUPTION, reason)
    budget.set(("spec", "selector"), _pods(original), rules.DISRUPTION)


def add_monitoring(original: Original, route: DeviceRoute, book: Book) -> None:
    """A Service and ServiceMonitor for the metrics, and the way in for whoever scrapes."""
    file = f"{MONITORING}/{original.namespace}/{original.name}.yaml"
    ports: list[JsonValue] = [{"name": "vllm", "port": PORT, "targetPort": PORT}]
    endpoints: list[JsonValue] = [{"port": "vllm", "path": "/metrics"}]
    allowed = [PORT]
    if route != "standard":
        ports.append(
            {"name": "queue", "port": _USER_METRICS_PORT, "targetPort": _USER_METRICS_PORT}
        )
        endpoints.append({"port": "queue", "path": "/metrics"})
        allowed.append(_USER_METRICS_PORT)
    name = f"{original.name}-metrics"
    service = _begin(book, file, "v1", "Service", original, name)
    label = ("metadata", "labels", SERVICE_LABEL)
    service.set(label, original.name, rules.MONITORING)
    reason = "a name for the pods' ports; nothing is balanced"
    service.set(("spec", "clusterIP"), "None", rules.MONITORING, reason)
    selector: JsonValue = {SERVICE_LABEL: original.name}
    service.set(("spec", "selector"), selector, rules.MONITORING)
    service.set(("spec", "ports"), ports, rules.MONITORING)
    monitor = _begin(book, file, "monitoring.coreos.com/v1", "ServiceMonitor", original, name)
    monitor.set(("spec", "selector"), {"matchLabels": selector}, rules.MONITORING)
    monitor.set(("spec", "endpoints"), endpoints, rules.MONITORING)
    policy = _begin(book, file, _NETWORKING, "NetworkPolicy", original, name)
    policy.set(("spec", "podSelector"), _pods(original), rules.MONITORING)
    policy.set(("spec", "policyTypes"), ["Ingress"], rules.MONITORING)
    way: JsonValue = {"from": [_namespaces(MONITORING)], "ports": _ports(*allowed)}
    reason = "Prometheus in the namespace monitoring; NetworkPolicies add up"
    policy.set(("spec", "ingress"), [way], rules.MONITORING, reason)


def _begin(
    book: Book, file: str, version: str, kind: str, original: Original, name: str = ""
) -> Draft:
    rule = rules.DISRUPTION if kind == "PodDisruptionBudget" else rules.NETWORK
    rule = rules.MONITORING if file.startswith(MONITORING) else rule
    name = name or original.name
    return book.begin(file, version, kind, name, rule, namespace=original.written_namespace)


def _ingress(route: DeviceRoute) -> list[JsonValue]:
    if route == "standard":
        # Without Knative a broker's dispatcher calls the pod itself; some run beside the Trigger.
        callers: list[JsonValue] = [_namespaces(*GATEWAYS, EVENTING_NAMESPACE), {"podSelector": {}}]
        return [{"from": callers, "ports": _ports(PORT)}]
    return [
        {
            "from": [_namespaces(SERVING_NAMESPACE)],
            "ports": _ports(*_PROXY_PORTS, _AUTOSCALER_PORT),
        },
        {"from": [_namespaces(*GATEWAYS)], "ports": _ports(*_PROXY_PORTS)},
    ]


def _pods(original: Original) -> JsonValue:
    return {"matchLabels": {SERVICE_LABEL: original.name}}


def _namespaces(*names: str) -> dict[str, JsonValue]:
    key = "kubernetes.io/metadata.name"
    listed: JsonValue = list(names)
    one: JsonValue = {"key": key, "operator": "In", "values": listed}
    return {"namespaceSelector": {"matchExpressions": [one]}}


def _ports(*numbers: int) -> list[JsonValue]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]
