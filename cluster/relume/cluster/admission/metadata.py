"""Names, labels and keys, and the metadata of every object that holds them.

Source: apimachinery `util/validation` and `api/validation/objectmeta.go`.
"""

import re
from collections.abc import Callable, Mapping

from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.config.names import is_dns1035_label, is_dns_label, is_subdomain
from relume.config.nodes import Node, Table

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_MOST_ANNOTATIONS = 256 << 10  # bytes, keys and values together

RULE_1123 = "lower case letters, digits and '-', with a letter or digit at both ends"
RULE_LABEL = f"at most 63 {RULE_1123}"
RULE_1035 = f"{RULE_LABEL}, beginning with a letter"


def is_qualified_name(text: str) -> bool:
    """A name of at most 63 characters, with or without `domain/` before it."""
    domain, slash, name = text.rpartition("/")
    if slash and not is_subdomain(domain):
        return False
    return len(name) <= 63 and _NAME.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    """At most 63 letters, digits, '-', '_' and '.', or nothing."""
    return text == "" or (len(text) <= 63 and _NAME.fullmatch(text) is not None)


NameRule = tuple[Callable[[str], bool], str]
_AS_SUBDOMAIN: NameRule = (is_subdomain, f"at most 253 {RULE_1123}, and '.'")
_AS_1035: NameRule = (is_dns1035_label, RULE_1035)
# A segment of a path: anything that can stand in a URL.
_AS_SEGMENT: NameRule = (
    lambda name: name not in (".", "..") and not set(name) & set("/%"),
    "no / and %",
)
_RULES: Mapping[tuple[str, str], NameRule] = {
    ("v1", "Namespace"): (is_dns_label, RULE_LABEL),
    ("v1", "Service"): _AS_1035,
    **{
        ("rbac.authorization.k8s.io/v1", kind): _AS_SEGMENT
        for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    },
    **{
        ("serving.knative.dev/v1", kind): _AS_1035
        for kind in ("Service", "Configuration", "Route", "Revision")
    },
}


def judge_metadata(
    document: Table, kind: tuple[str, str], judge: Judge, *, namespaced: bool = True
) -> None:
    """`metadata` of a document of this (apiVersion, kind)."""
    _judge_name(document, kind, judge)
    namespace = child(document, "metadata", "namespace")
    if namespace is not None and content(namespace):
        if not namespaced:
            judge.say(namespace, "namespace-ignored", f"a {kind[1]} has no namespace")
        elif not is_dns_label(content(namespace)):
            _refuse_name(namespace, RULE_LABEL, judge)
    judge_keys(document.get("metadata"), judge)


def judge_keys(metadata: Node | None, judge: Judge) -> None:
    """Labels, annotations and finalizers, of an object or of a template."""
    for name, node in fields(metadata, "labels").items():
        path = node.path.removesuffix(f".{name}")  # the API server names none of them
        _judge_key(name, node, path, judge)
        if not is_label_value(content(node)):
            why = f"the label {name} has at most 63 letters, digits, '-', '_' and '.'"
            judge.invalid(node, why, field=path)
    size, annotations = 0, child(metadata, "annotations")
    for name, node in fields(annotations).items():
        _judge_key(name.lower(), node, node.path.removesuffix(f".{name}"), judge)
        size += len(name.encode()) + len(content(node).encode())
    if size > _MOST_ANNOTATIONS and annotations is not None:
        judge.say(annotations, "too-many", f"{size} bytes: must have at most {_MOST_ANNOTATIONS}")
    for node in entries(metadata, "finalizers"):
        if not is_qualified_name(content(node)) or "/" not in content(node):
            judge.invalid(node, "a finalizer is a domain and a name: example.com/name")


def _judge_name(document: Table, kind: tuple[str, str], judge: Judge) -> None:
    metadata = document.get("metadata")
    name, generated = child(metadata, "name"), child(metadata, "generateName")
    right, rule = _RULES.get(kind, _AS_SUBDOMAIN)
    if name is not None and content(name):
        if kind[1] != "InferenceService" and not right(content(name)):
            _refuse_name(name, rule, judge)
    elif generated is None or not content(generated):
        judge.say(
            name or metadata or document,
            "missing-field",
            "metadata.name: name or generateName is required",
            "Write metadata.name.",
            field="metadata.name",
        )
    elif not right(content(generated).rstrip("-") or "-"):
        _refuse_name(generated, rule, judge)


def _refuse_name(node: Node, rule: str, judge: Judge) -> None:
    judge.say(node, "invalid-name", f"invalid value: {content(node)}: write {rule}")


def _judge_key(name: str, node: Node, field: str, judge: Judge) -> None:
    if not is_qualified_name(name):
        judge.say(
            node,
            "invalid-value",
            f"invalid key: {name}: a name of at most 63 letters, digits, '-', '_' and '.', with or "
            "without a domain and / before it",
            field=field,
        )
