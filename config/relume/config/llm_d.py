"""What llm-d's router reads: its configuration, and the endpoints of file discovery. Pure.

Read in llm-d/llm-d-router ebab6879: the file's form in pkg/epp/framework/plugins/datalayer/
discovery/file/plugin.go, the configuration in cmd/epp/runner/run_with_file_discovery_test.go and in
the router's own chart, config/charts/routerlib/templates/_config.yaml. The page docs/discovery.md
of that commit shows an older form of the configuration, which has no metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONFIG_API = "llm-d.ai/v1alpha1"
OBJECTIVE_API = "llm-d.ai/v1alpha2"
INFERENCE_GROUP = "inference.networking.k8s.io"
POOL_API = f"{INFERENCE_GROUP}/v1"
POOL_KIND = "InferencePool"
CONFIG_KIND = "EndpointPickerConfig"
#: Says which metrics an endpoint has; without it the router reads those of vLLM.
ENGINE_LABEL = "llm-d.ai/engine-type"
ENGINE = "vllm"
#: The ports of the router: ext_proc, and the gRPC health service.
PICKER_PORT = 9002
#: The scorers of the router's own chart, with their weights.
_SCORERS = (("queue-scorer", 2), ("kv-cache-utilization-scorer", 2), ("prefix-cache-scorer", 3))
_METRICS, _EXTRACTOR, _DISCOVERY = "metrics-data-source", "core-metrics-extractor", "file-discovery"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server that the router may choose. `address` is an IPv4 address, not a host name."""

    namespace: str
    name: str
    """Unique in the namespace; the router keeps what it knows of a server under it."""
    address: str
    port: int
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the file. A port is a string there, and a number is refused."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "address": self.address,
            "port": str(self.port),
            "labels": dict(self.labels),
        }


def endpoints_file(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return what an endpoints file says; the order is that of the endpoints."""
    return {"endpoints": [each.to_json() for each in endpoints]}


def picker_config(
    endpoints_path: str | None = None, metrics_port: int | None = None
) -> dict[str, Any]:
    """Return an EndpointPickerConfig: the default scorers, on the metrics of each endpoint.

    endpoints_path: the file of file discovery; None: the router finds the pods of its pool.
    metrics_port: where metrics are, where that is not the port for requests.
    """
    kinds = [kind for kind, _ in _SCORERS]
    kinds += ["max-score-picker", "single-profile-handler", _METRICS, _EXTRACTOR]
    plugins: list[dict[str, Any]] = [{"type": kind} for kind in kinds]
    layer: dict[str, Any] = {
        "injectDefaults": False,
        "sources": [{"pluginRef": _METRICS, "extractors": [{"pluginRef": _EXTRACTOR}]}],
    }
    if metrics_port is not None:
        source = next(each for each in plugins if each["type"] == _METRICS)
        source["parameters"] = {"port": metrics_port}
    if endpoints_path is not None:
        parameters = {"path": endpoints_path, "watchFile": True}
        plugins.insert(0, {"name": _DISCOVERY, "type": _DISCOVERY, "parameters": parameters})
        layer["discovery"] = {"pluginRef": _DISCOVERY}
    chosen: list[dict[str, Any]] = [{"pluginRef": k, "weight": w} for k, w in _SCORERS]
    chosen.append({"pluginRef": "max-score-picker"})
    return {
        "apiVersion": CONFIG_API,
        "kind": CONFIG_KIND,
        "plugins": plugins,
        "schedulingProfiles": [{"name": "default", "plugins": chosen}],
        "dataLayer": layer,
    }
