"""Kubernetes' own kinds, as far as we write them: what the API server asks beyond their types.

Source: kubernetes pkg/apis/{core,apps,policy,networking,admissionregistration}/validation. A pod
template is judged here too; a pod that Knative makes is refused by the same rules, but later.
"""

import re
from collections.abc import Mapping

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.cluster.admission.metadata import is_dns_label, is_qualified_name, judge_keys
from relume.cluster.admission.pods import (
    POD_WORDS,
    PROTOCOLS,
    judge_port,
    judge_whole_pod,
    judge_words,
)
from relume.cluster.admission.serving import judge_settings
from relume.config.nodes import Node, Table

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
SELECTING = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    **dict.fromkeys((*SELECTING, "Job"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT", "*")
_PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def judge_workload(document: Table, judge: Judge) -> None:
    """A pod, or what makes pods of a template."""
    kind = content(document, "kind")
    owner = child(document, *_TEMPLATES[kind])
    if owner is None:
        return
    if _TEMPLATES[kind]:
        judge_keys(child(owner, "metadata"), judge)
    pod = child(owner, "spec")
    if pod is None:
        judge.missing(owner, "spec")
        return
    judge_words(pod, POD_WORDS, judge)
    if not entries(pod, "containers"):
        judge.missing(pod, "containers")
    if kind in SELECTING:
        _judge_selector(document, owner, judge)
    judge_whole_pod(pod, judge)
    _judge_volumes(pod, judge)


def _judge_selector(document: Table, template: Node, judge: Judge) -> None:
    selector = child(document, "spec", "selector")
    for name, node in fields(selector, "matchLabels").items():
        if content(template, "metadata", "labels", name) != content(node):
            judge.say(
                node,
                "conflict",
                f"`selector` does not match template `labels`: {name}: {content(node)}",
                f"Write the label {name}: {content(node)} in spec.template.metadata.labels.",
                field="spec.template.metadata.labels",
            )
    if selector is not None and not fields(selector):
        judge.say(selector, "invalid-value", "empty selector is invalid for a workload")


def _judge_volumes(pod: Node, judge: Judge) -> None:
    volumes = {content(volume, "name") for volume in entries(pod, "volumes")}
    for volume in entries(pod, "volumes"):
        name = child(volume, "name")
        if name is not None and not is_dns_label(content(name)):
            judge.invalid(name, "a volume's name is a DNS-1123 label")
        sources = [source for source in fields(volume) if source != "name"]
        if len(sources) > 1:
            judge.several(volume, *sources)
    for container in (*entries(pod, "initContainers"), *entries(pod, "containers")):
        for mount in entries(container, "volumeMounts"):
            name = child(mount, "name")
            if name is not None and content(name) not in volumes:
                judge.say(name, "invalid-value", f'not found: "{content(name)}"')


def judge_config_map(document: Table, judge: Judge) -> None:
    """v1 ConfigMap and Secret: the names of keys."""
    for field in ("data", "binaryData", "stringData"):
        for name, node in fields(document, field).items():
            if not _KEY.fullmatch(name) or name in (".", ".."):
                judge.invalid(node, "a key has letters, digits, '-', '_' and '.'", shown=name)
    if content(document, "kind") == "ConfigMap":
        judge_settings(document, judge)


def judge_core_service(document: Table, judge: Judge) -> None:
    """v1 Service."""
    ports = entries(document, "spec", "ports")
    headless = content(document, "spec", "clusterIP") == "None"
    if not ports and not headless and content(document, "spec", "type") != "ExternalName":
        judge.missing(child(document, "spec") or document, "ports")
    names: set[str] = set()
    for port in ports:
        for field in ("port", "nodePort"):
            judge_port(child(port, field), judge)
        name, text = child(port, "name"), content(port, "name")
        if len(ports) > 1 and not text:
            judge.missing(port, "name")
        elif name is not None and text and not is_dns_label(text):
            judge.invalid(name, "must be a DNS-1123 label")
        elif name is not None and text in names:
            judge.repeated(name)
        names.add(text)


def judge_disruption_budget(document: Table, judge: Judge) -> None:
    """policy/v1 PodDisruptionBudget."""
    inside = fields(document, "spec")
    both = [name for name in ("minAvailable", "maxUnavailable") if name in inside]
    if len(both) > 1:
        judge.several(document.entries["spec"], *both)
    for node in (inside[name] for name in both):
        if number(node) is None and not re.fullmatch(r"\d{1,3}%", content(node)):
            judge.invalid(node, "must be a whole number or a percentage")


def judge_network_policy(document: Table, judge: Judge) -> None:
    """networking.k8s.io/v1 NetworkPolicy."""
    spec = document.get("spec")
    for node in entries(spec, "policyTypes"):
        judge.check_word(node, ("Ingress", "Egress"), empty=False)
    for rule in (*entries(spec, "ingress"), *entries(spec, "egress")):
        for port in entries(rule, "ports"):
            judge_port(child(port, "port"), judge)
            judge.check_word(child(port, "protocol"), PROTOCOLS)


def judge_quota(document: Table, judge: Judge) -> None:
    """v1 ResourceQuota: the names of resources."""
    for name, node in fields(document, "spec", "hard").items():
        if not is_qualified_name(name):
            judge.invalid(node, "must be a resource's name", shown=name)


def judge_mutating_policy(document: Table, judge: Judge) -> None:
    """MutatingAdmissionPolicy: what it changes, and when."""
    spec = document.get("spec") or document
    _judge_policy(spec, judge)
    if child(spec, "reinvocationPolicy") is None:
        judge.missing(spec, "reinvocationPolicy")
    if not entries(spec, "mutations"):
        judge.missing(spec, "mutations")
    for mutation in entries(spec, "mutations"):
        kind = child(mutation, "patchType")
        wanted = _PATCHES.get(content(kind))
        if wanted is None:
            judge.unsupported(kind or mutation, _PATCHES)
            continue
        if not content(mutation, wanted, "expression"):
            judge.missing(child(mutation, wanted) or mutation, "expression")
        (other,) = set(_PATCHES.values()) - {wanted}
        if child(mutation, other) is not None:
            judge.several(mutation, wanted, other)


def judge_validating_policy(document: Table, judge: Judge) -> None:
    """ValidatingAdmissionPolicy."""
    spec = document.get("spec") or document
    _judge_policy(spec, judge)
    if not entries(spec, "validations") and not entries(spec, "auditAnnotations"):
        judge.missing(spec, "validations", "auditAnnotations", reason="one-of")


def _judge_policy(spec: Node, judge: Judge) -> None:
    """What both kinds of policies have: what they match, and on which conditions."""
    constraints = child(spec, "matchConstraints")
    rules = entries(constraints, "resourceRules")
    if constraints is None:
        judge.missing(spec, "matchConstraints")
    elif not rules:
        judge.missing(constraints, "resourceRules")
    for node, words in (
        (child(spec, "failurePolicy"), ("Fail", "Ignore")),
        (child(spec, "reinvocationPolicy"), ("Never", "IfNeeded")),
        (child(constraints, "matchPolicy"), ("Exact", "Equivalent")),
        *((node, _OPERATIONS) for rule in rules for node in entries(rule, "operations")),
    ):
        judge.check_word(node, words, empty=False)
    for rule in rules:
        for needed in ("apiGroups", "apiVersions", "operations", "resources"):
            if not entries(rule, needed):
                judge.missing(rule, needed)
    seen: set[str] = set()
    for condition in entries(spec, "matchConditions"):
        name = child(condition, "name")
        if name is not None and content(name) in seen:
            judge.repeated(name)
        elif name is not None and not is_qualified_name(content(name)):
            judge.invalid(name, "must be a qualified name")
        seen.add(content(name))
        if not content(condition, "expression").strip():
            judge.missing(condition, "expression")


def judge_binding(document: Table, judge: Judge) -> None:
    """The binding that puts a policy into force."""
    spec = document.get("spec") or document
    judge.check_filled(spec, "policyName")
    validating = content(document, "kind").startswith("Validating")
    if validating and not entries(spec, "validationActions"):
        judge.missing(spec, "validationActions")
