"""Admission policies, as the API server judges them (admissionregistration.k8s.io)."""

from collections.abc import Callable

from relume.cluster.admission.judge import Judge, content, entries, fields
from relume.cluster.admission.syntax import is_qualified_name
from relume.config.nodes import Node, Table

_OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT", "*")
_PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
_WORDS = {
    "failurePolicy": ("Fail", "Ignore"),
    "reinvocationPolicy": ("Never", "IfNeeded"),
    "matchPolicy": ("Exact", "Equivalent"),
}


def judge_mutating_policy(document: Table, judge: Judge) -> None:
    """MutatingAdmissionPolicy: what it changes, and when."""
    spec = document.get("spec") or document
    _judge_common(spec, judge)
    if "reinvocationPolicy" not in fields(spec):
        judge.missing(spec, "reinvocationPolicy")
    mutations = entries(fields(spec).get("mutations"))
    if not mutations:
        judge.missing(spec, "mutations")
    for mutation in mutations:
        inside = fields(mutation)
        kind = inside.get("patchType")
        wanted = _PATCHES.get(content(kind))
        if wanted is None:
            known = " or ".join(_PATCHES)
            message = f'unsupported value: "{content(kind)}": supported: {known}'
            judge.say(kind or mutation, "unsupported-value", message)
            continue
        other = next(name for name in _PATCHES.values() if name != wanted)
        if not content(fields(inside.get(wanted)).get("expression")):
            judge.missing(inside.get(wanted, mutation), "expression")
        if other in inside:
            judge.several(mutation, wanted, other)


def judge_validating_policy(document: Table, judge: Judge) -> None:
    """ValidatingAdmissionPolicy."""
    spec = document.get("spec") or document
    _judge_common(spec, judge)
    if not entries(fields(spec).get("validations")) and not entries(
        fields(spec).get("auditAnnotations")
    ):
        judge.missing(spec, "validations", "auditAnnotations", reason="one-of")


def _judge_common(spec: Node, judge: Judge) -> None:
    constraints = fields(spec).get("matchConstraints")
    rules = entries(fields(constraints).get("resourceRules"))
    if constraints is None:
        judge.missing(spec, "matchConstraints")
    elif not rules:
        judge.missing(constraints, "resourceRules")
    for name, words in _WORDS.items():
        owner = constraints if name == "matchPolicy" else spec
        node = fields(owner).get(name)
        if node is not None and content(node) not in words:
            message = f'unsupported value: "{content(node)}": supported: {", ".join(words)}'
            judge.say(node, "unsupported-value", message)
    for rule in rules:
        for needed in ("apiGroups", "apiVersions", "operations", "resources"):
            if not entries(fields(rule).get(needed)):
                judge.missing(rule, needed)
        for node in entries(fields(rule).get("operations")):
            if content(node) not in _OPERATIONS:
                message = (
                    f'unsupported value: "{content(node)}": supported: {", ".join(_OPERATIONS)}'
                )
                judge.say(node, "unsupported-value", message)
    _judge_conditions(spec, judge)


def _judge_conditions(spec: Node, judge: Judge) -> None:
    seen: set[str] = set()
    for condition in entries(fields(spec).get("matchConditions")):
        name, expression = (fields(condition).get(n) for n in ("name", "expression"))
        if name is not None and content(name) in seen:
            judge.say(name, "duplicate-item", f'duplicate value: "{content(name)}"')
        elif name is not None and not is_qualified_name(content(name)):
            judge.invalid(name, "must be a qualified name")
        seen.add(content(name))
        if expression is None or not content(expression).strip():
            judge.missing(condition, "expression")


def judge_binding(document: Table, judge: Judge) -> None:
    """The binding that puts a policy into force."""
    spec = document.get("spec") or document
    if not content(fields(spec).get("policyName")):
        judge.missing(spec, "policyName")
    if content(document.get("kind")).startswith("Validating") and not entries(
        fields(spec).get("validationActions")
    ):
        judge.missing(spec, "validationActions")


_GROUP = "admissionregistration.k8s.io"
RULES: dict[tuple[str, str], Callable[[Table, Judge], None]] = {
    (_GROUP, "MutatingAdmissionPolicy"): judge_mutating_policy,
    (_GROUP, "ValidatingAdmissionPolicy"): judge_validating_policy,
    (_GROUP, "MutatingAdmissionPolicyBinding"): judge_binding,
    (_GROUP, "ValidatingAdmissionPolicyBinding"): judge_binding,
}
