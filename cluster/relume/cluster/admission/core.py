"""Kubernetes' own kinds that bound others: budgets, quotas, priorities, admission policies.

Source: kubernetes pkg/apis/{core,policy,scheduling,admissionregistration}/validation.
"""

import re

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.cluster.admission.metadata import is_qualified_name
from relume.config.nodes import Node, Table

_HIGHEST_PRIORITY = 1_000_000_000
_OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT", "*")
_PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def judge_disruption_budget(document: Table, judge: Judge) -> None:
    """policy/v1 PodDisruptionBudget."""
    inside = fields(document, "spec")
    both = [name for name in ("minAvailable", "maxUnavailable") if name in inside]
    if len(both) > 1:
        judge.several(document.entries["spec"], *both)
    for node in (inside[name] for name in both):
        if number(node) is None and not re.fullmatch(r"\d{1,3}%", content(node)):
            judge.invalid(node, "must be a whole number or a percentage")


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


def judge_priority(document: Table, judge: Judge) -> None:
    """scheduling.k8s.io/v1 PriorityClass: the highest ones are the system's own."""
    name, value = child(document, "metadata", "name"), child(document, "value")
    if name is not None and content(name).startswith("system-"):
        message = "priority class names with 'system-' prefix are reserved for system use only"
        judge.say(name, "reserved", f"{content(name)}: {message}")
    amount = number(value)
    if value is not None and amount is not None and amount > _HIGHEST_PRIORITY:
        why = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
        judge.invalid(value, why)
    judge.check_word(child(document, "preemptionPolicy"), ("PreemptLowerPriority", "Never"))
