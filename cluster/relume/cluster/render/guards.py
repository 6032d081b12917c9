"""What stands around a predictor: who may call it, how nodes drain, and who scrapes it."""

from collections.abc import Mapping

from relume.base.vocabulary import EVENTING_NAMESPACE, SERVICE_LABEL, SERVING_NAMESPACE, JsonValue
from relume.cluster.render import rules
from relume.cluster.render.components import FRONTS
from relume.cluster.render.draft import Book, Draft
from relume.cluster.render.options import DeviceRoute, Options
from relume.cluster.render.originals import Original
from relume.cluster.render.runtimes import PORT

_NETWORKING = "networking.k8s.io/v1"
#: Where the proxies of the usual networking layers of Knative and KServe run.
GATEWAYS = (
    "contour-external",
    "contour-internal",
    "envoy-gateway-system",
    "istio-system",
    "kourier-system",
)
PROXY_PORTS = (8012, 8013, 8112)  # queue-proxy: HTTP/1, HTTP/2, TLS
_AUTOSCALER_PORT = 9090  # queue-proxy's figures for the autoscaler
_USER_METRICS_PORT = 9091
MONITORING = "monitoring"
COMPONENT_LABEL = "component"  # KServe sets it to predictor, transformer or explainer
#: On the pods of llm-d's picker, in the chart llm-d-router-gateway of llm-d-router ebab6879.
PICKER_LABEL = "llm-d-router-gateway"
_MOST_CHARACTERS = 40  # of a release's name in the name of the picker


def picker_name(name: str) -> str:
    """The name of a service's picker, as the router's chart makes it from the release's name."""
    return f"{name[:_MOST_CHARACTERS]}-epp"


def add_guards(original: Original, options: Options, book: Book) -> None:
    """The NetworkPolicy of one service's pods in every revision, and how they drain.

    Its transformer and its explainer are reached as the predictor is, and have their own budgets.
    """
    name, file, namespace = original.name, original.file, original.written_namespace
    pods: JsonValue = {"matchLabels": {SERVICE_LABEL: name}}
    book.begin(
        file,
        _NETWORKING,
        "NetworkPolicy",
        name,
        rules.NETWORK,
        {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": _ingress(name, options)},
        {"policyTypes": "not Egress: KServe downloads the model from inside the same pod"},
        namespace=namespace,
    )
    fronts = [one for one in FRONTS if original.node("spec", one) is not None]
    for component in ("predictor", *fronts):
        own = name if component == "predictor" else f"{name}-{component}"
        # A service that is a predictor alone has no other pods to tell apart.
        label: dict[str, JsonValue] = {COMPONENT_LABEL: component} if fronts else {}
        _add_budget(original, own, {"matchLabels": {SERVICE_LABEL: name, **label}}, book)


def _add_budget(original: Original, name: str, pods: JsonValue, book: Book) -> None:
    reason = "a replica that is still loading serves nobody, and must not hold up a drain"
    book.begin(
        original.file,
        "policy/v1",
        "PodDisruptionBudget",
        name,
        rules.DISRUPTION,
        {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": pods},
        {"unhealthyPodEvictionPolicy": reason},
        namespace=original.written_namespace,
    )


def add_monitoring(original: Original, route: DeviceRoute, book: Book) -> None:
    """A Service and ServiceMonitor for the metrics, and the way in for whoever scrapes."""
    scraped = {"vllm": PORT}
    if route != "standard":
        scraped["queue"] = _USER_METRICS_PORT
    labels: dict[str, JsonValue] = {SERVICE_LABEL: original.name}
    pods: JsonValue = {"matchLabels": labels}

    def begin(version: str, kind: str, spec: Mapping[str, JsonValue], **reasons: str) -> Draft:
        return book.begin(
            f"{MONITORING}/{original.namespace}/{original.name}.yaml",
            version,
            kind,
            f"{original.name}-metrics",
            rules.MONITORING,
            spec,
            reasons,
            namespace=original.written_namespace,
        )

    reason = "a name for the pods' ports; nothing is balanced"
    listed: list[JsonValue] = [{"name": n, "port": p, "targetPort": p} for n, p in scraped.items()]
    endpoints: list[JsonValue] = [{"port": n, "path": "/metrics"} for n in scraped]
    service = begin("v1", "Service", {})
    service.set(("metadata", "labels", SERVICE_LABEL), original.name, rules.MONITORING)
    spec: dict[str, JsonValue] = {"clusterIP": "None", "selector": labels, "ports": listed}
    service.fill(spec, rules.MONITORING, {"clusterIP": reason})
    monitor: dict[str, JsonValue] = {"selector": pods, "endpoints": endpoints}
    begin("monitoring.coreos.com/v1", "ServiceMonitor", monitor)
    way: JsonValue = {"from": [namespaces(MONITORING)], "ports": ports(*scraped.values())}
    begin(
        _NETWORKING,
        "NetworkPolicy",
        {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": [way]},
        ingress="Prometheus in the namespace monitoring; NetworkPolicies add up",
    )


def _ingress(name: str, options: Options) -> list[JsonValue]:
    gateways: tuple[str, ...] = GATEWAYS
    if options.llm_d is not None:
        # Some Gateways have their proxies in the namespace of the Gateway itself.
        gateways = tuple(sorted({*GATEWAYS, options.llm_d.gateway.partition("/")[0]}))
    if options.route == "standard":
        # Without Knative a broker's dispatcher calls the pod itself; some run beside the Trigger.
        # So does the jobs gateway.
        jobs = () if options.gateway is None else (options.gateway.namespace,)
        others = namespaces(*gateways, EVENTING_NAMESPACE, *jobs)
        callers: list[JsonValue] = [others, {"podSelector": {}}]
        return [{"from": callers, "ports": ports(PORT)}]
    picker: JsonValue = {"podSelector": {"matchLabels": {PICKER_LABEL: picker_name(name)}}}
    scraped: JsonValue = {"from": [picker], "ports": ports(PORT)}
    return [
        {
            "from": [namespaces(SERVING_NAMESPACE)],
            "ports": ports(*PROXY_PORTS, _AUTOSCALER_PORT),
        },
        {"from": [namespaces(*gateways)], "ports": ports(*PROXY_PORTS)},
        *([] if options.llm_d is None else [scraped]),
    ]


def namespaces(*names: str) -> dict[str, JsonValue]:
    """A peer of a NetworkPolicy: every pod in the namespaces of these names."""
    key = "kubernetes.io/metadata.name"
    listed: JsonValue = list(names)
    one: JsonValue = {"key": key, "operator": "In", "values": listed}
    return {"namespaceSelector": {"matchExpressions": [one]}}


def ports(*numbers: int) -> list[JsonValue]:
    """Ports of a NetworkPolicy, by number and TCP."""
    return [{"port": number, "protocol": "TCP"} for number in numbers]
