"""The parts that DeviceClasses, claims and slices share: selectors, tolerations, names.

Source: kubernetes pkg/apis/resource/validation/validation.go and the limits in the API's types.
"""

import re
from collections.abc import Collection

from relume.cluster.admission.judge import Judge, content, entries, fields
from relume.cluster.admission.syntax import (
    is_c_identifier,
    is_label_value,
    is_qualified_name,
    is_subdomain,
)
from relume.config.nodes import Node

MOST = 32  # requests, constraints, configurations, selectors
_MOST_TOLERATIONS = 16
_LONGEST = 10 << 10  # bytes of an expression
# Of the libraries in apiserver/pkg/cel/environment/base.go, those that our evaluator has not.
_LIBRARIES = ("url", "isURL", "ip", "isIP", "cidr", "isCIDR", "format", "sets")
_UNDECLARED = re.compile(r"undeclared reference to '(\w+)'")


def judge_selectors(selectors: Node | None, judge: Judge) -> None:
    """Each selector holds one expression that compiles."""
    at_most(selectors, MOST, judge)
    for selector in entries(selectors):
        cel = fields(selector).get("cel")
        if cel is None:
            judge.missing(selector, "cel")
            continue
        expression = fields(cel).get("expression")
        if expression is None or not content(expression):
            judge.missing(cel, "expression")
        else:
            _judge_expression(expression, judge)


def _judge_expression(node: Node, judge: Judge) -> None:
    text = content(node)
    if len(text.encode()) > _LONGEST:
        judge.say(node, "too-many", f"too long: must have at most {_LONGEST} bytes")
        return
    # An evaluator of CEL takes a tenth of a second to load: only where there is an expression.
    from relume.cluster.claims.expressions import CelError, compile_expression

    try:
        compile_expression(text)
    except CelError as error:
        unknown = _UNDECLARED.search(str(error))
        if unknown is not None and unknown[1] in _LIBRARIES:
            return  # the API server has the function, our evaluator does not
        message = f'invalid value: "{text}": compilation failed: {error}'
        judge.say(node, "invalid-expression", message)


def judge_tolerations(tolerations: Node | None, judge: Judge) -> None:
    """Taints of devices that a request puts up with."""
    at_most(tolerations, _MOST_TOLERATIONS, judge)
    judge_taints(tolerations, judge, ("NoExecute", "NoSchedule"))


def judge_taints(tolerations: Node | None, judge: Judge, effects: Collection[str]) -> None:
    """What a pod or a request puts up with, of nodes or devices that have these effects."""
    for toleration in entries(tolerations):
        inside = fields(toleration)
        key, operator, value = (inside.get(n) for n in ("key", "operator", "value"))
        if operator is not None and content(operator) not in ("", "Exists", "Equal"):
            message = f'unsupported value: "{content(operator)}": supported: "Equal", "Exists"'
            judge.say(operator, "unsupported-value", message)
        if content(operator) == "Exists" and content(value) and value is not None:
            judge.invalid(value, "must be empty for operator `Exists`")
        elif value is not None and not is_label_value(content(value)):
            judge.invalid(value, "must be a label value")
        if not content(key):
            if content(operator) != "Exists":
                judge.missing(toleration, "key")
        elif key is not None and not is_qualified_name(content(key)):
            judge.invalid(key, "must be a label name")
        effect = inside.get("effect")
        if effect is not None and content(effect) not in ("", *effects):
            words = ", ".join(f'"{word}"' for word in effects)
            message = f'unsupported value: "{content(effect)}": supported: {words}'
            judge.say(effect, "unsupported-value", message)


def is_qualified_id(text: str) -> bool:
    """A C identifier of at most 32 characters, with or without a domain of at most 63 before it."""
    domain, slash, name = text.rpartition("/")
    if slash and (len(domain) > 63 or not is_subdomain(domain)):
        return False
    return len(name) <= 32 and is_c_identifier(name)


def at_most(items: Node | None, most: int, judge: Judge) -> None:
    """A list is bounded."""
    if items is not None and len(entries(items)) > most:
        count = len(entries(items))
        judge.say(items, "too-many", f"Too many: {count}: must have at most {most} items")
