"""Documents of kinds that are not run themselves: what they are, and what becomes of them here."""

from collections.abc import Mapping

from relume.config.fields import Resource, did_you_mean
from relume.config.resources import OtherDocument
from relume.config.service_fields import NO_DEVICE

_NO_PERMISSIONS = "a predictor runs as you: nothing asks for permissions on this machine"
_ONE_RUNTIME = "Relume's own vLLM runtime serves every model"
_NO_POLICY = "it has no effect on one machine"
_REASONS: Mapping[str, str] = {
    "a namespace needs no making on this machine": "Namespace",
    "a predictor runs as you, without a service account": "ServiceAccount",
    "every service has an address of its own on this machine": "Service",
    "a predictor reads a folder of this machine instead": """PersistentVolume
        PersistentVolumeClaim StorageClass""",
    _NO_PERMISSIONS: "Role RoleBinding ClusterRole ClusterRoleBinding",
    NO_DEVICE: "DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice",
    _ONE_RUNTIME: "ClusterServingRuntime ServingRuntime ClusterStorageContainer",
    _NO_POLICY: """NetworkPolicy ResourceQuota LimitRange PriorityClass PodDisruptionBudget
        ServiceMonitor PodMonitor PrometheusRule ScaledObject TriggerAuthentication
        HorizontalPodAutoscaler""",
}
#: Kinds whose documents are left out without changing an answer, and why.
LISTED: Mapping[str, str] = {kind: why for why, kinds in _REASONS.items() for kind in kinds.split()}


def read_other(resource: Resource, run: Mapping[str, str]) -> OtherDocument:
    """The document of `resource`, which is of no kind in `run`; it is listed, or refused here."""
    node = resource.body.need("kind", "")
    if resource.kind in LISTED:
        resource.leave_out(node, LISTED[resource.kind])
    else:
        known = ", ".join(run)
        hint = did_you_mean(resource.kind, run)
        why = f"{resource.kind} is not run on this machine: known kinds are {known}{hint}"
        resource.cannot_run(node.origin, why)
    version = resource.body.get("apiVersion")
    return OtherDocument(
        api_version="" if version is None else version.text(),
        kind=resource.kind,
        namespace=resource.namespace,
        name=resource.name,
        origin=resource.origin,
    )
