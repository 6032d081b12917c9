"""The items of the checklists 1.34 to 1.37, and whose they are. Data only.

Source: `docs/AIConformance-X.Y.yaml` in cncf/k8s-ai-conformance, read in November 2026. The titles
are ours: a submission copies the descriptions of the published file, which must stay unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["MUST", "SHOULD"]
#: Who can make an item true: Relume, KServe, or the platform below both.
Layer = Literal["ours", "KServe", "platform"]

VERSIONS = ("1.34", "1.35", "1.36", "1.37")
LATEST = VERSIONS[-1]


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the checklists; `levels` has the versions that hold it."""

    id: str
    category: str
    title: str
    layer: Layer
    levels: Mapping[str, Level]


def _since(first: str, level: Level) -> dict[str, Level]:
    return {version: level for version in VERSIONS if version >= first}


_ALWAYS = _since("1.34", "MUST")

ITEMS = (
    Item(
        "dra_support",
        "accelerators",
        "Devices are claimed through the stable API of Dynamic Resource Allocation",
        "platform",
        {"1.34": "MUST", "1.35": "MUST"},
    ),
    Item(
        "driver_runtime_management",
        "accelerators",
        "The versions of a device's driver and runtime can be read",
        "platform",
        _since("1.35", "SHOULD"),
    ),
    Item(
        "gpu_sharing",
        "accelerators",
        "Workloads can share one device",
        "platform",
        _since("1.35", "SHOULD"),
    ),
    Item(
        "virtualized_accelerator",
        "accelerators",
        "Virtual devices can be used",
        "platform",
        _since("1.35", "SHOULD"),
    ),
    Item(
        "ai_inference",
        "networking",
        "Gateway API routes requests by weight and by header",
        "platform",
        _ALWAYS,
    ),
    Item(
        "advanced_inference_ingress",
        "networking",
        "An InferencePool routes by what its model servers report",
        "ours",
        _since("1.36", "SHOULD"),
    ),
    Item(
        "high_performance_networking",
        "networking",
        "Pods get fast networks as devices",
        "platform",
        _since("1.36", "SHOULD"),
    ),
    Item(
        "disaggregated_inference",
        "networking",
        "Prefill and decode run apart",
        "platform",
        _since("1.36", "SHOULD"),
    ),
    Item(
        "gang_scheduling",
        "scheduling",
        "A group of pods is scheduled as one, or not at all",
        "platform",
        _ALWAYS,
    ),
    Item(
        "cluster_autoscaling",
        "scheduling",
        "Nodes with devices come and go with the pods that ask for them",
        "platform",
        _ALWAYS,
    ),
    Item(
        "pod_autoscaling",
        "scheduling",
        "A HorizontalPodAutoscaler scales by metrics of the workload",
        "platform",
        _ALWAYS,
    ),
    Item(
        "accelerator_metrics",
        "observability",
        "Metrics of each device can be scraped",
        "platform",
        _ALWAYS,
    ),
    Item(
        "ai_service_metrics",
        "observability",
        "Metrics of model servers are found and scraped, and count every request",
        "ours",
        _ALWAYS,
    ),
    Item(
        "secure_accelerator_access",
        "security",
        "A container sees the devices that it was given, and no other",
        "ours",
        _ALWAYS,
    ),
    Item(
        "workload_sandboxing",
        "security",
        "Workloads can run in a sandbox",
        "platform",
        _since("1.37", "SHOULD"),
    ),
    Item(
        "robust_controller",
        "operator",
        "An operator for AI runs, its webhook refuses what is wrong, and it makes what is right",
        "KServe",
        _ALWAYS,
    ),
)


def items_of(version: str) -> tuple[Item, ...]:
    """The items of one version, in the order of `ITEMS`."""
    return tuple(item for item in ITEMS if version in item.levels)
