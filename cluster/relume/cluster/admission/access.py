"""Who may do what: roles, and the bindings that give them.

Source: kubernetes pkg/apis/rbac/validation/validation.go.
"""

from relume.cluster.admission.judge import Judge, child, content, entries
from relume.config.names import is_subdomain
from relume.config.nodes import Node, Table

_GROUP = "rbac.authorization.k8s.io"
_SUBJECTS = ("ServiceAccount", "User", "Group")


def judge_role(document: Table, judge: Judge) -> None:
    """Role and ClusterRole."""
    everywhere = content(document, "kind") == "ClusterRole"
    for rule in entries(document, "rules"):
        _judge_rule(rule, judge, everywhere=everywhere)
    gathered = child(document, "aggregationRule")
    if gathered is not None and not entries(gathered, "clusterRoleSelectors"):
        judge.missing(gathered, "clusterRoleSelectors")


def _judge_rule(rule: Node, judge: Judge, *, everywhere: bool) -> None:
    if not entries(rule, "verbs"):
        judge.missing(rule, "verbs")
    urls = child(rule, "nonResourceURLs")
    named = [name for name in ("apiGroups", "resources", "resourceNames") if entries(rule, name)]
    if urls is None or not entries(urls):
        for name in ("apiGroups", "resources"):
            if not entries(rule, name):
                judge.missing(rule, name)
    elif not everywhere:
        why = "namespaced rules cannot apply to non-resource URLs"
        judge.invalid(urls, why, "Write a ClusterRole.", shown=urls.what)
    elif named:
        why = "rules cannot apply to both regular resources and non-resource URLs"
        judge.invalid(urls, why, "Write two rules.", shown=urls.what)


def judge_role_binding(document: Table, judge: Judge) -> None:
    """RoleBinding and ClusterRoleBinding."""
    everywhere = content(document, "kind") == "ClusterRoleBinding"
    role = child(document, "roleRef")
    if role is not None:
        judge.check_word(child(role, "apiGroup"), (_GROUP,))
        kinds = ("ClusterRole",) if everywhere else ("Role", "ClusterRole")
        judge.check_word(child(role, "kind"), kinds, empty=False)
        judge.check_filled(role, "name")
    for subject in entries(document, "subjects"):
        _judge_subject(subject, judge, everywhere=everywhere)


def _judge_subject(subject: Node, judge: Judge, *, everywhere: bool) -> None:
    kind, group, name = (child(subject, one) for one in ("kind", "apiGroup", "name"))
    judge.check_filled(subject, "name")
    judge.check_word(kind, _SUBJECTS, empty=False)
    if content(kind) != "ServiceAccount":
        judge.check_word(group, (_GROUP,))
        return
    if group is not None:
        judge.check_word(group, ("",))
    if name is not None and content(name) and not is_subdomain(content(name)):
        judge.invalid(name, "must be the name of a ServiceAccount")
    if everywhere and not content(subject, "namespace"):
        judge.missing(subject, "namespace")
