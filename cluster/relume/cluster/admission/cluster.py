"""The settings of a cluster that decide what its webhooks take; the shipped ones by default.

Keys and defaults: knative/serving config/core/configmaps (config-features, config-defaults,
config-autoscaler) and knative/eventing config/core/configmaps/features.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.config.fields import did_you_mean
from relume.config.nodes import Table
from relume.config.yaml_source import documents

#: How the flags of config-features for fields of a pod begin.
POD_FLAGS = "kubernetes.podspec-"
OPTIONAL_VERSIONS = ("resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2")
FLAGS: Mapping[str, str] = {
    "multi-container": "enabled",
    "multi-container-probing": "disabled",
    "secure-pod-defaults": "disabled",
    "autodetect-http2": "disabled",
    "tag-header-based-routing": "disabled",
    "queueproxy.mount-podinfo": "disabled",
    "queueproxy.resource-defaults": "disabled",
    "kubernetes.containerspec-addcapabilities": "disabled",
    **{
        POD_FLAGS + name: "disabled"
        for name in (
            "affinity",
            "dnsconfig",
            "dnspolicy",
            "fieldref",
            "hostaliases",
            "hostipc",
            "hostnetwork",
            "hostpid",
            "init-containers",
            "nodeselector",
            "persistent-volume-claim",
            "persistent-volume-write",
            "priorityclassname",
            "runtimeclassname",
            "schedulername",
            "securitycontext",
            "shareprocessnamespace",
            "tolerations",
            "topologyspreadconstraints",
            "volumes-csi",
            "volumes-ephemeral",
            "volumes-hostpath",
            "volumes-image",
            "volumes-mount-propagation",
        )
    },
    POD_FLAGS + "volumes-emptydir": "enabled",
    # Knative Eventing's
    "delivery-timeout": "enabled",
    "delivery-retryafter": "disabled",
    "kreference-group": "disabled",
    "cross-namespace-event-links": "disabled",
    "authentication-oidc": "disabled",
    "new-apiserversource-filters": "disabled",
    # Versions of Kubernetes' own APIs that an API server serves only if it is told to.
    **dict.fromkeys(OPTIONAL_VERSIONS, "disabled"),
}
_NUMBERS: Mapping[str, int] = {
    "revision-timeout-seconds": 300,
    "revision-response-start-timeout-seconds": 300,
    "max-revision-timeout-seconds": 600,
    "container-concurrency": 0,
    "container-concurrency-max-limit": 1000,
    "max-scale-limit": 0,
}
_SWITCHES: Mapping[str, bool] = {
    "allow-container-concurrency-zero": True,
    "allow-zero-initial-scale": False,
}
_WORDS = ("enabled", "allowed", "disabled", "allowrootbounded")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What differs from the shipped configuration, by key of the config maps.

    `classes`: the DeviceClasses that it is known to have. `brokers`: its Brokers by namespace and
    name, None where they are not known. `serves`: the groups of its API with their versions, None
    for those of a stock cluster. `defines`: apiVersion and kind of what CRDs beside add to it.
    `admin_namespaces`: the namespaces whose label lets claims in them have admin access to devices.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    brokers: frozenset[tuple[str, str]] | None = None
    serves: frozenset[str] | None = None
    defines: frozenset[tuple[str, str]] = frozenset()
    admin_namespaces: frozenset[str] = frozenset()

    def flag(self, key: str) -> str:
        """`enabled`, `allowed`, `disabled` (or `allowrootbounded`)."""
        value = self.settings.get(key, "").lower()
        return value if value in _WORDS else FLAGS[key]

    def enabled(self, key: str) -> bool:
        """Whether the flag is on for everybody."""
        return self.flag(key) == "enabled"

    def open(self, key: str) -> bool:
        """Whether a field behind the flag passes the mask."""
        return self.flag(key) != "disabled"

    @property
    def secure_defaults(self) -> bool:
        """Whether Knative fills in a restricted security context."""
        return self.flag("secure-pod-defaults") in ("enabled", "allowrootbounded")

    def number(self, key: str) -> int:
        """A number of config-defaults or config-autoscaler."""
        value = self.settings.get(key, "")
        return int(value) if value.strip().lstrip("-").isdigit() else _NUMBERS[key]

    def switch(self, key: str) -> bool:
        """A true or false of config-defaults or config-autoscaler."""
        value = self.settings.get(key, "").lower()
        return value == "true" if value in ("true", "false") else _SWITCHES[key]


SHIPPED = Cluster()


def read_cluster(file: Path) -> Cluster:
    """The settings in `file`: config maps of Knative, or one plain map of their keys.

    Raises InvalidInput for a file that cannot be read, a key that no config map has, and a flag
    that is not enabled, allowed or disabled (which Knative itself would ignore).
    """
    settings: dict[str, str] = {}
    for document in documents(file):
        table = document.table()
        data = table
        if table.get("kind") is not None:
            found = table.get("data")
            if found is None:
                continue
            data = found.table()
        settings |= settings_of(data)
    return Cluster(settings)


def settings_of(data: Table) -> dict[str, str]:
    """The settings in the `data` of a config map; raises InvalidInput as `read_cluster` does."""
    settings = {}
    for key, node in data:
        if key.startswith("_"):  # _example: how the shipped maps explain themselves
            continue
        known = (*FLAGS, *_NUMBERS, *_SWITCHES)
        text = node.text() if key in FLAGS else getattr(node, "content", "")
        if key in FLAGS and text.lower() not in _WORDS:
            raise node.wrong(f"invalid value: {text}: write enabled, allowed or disabled")
        if key.startswith(("kubernetes.", "multi-container")) and key not in FLAGS:
            raise InvalidInput(
                f"{node.file}:{node.line}: {key}: no such flag{did_you_mean(key, known)}"
            )
        settings[key] = text
    return settings
