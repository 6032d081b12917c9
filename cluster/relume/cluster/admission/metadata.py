"""The metadata of every object (apimachinery `api/validation/objectmeta.go`)."""

from collections.abc import Callable, Mapping

from relume.cluster.admission.judge import Judge, content, entries, fields
from relume.cluster.admission.syntax import (
    RULE_1035,
    RULE_1123,
    is_dns1035_label,
    is_dns_label,
    is_label_value,
    is_qualified_name,
    is_subdomain,
)
from relume.config.nodes import Node, Table

_MOST_ANNOTATIONS = 256 << 10  # bytes, keys and values together
_SUBDOMAIN_RULE = f"at most 253 {RULE_1123}, and '.'"

Rule = tuple[Callable[[str], bool], str]
_SUBDOMAIN: Rule = (is_subdomain, _SUBDOMAIN_RULE)
_1035: Rule = (is_dns1035_label, RULE_1035)
_LABEL: Rule = (is_dns_label, f"at most 63 {RULE_1123}")
# Path segments: anything that can stand in a URL.
_SEGMENT: Rule = (lambda name: name not in (".", "..") and not set(name) & set("/%"), "no / and %")
_RULES: Mapping[tuple[str, str], Rule] = {
    ("v1", "Namespace"): _LABEL,
    ("v1", "Service"): _1035,
    **{("rbac.authorization.k8s.io/v1", kind): _SEGMENT for kind in ("Role", "RoleBinding")},
    **{
        ("rbac.authorization.k8s.io/v1", f"Cluster{kind}"): _SEGMENT
        for kind in ("Role", "RoleBinding")
    },
    **{
        ("serving.knative.dev/v1", kind): _1035
        for kind in ("Service", "Configuration", "Route", "Revision")
    },
}


def judge_metadata(
    document: Table, kind: tuple[str, str], judge: Judge, *, namespaced: bool = True
) -> None:
    """`metadata` of a document of this (apiVersion, kind)."""
    metadata = document.get("metadata")
    inside = fields(metadata)
    _judge_name(document, inside, kind, judge)
    namespace = inside.get("namespace")
    if namespace is not None and content(namespace):
        if not namespaced:
            judge.say(namespace, "namespace-ignored", f"a {kind[1]} has no namespace")
        elif not is_dns_label(content(namespace)):
            judge.say(namespace, "invalid-name", _wrong(namespace, f"at most 63 {RULE_1123}"))
    judge_keys(metadata, judge)


def judge_keys(metadata: Node | None, judge: Judge) -> None:
    """Labels, annotations and finalizers, of an object or of a template."""
    inside = fields(metadata)
    for name, node in fields(inside.get("labels")).items():
        path = node.path.removesuffix(f".{name}")  # the API server names none of them
        _judge_key(name, node, path, judge)
        if not is_label_value(content(node)):
            why = f"the label {name} has at most 63 letters, digits, '-', '_' and '.'"
            judge.invalid(node, why, field=path)
    size = 0
    for name, node in fields(inside.get("annotations")).items():
        _judge_key(name.lower(), node, node.path.removesuffix(f".{name}"), judge)
        size += len(name.encode()) + len(content(node).encode())
    annotations = inside.get("annotations")
    if size > _MOST_ANNOTATIONS and annotations is not None:
        judge.say(annotations, "too-many", f"{size} bytes: must have at most {_MOST_ANNOTATIONS}")
    for node in entries(inside.get("finalizers")):
        if not is_qualified_name(content(node)) or "/" not in content(node):
            judge.invalid(node, "a finalizer is a domain and a name: example.com/name")


def _judge_name(
    document: Table, inside: Mapping[str, Node], kind: tuple[str, str], judge: Judge
) -> None:
    name, generated = inside.get("name"), inside.get("generateName")
    right, rule = _RULES.get(kind, _SUBDOMAIN)
    if name is None or not content(name):
        if generated is None or not content(generated):
            where = document.get("metadata") or document
            judge.say(
                name or where,
                "missing-field",
                "metadata.name: name or generateName is required",
                "Write metadata.name.",
                field="metadata.name",
            )
        elif not right(content(generated).rstrip("-") or "-"):
            judge.say(generated, "invalid-name", _wrong(generated, rule))
    elif kind[1] != "InferenceService" and not right(content(name)):
        judge.say(name, "invalid-name", _wrong(name, rule))


def _judge_key(name: str, node: Node, field: str, judge: Judge) -> None:
    if not is_qualified_name(name):
        judge.say(
            node,
            "invalid-value",
            f"invalid key: {name}: a name of at most 63 letters, digits, '-', '_' and '.', with or "
            "without a domain and / before it",
            field=field,
        )


def _wrong(node: Node, rule: str) -> str:
    return f"invalid value: {content(node)}: write {rule}"
