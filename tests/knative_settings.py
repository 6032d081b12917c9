"""What Knative Serving's settings are where nobody changed them.

Figures of knative/serving 98e5ef9: config/core/configmaps, whose `_example` shows each default, and
pkg/apis/config and pkg/autoscaler/config, which apply them. `tests/conformance` compares them with
the published files.
"""

from collections.abc import Mapping

_OFF = (
    *("affinity", "dnsconfig", "dnspolicy", "fieldref", "hostaliases", "hostipc", "hostnetwork"),
    *("hostpid", "init-containers", "nodeselector", "persistent-volume-claim"),
    *("persistent-volume-write", "priorityclassname", "runtimeclassname", "schedulername"),
    *("securitycontext", "shareprocessnamespace", "tolerations", "topologyspreadconstraints"),
    *("volumes-csi", "volumes-ephemeral", "volumes-hostpath", "volumes-image"),
    "volumes-mount-propagation",
)

SHIPPED: Mapping[str, Mapping[str, str]] = {
    "autoscaler": {
        "activator-capacity": "100.0",
        "allow-zero-initial-scale": "false",
        "container-concurrency-target-default": "100",
        "container-concurrency-target-percentage": "70",
        "enable-scale-to-zero": "true",
        "initial-scale": "1",
        "max-scale": "0",
        "max-scale-down-rate": "2.0",
        "max-scale-limit": "0",
        "max-scale-up-rate": "1000.0",
        "min-scale": "0",
        "panic-threshold-percentage": "200.0",
        "panic-window-percentage": "10.0",
        "pod-autoscaler-class": "kpa.autoscaling.knative.dev",
        "requests-per-second-target-default": "200",
        "scale-down-delay": "0s",
        "scale-to-zero-grace-period": "30s",
        "scale-to-zero-pod-retention-period": "0s",
        "stable-window": "60s",
        "target-burst-capacity": "211",
    },
    "defaults": {
        "allow-container-concurrency-zero": "true",
        "container-concurrency": "0",
        "container-concurrency-max-limit": "1000",
        "enable-service-links": "false",
        "max-revision-timeout-seconds": "600",
        "revision-idle-timeout-seconds": "0",
        "revision-response-start-timeout-seconds": "300",
        "revision-timeout-seconds": "300",
    },
    "deployment": {
        "pod-is-always-schedulable": "false",
        "progress-deadline": "600s",
        "registries-skipping-tag-resolving": "kind.local,ko.local,dev.local",
        "runtime-class-name": "",
    },
    "features": {
        **{f"kubernetes.podspec-{field}": "disabled" for field in _OFF},
        "kubernetes.podspec-volumes-emptydir": "enabled",
        "kubernetes.containerspec-addcapabilities": "disabled",
        "autodetect-http2": "disabled",
        "multi-container": "enabled",
        "multi-container-probing": "disabled",
        "queueproxy.mount-podinfo": "disabled",
        "queueproxy.resource-defaults": "disabled",
        "secure-pod-defaults": "disabled",
        "tag-header-based-routing": "disabled",
    },
}
