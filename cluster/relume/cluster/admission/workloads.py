"""What makes pods of a template, and pods themselves.

Source: kubernetes pkg/apis/{core,apps,batch}/validation/validation.go. A pod template is judged
here too; a pod that Knative makes is refused by the same rules, but later.
"""

import re
from collections.abc import Mapping

from relume.cluster.admission.judge import (
    INT32,
    Judge,
    child,
    content,
    entries,
    fields,
    number,
    truth,
)
from relume.cluster.admission.metadata import judge_keys
from relume.cluster.admission.pod_volumes import judge_mounts
from relume.cluster.admission.pods import POD_WORDS, judge_whole_pod, judge_words
from relume.cluster.admission.schedules import check_schedule
from relume.config.nodes import Node, Scalar, Table

SELECTING = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    **dict.fromkeys((*SELECTING, "Job", "ReplicationController"), ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_COUNTS = (
    "replicas",
    "minReadySeconds",
    "revisionHistoryLimit",
    "progressDeadlineSeconds",
    "parallelism",
    "completions",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
)
_LONGEST_CRON_NAME = 52  # a Job's name has 11 characters more
_LONGEST_LABEL = 63
_PERCENT = re.compile(r"[0-9]+%", re.ASCII)


def judge_workload(document: Table, judge: Judge) -> None:
    """A pod, or what makes pods of a template."""
    kind = content(document, "kind")
    owner = child(document, *_TEMPLATES[kind])
    for spec in (child(document, "spec"), child(document, "spec", "jobTemplate", "spec")):
        for name in _COUNTS:
            judge.check_number(child(spec, name), 0, INT32)
    _judge_own_fields(document, kind, judge)
    if owner is None:
        return
    if _TEMPLATES[kind]:
        judge_keys(child(owner, "metadata"), judge)
    pod = child(owner, "spec")
    if pod is None:
        judge.missing(owner, "spec")
        return
    if kind in SELECTING:
        _judge_selector(document, owner, judge)
    _judge_restarts(pod, kind, judge)
    if kind == "StatefulSet":  # its pods are judged only when they are made
        later = Judge(judge.cluster)
        templates = entries(document, "spec", "volumeClaimTemplates")
        _judge_pod(pod, later, also={content(one, "metadata", "name") for one in templates})
        judge.adopt(later, "pod-refused")
    else:
        _judge_pod(pod, judge, also=frozenset())


def _judge_pod(pod: Node, judge: Judge, *, also: frozenset[str] | set[str]) -> None:
    judge_words(pod, POD_WORDS, judge)
    if not entries(pod, "containers"):
        judge.missing(pod, "containers")
    judge_whole_pod(pod, judge)
    judge_mounts(pod, judge, also=also)


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


def _judge_restarts(pod: Node, kind: str, judge: Judge) -> None:
    """Whether containers start again: of a Job not always, of what runs for ever always."""
    policy = child(pod, "restartPolicy")
    said, where = content(policy) or "Always", f"{pod.path}.restartPolicy"
    if kind in ("Job", "CronJob"):
        if said not in ("OnFailure", "Never"):
            message = f'{where}: valid values: "OnFailure", "Never"'
            fix = "Write restartPolicy: Never, or OnFailure."
            judge.say(policy or pod, "missing-field", message, fix, field=where)
    elif kind in (*SELECTING, "ReplicationController"):
        if said != "Always":
            judge.unsupported(policy or pod, ("Always",), field=where)
        deadline = child(pod, "activeDeadlineSeconds")
        if deadline is not None:
            judge.not_allowed(deadline, f": a {kind} has no deadline")


def _judge_own_fields(document: Table, kind: str, judge: Judge) -> None:
    spec = child(document, "spec")
    if kind == "Deployment":
        _judge_strategy(spec, judge)
        wait, least = number(spec, "progressDeadlineSeconds"), number(spec, "minReadySeconds")
        if wait is not None and wait <= (least or 0):
            where = fields(spec)["progressDeadlineSeconds"]
            judge.invalid(where, "must be greater than minReadySeconds")
    elif kind == "DaemonSet":
        _judge_daemons(child(spec, "updateStrategy"), judge)
    elif kind == "StatefulSet":
        policy = child(spec, "podManagementPolicy")
        judge.check_word(policy, ("OrderedReady", "Parallel"))
        strategy = child(spec, "updateStrategy")
        judge.check_word(child(strategy, "type"), ("RollingUpdate", "OnDelete"))
        judge.check_number(child(strategy, "rollingUpdate", "partition"), 0, INT32)
        _only_rolling(strategy, "OnDelete", judge)
    elif kind == "Job":
        _judge_job(spec, judge, manual=truth(spec, "manualSelector"))
        name = child(document, "metadata", "name")
        if name is not None and len(content(name)) > _LONGEST_LABEL:
            message = f"must be no more than {_LONGEST_LABEL} characters: it becomes a label"
            judge.say(name, "invalid-name", f"invalid value: {content(name)}: {message}")
    elif kind == "CronJob":
        _judge_cron_job(document, judge)


def _only_rolling(strategy: Node | None, other: str, judge: Judge) -> None:
    rolling = child(strategy, "rollingUpdate")
    if rolling is not None and content(strategy, "type") == other:
        message = f"{rolling.path}: may not be specified when strategy `type` is '{other}'"
        judge.say(rolling, "conflict", message, "Remove it, or write type: RollingUpdate.")


def _judge_strategy(spec: Node | None, judge: Judge) -> None:
    """How a Deployment replaces its pods: some must be allowed to be missing, or to be more."""
    strategy = child(spec, "strategy")
    judge.check_word(child(strategy, "type"), ("Recreate", "RollingUpdate"))
    _only_rolling(strategy, "Recreate", judge)
    rolling = child(strategy, "rollingUpdate")
    surge, missing = child(rolling, "maxSurge"), child(rolling, "maxUnavailable")
    more, fewer = _share(surge, judge), _share(missing, judge)
    if missing is not None and content(missing).endswith("%") and (fewer or 0) > 100:
        judge.invalid(missing, "must not be greater than 100%")
    if missing is not None and more == 0 and fewer == 0:
        fix = "Write 1 or more in one of the two."
        judge.invalid(missing, "may not be 0 when `maxSurge` is 0", fix)


def _judge_daemons(strategy: Node | None, judge: Judge) -> None:
    """A DaemonSet takes a pod away first, or adds one first, and never both or neither."""
    judge.check_word(child(strategy, "type"), ("RollingUpdate", "OnDelete"))
    surge = child(strategy, "rollingUpdate", "maxSurge")
    missing = child(strategy, "rollingUpdate", "maxUnavailable")
    more, fewer = _share(surge, judge), _share(missing, judge)
    if surge is not None and more and (missing is None or fewer):  # left out, it is 1
        why = "may not be set when maxUnavailable is non-zero"
        judge.invalid(surge, why, "Write maxUnavailable: 0 beside it.")
    elif missing is not None and fewer == 0 and not more:
        judge.invalid(missing, "cannot be 0 when maxSurge is 0")


def _share(node: Node | None, judge: Judge) -> int | None:
    """A number of pods, or how many percent of them; None where it is neither or not there."""
    if not isinstance(node, Scalar):
        return None
    text = content(node)
    if node.kind == "string" and not _PERCENT.fullmatch(text):
        judge.invalid(node, "a valid percent string must be a numeric string followed by '%'")
        return None
    value = int(text.removesuffix("%"))
    if value < 0:
        judge.invalid(node, "must be greater than or equal to 0")
    return value


def _judge_job(spec: Node | None, judge: Judge, *, manual: bool) -> None:
    mode = child(spec, "completionMode")
    judge.check_word(mode, ("NonIndexed", "Indexed"))
    if content(mode) == "Indexed" and child(spec, "completions") is None and spec is not None:
        message = f"{spec.path}.completions: required when completion mode is Indexed"
        judge.say(spec, "missing-field", message, field=f"{spec.path}.completions")
    judge.check_number(child(spec, "activeDeadlineSeconds"), 0, 2**63 - 1)
    selector = child(spec, "selector")
    if selector is not None and not manual:
        fix = "Remove the selector, or write manualSelector: true."
        judge.invalid(selector, "`selector` not auto-generated", fix, shown=selector.what)
    elif selector is None and manual and spec is not None:
        judge.missing(spec, "selector")
    failing = child(spec, "podFailurePolicy")
    policy = content(spec, "template", "spec", "restartPolicy")
    if failing is not None and policy != "Never":
        message = f'only "Never" is supported when `podFailurePolicy` is specified, not {policy}'
        judge.say(failing, "conflict", message, "Write restartPolicy: Never.")


def _judge_cron_job(document: Table, judge: Judge) -> None:
    spec, name = child(document, "spec"), child(document, "metadata", "name")
    if name is not None and len(content(name)) > _LONGEST_CRON_NAME:
        message = f"must be no more than {_LONGEST_CRON_NAME} characters"
        judge.say(name, "invalid-name", f"invalid value: {content(name)}: {message}")
    schedule = child(spec, "schedule")
    if schedule is not None and not content(schedule):
        judge.missing(spec or document, "schedule")
    elif schedule is not None and "TZ=" in content(schedule):
        why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        judge.invalid(schedule, why)
    elif schedule is not None:
        _parsed(schedule, judge)
    judge.check_word(child(spec, "concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    zone = child(spec, "timeZone")
    if zone is not None and content(zone).lower() in ("", "local"):
        judge.invalid(zone, "timeZone must be an explicit time zone as defined in the tz database")
    job = child(spec, "jobTemplate", "spec")
    if (selector := child(job, "selector")) is not None:
        judge.invalid(selector, "`selector` will be auto-generated", shown=selector.what)
    if truth(job, "manualSelector"):
        judge.unsupported(fields(job)["manualSelector"], ("nil", "false"))
    elif child(job, "selector") is None:
        _judge_job(job, judge, manual=False)


def _parsed(schedule: Node, judge: Judge) -> None:
    try:
        check_schedule(content(schedule))
    except ValueError as error:
        fix = "Write five fields, minute hour day month weekday: 0 6 * * 1."
        judge.invalid(schedule, str(error), fix, shown=f'"{content(schedule)}"')
