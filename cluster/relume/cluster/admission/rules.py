"""From a document to what is said about it: its head, its schema, its kind's own rules."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from relume.base.errors import InvalidManifest
from relume.cluster.admission import (
    access,
    channels,
    core,
    devices,
    eventing,
    integrations,
    kserve,
    kserve_kinds,
    llm,
    serving,
    sources,
)
from relume.cluster.admission.cluster import SHIPPED, Cluster
from relume.cluster.admission.judge import Judge, content
from relume.cluster.admission.kinds import judge_head, judged_by_fields_alone
from relume.cluster.admission.metadata import judge_metadata
from relume.cluster.findings import AdmissionVerdict, Finding, at, verdict
from relume.cluster.reasons import REASONS
from relume.cluster.schemas import check_shape, pruned, schema
from relume.cluster.schemas.tables import Shape
from relume.config.nodes import Node, Table

_RULES: Mapping[tuple[str, str], Callable[[Table, Judge], None]] = {
    ("", "ConfigMap"): core.judge_config_map,
    ("", "Secret"): core.judge_config_map,
    ("", "Service"): core.judge_core_service,
    ("", "ResourceQuota"): core.judge_quota,
    ("", "Pod"): core.judge_workload,
    ("", "PodTemplate"): core.judge_workload,
    **{("apps", kind): core.judge_workload for kind in core.SELECTING},
    ("batch", "Job"): core.judge_workload,
    ("batch", "CronJob"): core.judge_workload,
    ("policy", "PodDisruptionBudget"): core.judge_disruption_budget,
    ("networking.k8s.io", "NetworkPolicy"): core.judge_network_policy,
    ("rbac.authorization.k8s.io", "Role"): access.judge_role,
    ("rbac.authorization.k8s.io", "ClusterRole"): access.judge_role,
    ("rbac.authorization.k8s.io", "RoleBinding"): access.judge_role_binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): access.judge_role_binding,
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
    """The finding without the value, which is secret."""
    if not finding.field.startswith(("data", "stringData")):
        return finding
    return replace(finding, message="this value is not as the API has it", fix="See the API.")


def _judge_document(document: Table, api_version: str, kind: str, judge: Judge) -> None:
    known = schema(api_version, kind)
    group = api_version.rpartition("/")[0]
    kept: Node = document
    if known is not None:
        filled = kind in _FILLED_KINDS or group in _FILLED
        for finding in check_shape(document, known.shape):
            judge.found.append(_left_empty(finding, known.shape) if filled else finding)
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
