"""From a document to what is said about it: its head, its schema, its kind's own rules."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from relume.base.errors import InvalidManifest
from relume.cluster.admission import (
    access,
    autoscalers,
    channels,
    config_data,
    core,
    devices,
    domain_mappings,
    eventing,
    ingresses,
    integrations,
    kserve,
    kserve_kinds,
    llm,
    networking,
    serving,
    sources,
    storage,
    volume_claims,
    workloads,
)
from relume.cluster.admission.cluster import SHIPPED, Cluster
from relume.cluster.admission.judge import Judge, content
from relume.cluster.admission.kinds import judge_head, judged_by_fields_alone
from relume.cluster.admission.metadata import judge_metadata
from relume.cluster.findings import AdmissionVerdict, Finding, at, verdict
from relume.cluster.reasons import REASONS
from relume.cluster.schemas import BASE64, check_shape, fractions, pruned, schema
from relume.cluster.schemas.tables import Shape
from relume.config.nodes import Node, Table

_RULES: Mapping[tuple[str, str], Callable[[Table, Judge], None]] = {
    ("", "ConfigMap"): config_data.judge_config_map,
    ("", "Secret"): config_data.judge_secret,
    ("", "Service"): networking.judge_core_service,
    ("", "ResourceQuota"): core.judge_quota,
    ("", "Pod"): workloads.judge_workload,
    ("", "PodTemplate"): workloads.judge_workload,
    ("", "ReplicationController"): workloads.judge_workload,
    ("", "PersistentVolumeClaim"): volume_claims.judge_volume_claim,
    **{("apps", kind): workloads.judge_workload for kind in workloads.SELECTING},
    ("", "PersistentVolume"): storage.judge_volume,
    ("storage.k8s.io", "StorageClass"): storage.judge_storage_class,
    ("scheduling.k8s.io", "PriorityClass"): core.judge_priority,
    ("networking.k8s.io", "Ingress"): ingresses.judge_ingress,
    ("rbac.authorization.k8s.io", "Role"): access.judge_role,
    ("rbac.authorization.k8s.io", "ClusterRole"): access.judge_role,
    ("rbac.authorization.k8s.io", "RoleBinding"): access.judge_role_binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): access.judge_role_binding,
    ("batch", "Job"): workloads.judge_workload,
    ("batch", "CronJob"): workloads.judge_workload,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscalers.judge_autoscaler,
    ("policy", "PodDisruptionBudget"): core.judge_disruption_budget,
    ("networking.k8s.io", "NetworkPolicy"): networking.judge_network_policy,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): core.judge_mutating_policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): core.judge_validating_policy,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): core.judge_binding,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): core.judge_binding,
    ("resource.k8s.io", "DeviceClass"): devices.judge_device_class,
    ("resource.k8s.io", "ResourceClaim"): devices.judge_claim,
    ("resource.k8s.io", "ResourceClaimTemplate"): devices.judge_claim_template,
    ("resource.k8s.io", "ResourceSlice"): devices.judge_slice,
    ("eventing.knative.dev", "Broker"): eventing.judge_broker,
    ("eventing.knative.dev", "Trigger"): eventing.judge_trigger,
    ("eventing.knative.dev", "EventType"): eventing.judge_event_type,
    ("eventing.knative.dev", "EventPolicy"): eventing.judge_event_policy,
    ("eventing.knative.dev", "RequestReply"): eventing.judge_request_reply,
    ("eventing.knative.dev", "EventTransform"): eventing.judge_event_transform,
    ("flows.knative.dev", "Sequence"): eventing.judge_sequence,
    ("flows.knative.dev", "Parallel"): eventing.judge_parallel,
    ("messaging.knative.dev", "Subscription"): eventing.judge_subscription,
    ("messaging.knative.dev", "Channel"): channels.judge_channel,
    ("messaging.knative.dev", "InMemoryChannel"): channels.judge_in_memory_channel,
    ("messaging.knative.dev", "KafkaChannel"): channels.judge_kafka_channel,
    ("eventing.knative.dev", "KafkaSink"): channels.judge_kafka_sink,
    ("sinks.knative.dev", "JobSink"): eventing.judge_job_sink,
    ("sinks.knative.dev", "IntegrationSink"): integrations.judge_integration_sink,
    ("sources.knative.dev", "IntegrationSource"): integrations.judge_integration_source,
    ("sources.knative.dev", "ApiServerSource"): sources.judge_api_server_source,
    ("sources.knative.dev", "ContainerSource"): sources.judge_container_source,
    ("sources.knative.dev", "PingSource"): sources.judge_ping_source,
    ("sources.knative.dev", "SinkBinding"): sources.judge_sink_binding,
    ("sources.knative.dev", "KafkaSource"): channels.judge_kafka_source,
    ("serving.kserve.io", "InferenceService"): kserve.judge_inference_service,
    ("serving.kserve.io", "ServingRuntime"): kserve.judge_runtime,
    ("serving.kserve.io", "ClusterServingRuntime"): kserve.judge_runtime,
    ("serving.kserve.io", "InferenceGraph"): kserve_kinds.judge_graph,
    ("serving.kserve.io", "TrainedModel"): kserve_kinds.judge_trained_model,
    ("serving.kserve.io", "LLMInferenceService"): llm.judge_llm_service,
    ("serving.kserve.io", "LLMInferenceServiceConfig"): llm.judge_llm_config,
    ("serving.knative.dev", "Service"): serving.judge_service,
    ("serving.knative.dev", "Configuration"): serving.judge_configuration,
    ("serving.knative.dev", "Revision"): serving.judge_revision,
    ("serving.knative.dev", "Route"): serving.judge_route,
    ("serving.knative.dev", "DomainMapping"): domain_mappings.judge_domain_mapping,
}
# Their defaulting webhooks write the whole document anew, every field of their types with it.
_FILLED = {
    "serving.knative.dev",
    "eventing.knative.dev",
    "flows.knative.dev",
    "messaging.knative.dev",
    "sinks.knative.dev",
    "sources.knative.dev",
}
_FILLED_KINDS = {"InferenceService", "LLMInferenceService"}
_PROJECTS = (".knative.dev", ".kserve.io")  # whose kinds have CRDs
_STEP = re.compile(r"\[\d+\]|[^.\[\]]+")
_CLAIMS = ("resourceClaims", "claims")
_KNATIVE = ("Service", "Configuration", "Revision")


@dataclass(frozen=True, slots=True)
class Admission:
    """One document's kind and name ("" where it has none), and what was found."""

    api_version: str
    kind: str
    name: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> AdmissionVerdict:
        """What the cluster does with it."""
        return verdict(self.findings)


def admit(document: Node, cluster: Cluster = SHIPPED) -> Admission:
    """Judge one document; never raises, whatever is in it."""
    if not isinstance(document, Table):
        message = f"a manifest must be a table of fields, not {document.what}"
        return Admission("", "", "", (at(document, "not-a-manifest", message),))
    api_version, kind = content(document, "apiVersion"), content(document, "kind")
    judge = Judge(cluster)
    if judge_head(document, judge):
        _judge_document(document, api_version, kind, judge)
    if verdict(judge.found) == "refused":  # then nothing fails later
        judge.found = [finding for finding in judge.found if finding.reason != "left-empty"]
    once = {(finding.reason, finding.field): finding for finding in reversed(judge.found)}
    found = map(_without_value, once.values()) if kind == "Secret" else once.values()
    name = content(document, "metadata", "name")
    return Admission(api_version, kind, name, tuple(reversed(tuple(found))))


def _without_value(finding: Finding) -> Finding:
    """The finding without the value, which is secret. What `config_data` says has none in it."""
    if not finding.field.startswith(("data.", "stringData.")):
        return finding
    if finding.reason == "wrong-type":
        message = "must be a string, and this is not one (value not shown)"
        return replace(finding, message=message, fix="Put the value in quotes.")
    if finding.message == BASE64:
        fix = "Write plain text under stringData; data takes base64."
        return replace(finding, message=f"{BASE64} (value not shown)", fix=fix)
    return finding


def _judge_document(document: Table, api_version: str, kind: str, judge: Judge) -> None:
    known = schema(api_version, kind)
    group = api_version.rpartition("/")[0]
    kept: Node = document
    if known is not None:
        filled = kind in _FILLED_KINDS or group in _FILLED
        own = not group.endswith(_PROJECTS)
        differing = _of_status(check_shape(document, known.shape), decoded=filled or own)
        for finding in differing:
            judge.found.append(_left_empty(finding, known.shape) if filled else finding)
        if not (filled or own):
            judge.found += fractions(document, known.shape)
        judge.found = [_about_claims(finding, kind) for finding in judge.found]
        kept = pruned(document, known.shape)
        if (status := document.get("status")) is not None:
            judge.say(status, "status-ignored", "the status is dropped")
    if any(finding.reason == "wrong-type" for finding in judge.found):
        return  # decoding ends there, and no rule is asked
    assert isinstance(kept, Table)
    rule = _RULES.get((group, kind))
    try:
        namespaced = known is None or known.namespaced
        judge_metadata(kept, (api_version, kind), judge, namespaced=namespaced)
        if rule is not None:
            rule(kept, judge)
        elif known is not None and judged_by_fields_alone(api_version, kind):
            judge.say(
                document.entries["kind"], "fields-only", f"of a {kind} only the fields were judged"
            )
    except InvalidManifest as error:  # a value that only a rule needs to be of some type
        found = Finding("wrong-type", error.field, str(error), "", error.file, error.line)
        judge.found.append(found)


def _of_status(found: Iterable[Finding], *, decoded: bool) -> Iterator[Finding]:
    """What counts of the findings: a status is dropped, but it must be of the API's fields.

    `decoded`: the API server, or a webhook, reads the whole document into its types first.
    """
    for finding in found:
        inside = finding.field == "status" or finding.field.startswith(("status.", "status["))
        reasons = ("unknown-field", "undecodable-field", *(("wrong-type",) if decoded else ()))
        if not inside or finding.reason in reasons:
            yield finding


def _left_empty(finding: Finding, whole: Shape) -> Finding:
    """A missing field that a defaulting webhook fills in with the zero value of its Go type.

    The schema is asked afterwards, and refuses a zero value that it does not take.
    """
    if finding.reason != "missing-field":
        return finding
    steps = ("[]" if step[0] == "[" else step for step in _STEP.findall(finding.field))
    shape = whole.field(*steps)
    if shape is not None and not _takes_zero(shape):
        return finding
    message = f"{finding.field} is left empty, and admission takes it"
    return replace(finding, reason="left-empty", message=message, fix="Add the field.")


def _takes_zero(shape: Shape) -> bool:
    """Whether a field takes what Go writes for a value that was never set."""
    of = shape.type
    kind = of.get("type")
    if kind in ("integer", "number"):
        return float(of.get("min", 0)) <= 0
    if kind == "string":
        enum, pattern = of.get("enum", ("",)), of.get("pattern", "")
        return "" in enum and not of.get("min_length") and re.search(pattern, "") is not None
    if kind == "array":
        return False  # it is written as null
    needed = of.get("required", ()) if kind == "object" else ()
    return all(_takes_zero(shape.at(of["fields"][name])) for name in needed)


def _about_claims(finding: Finding, kind: str) -> Finding:
    """A device claim that Knative has no field for has a reason and a fix of its own."""
    claim = finding.field.rpartition(".")[2] in _CLAIMS
    if not claim or finding.reason != "unknown-field" or kind not in _KNATIVE:
        return finding
    message = f"{finding.message}: Knative Serving has no API for device claims"
    fix = REASONS["claim-dropped"].fix
    return replace(finding, reason="claim-dropped", message=message, fix=fix)
