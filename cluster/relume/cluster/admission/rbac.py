"""Roles and their bindings, as the API server judges them.

Source: kubernetes/kubernetes pkg/apis/rbac/validation/validation.go, pkg/apis/rbac/v1/defaults.go.
"""

from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.config.nodes import Node, Table

_GROUP = "rbac.authorization.k8s.io"
_KINDS = ("ServiceAccount", "User", "Group")


def judge_role(document: Table, judge: Judge) -> None:
    """rbac.authorization.k8s.io Role and ClusterRole."""
    whole_cluster = content(document, "kind") == "ClusterRole"
    for rule in entries(document, "rules"):
        _judge_rule(rule, judge, whole_cluster=whole_cluster)
    aggregation = child(document, "aggregationRule")
    if aggregation is not None and not entries(aggregation, "clusterRoleSelectors"):
        judge.missing(aggregation, "clusterRoleSelectors")


def _judge_rule(rule: Node, judge: Judge, *, whole_cluster: bool) -> None:
    """What may be done: with resources of API groups, or with URLs."""
    if not entries(rule, "verbs"):
        judge.missing(rule, "verbs")
    urls = child(rule, "nonResourceURLs")
    if urls is None or not entries(urls):
        for name in ("apiGroups", "resources"):
            if not entries(rule, name):
                judge.missing(rule, name)
        return
    if not whole_cluster:
        judge.invalid(urls, "namespaced rules cannot apply to non-resource URLs", shown="")
    if any(entries(rule, name) for name in ("apiGroups", "resources", "resourceNames")):
        message = "rules cannot apply to both regular resources and non-resource URLs"
        judge.say(urls, "conflict", message, "Write two rules.")


def judge_role_binding(document: Table, judge: Judge) -> None:
    """rbac.authorization.k8s.io RoleBinding and ClusterRoleBinding."""
    whole_cluster = content(document, "kind") == "ClusterRoleBinding"
    reference = child(document, "roleRef")
    if reference is not None:
        group = child(reference, "apiGroup")
        if group is not None and content(group) not in ("", _GROUP):
            judge.unsupported(group, (_GROUP,))
        kinds = ("ClusterRole",) if whole_cluster else ("Role", "ClusterRole")
        judge.check_word(child(reference, "kind"), kinds, empty=False)
        judge.check_filled(reference, "name")
    for subject in entries(document, "subjects"):
        _judge_subject(subject, judge, whole_cluster=whole_cluster)


def _judge_subject(subject: Node, judge: Judge, *, whole_cluster: bool) -> None:
    """Whom the role is given to."""
    kind, group = child(subject, "kind"), child(subject, "apiGroup")
    judge.check_filled(subject, "name")
    judge.check_word(kind, _KINDS, empty=False)
    account = content(kind) == "ServiceAccount"
    if group is not None and content(group) not in (("",) if account else ("", _GROUP)):
        judge.unsupported(group, ("",) if account else (_GROUP,))
    if account and whole_cluster and "namespace" not in fields(subject):
        judge.missing(subject, "namespace")
