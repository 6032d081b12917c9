"""Knative Serving's kinds, as its webhook judges them.

Source: knative/serving pkg/apis/serving/v1/{service,configuration,revision,route}_validation.go and
their defaults.
"""

import re
from collections.abc import Mapping

from relume.cluster.admission.annotations import judge_owner, judge_template
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.cluster.admission.pod_rules import judge_whole_pod
from relume.cluster.admission.pods import judge_pod
from relume.cluster.admission.syntax import (
    RULE_1035,
    is_dns1035_label,
    is_qualified_name,
)
from relume.config.nodes import Node, Table


def judge_service(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Service: a Configuration and a Route in one."""
    judge_owner(_annotations(document), judge, rollout=True)
    spec = document.get("spec") or document
    _judge_template(document, spec, judge)
    _judge_traffic(spec, judge, of_service=True)


def judge_configuration(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Configuration."""
    judge_owner(_annotations(document), judge, rollout=False)
    _judge_template(document, document.get("spec") or document, judge)


def judge_route(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Route."""
    judge_owner(_annotations(document), judge, rollout=True)
    _judge_traffic(document.get("spec") or document, judge, of_service=False)


def judge_revision(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Revision; Knative makes them itself."""
    judge_template(_annotations(document), judge)
    spec = document.get("spec")
    if isinstance(spec, Table):
        judge_revision_spec(spec, judge)


def judge_revision_spec(
    spec: Table, judge: Judge, *, merged: bool = False, pod: str = "pod-refused"
) -> None:
    """A pod and the fields beside it: time and concurrency.

    `pod` is the reason for what the API server refuses the pod for. The webhook asks it itself, in
    a dry run, about Services and Configurations (pkg/webhook/podspec_dryrun.go).
    """
    judge_pod(spec, judge, merged=merged)
    later = Judge(judge.cluster)
    judge_whole_pod(spec, later, whole=False)
    judge.adopt(later, pod)
    judge_timeout(spec.get("timeoutSeconds"), judge)
    judge_concurrency(spec.get("containerConcurrency"), judge)
    if not merged and not judge.cluster.secure_defaults:
        _note_insecure(spec, judge)


def judge_timeout(node: Node | None, judge: Judge) -> None:
    """A request's time, up to max-revision-timeout-seconds; 0 is the default."""
    value, most = number(node), judge.cluster.number("max-revision-timeout-seconds")
    if node is not None and value is not None and not 0 <= value <= most:
        judge.bounds(node, 0, most)


def judge_concurrency(node: Node | None, judge: Judge) -> None:
    """Requests at once in one replica; 0 is no bound."""
    least = 0 if judge.cluster.switch("allow-container-concurrency-zero") else 1
    value, most = number(node), judge.cluster.number("container-concurrency-max-limit")
    if node is not None and value is not None and not least <= value <= most:
        judge.bounds(node, least, most)


def _annotations(document: Table) -> Mapping[str, Node]:
    return fields(child(document, "metadata", "annotations"))


def _judge_template(document: Table, owner: Node, judge: Judge) -> None:
    template = fields(owner).get("template")
    spec = fields(template).get("spec")
    if not isinstance(spec, Table):
        path = "spec.template.spec.containers"
        judge.say(template or owner, "missing-field", f"missing field(s): {path}", field=path)
        return
    judge_revision_spec(spec, judge, pod="dry-run-refused")
    metadata = fields(fields(template).get("metadata"))
    judge_template(fields(metadata.get("annotations")), judge)
    name, owner_name = metadata.get("name"), content(child(document, "metadata", "name"))
    if name is None or not content(name):
        return
    if not is_dns1035_label(content(name)):
        judge.say(name, "invalid-name", f"not a DNS 1035 label: {content(name)}: write {RULE_1035}")
    elif not owner_name:
        judge.not_allowed(name, ": the owner's name is generated")
    elif not content(name).startswith(f"{owner_name}-"):
        judge.invalid(name, f'"{content(name)}" must have prefix "{owner_name}-"')


def _judge_traffic(spec: Node, judge: Judge, *, of_service: bool) -> None:
    node = fields(spec).get("traffic")
    targets = entries(node)
    if not targets and of_service:
        return  # all of it to the latest revision
    total, tags = 0, dict[str, Node]()
    for target in targets:
        inside = fields(target)
        total += number(inside.get("percent")) or 0
        _judge_target(target, judge, of_service=of_service)
        tag = inside.get("tag")
        if tag is None or not content(tag):
            continue
        if not is_dns1035_label(content(tag)):
            where = re.sub(r"(\[\d+\])\.tag$", r".tag\1", tag.path)  # as the webhook writes it
            judge.invalid(tag, f"not a DNS 1035 label: write {RULE_1035}", field=where)
        if content(tag) in tags:
            other = tags[content(tag)].path
            message = f'Multiple definitions for "{content(tag)}": {tag.path}, {other}'
            judge.say(tag, "duplicate-item", message)
        tags[content(tag)] = tag
    if total != 100:
        where = f"{spec.path}.traffic"
        message = f"Traffic targets sum to {total}, want 100"
        fix = "Write percentages that sum to 100."
        judge.say(node or spec, "invalid-value", message, fix, field=where)


def _judge_target(target: Node, judge: Judge, *, of_service: bool) -> None:
    inside = fields(target)
    revision, configuration = (
        content(inside.get(name)) for name in ("revisionName", "configurationName")
    )
    latest = inside.get("latestRevision")
    if latest is not None and truth(latest) == bool(revision):
        message = f'may not set revisionName "{revision}" when latestRevision is {content(latest)}'
        judge.say(latest, "conflict", message)
    if of_service and configuration:
        judge.not_allowed(inside["configurationName"])
    elif revision and configuration:
        judge.several(target, "revisionName", "configurationName")
    elif not revision and not configuration and not of_service:
        judge.missing(target, "revisionName", "configurationName", reason="one-of")
    for name in ("revisionName", "configurationName"):
        if content(inside.get(name)) and not is_qualified_name(content(inside[name])):
            judge.invalid(inside[name], "must be a name")
    percent, value = inside.get("percent"), number(inside.get("percent"))
    if percent is not None and value is not None and not 0 <= value <= 100:
        judge.bounds(percent, 0, 100)
    if "url" in inside and content(inside["url"]):
        judge.not_allowed(inside["url"])


def _note_insecure(spec: Table, judge: Judge) -> None:
    """Knative's warnings: what the restricted Pod Security level asks for and nobody set."""
    of_pod = fields(spec.get("securityContext"))
    for container in (*entries(spec.get("containers")), *entries(spec.get("initContainers"))):
        own = fields(fields(container).get("securityContext"))
        open_ = [name for name in ("allowPrivilegeEscalation",) if name not in own]
        open_ += [n for n in ("runAsNonRoot", "seccompProfile") if n not in {**of_pod, **own}]
        dropped = fields(own.get("capabilities")).get("drop")
        if dropped is None:
            open_.append("capabilities.drop")
        elif [content(one) for one in entries(dropped)][:1] == ["all"]:
            judge.say(dropped, "insecure-default", 'capabilities.drop: "all" must be spelled "ALL"')
        if open_:
            judge.say(
                container,
                "insecure-default",
                f"insecure defaults: {', '.join(sorted(open_))}",
                field=f"{container.path}.securityContext",
            )
