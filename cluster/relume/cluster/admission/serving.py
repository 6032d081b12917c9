"""Knative Serving's kinds and its config maps, as its webhook judges them.

Source: knative/serving pkg/apis/serving/v1/{service,configuration,revision,route}_validation.go and
their defaults; pkg/apis/config/defaults.go, pkg/autoscaler/config/config.go.
"""

import math
import re
from collections.abc import Mapping

from relume.base.vocabulary import SERVING_NAMESPACE
from relume.cluster.admission.annotations import judge_owner, judge_template
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.cluster.admission.metadata import RULE_1035, is_qualified_name
from relume.cluster.admission.pods import judge_whole_pod
from relume.cluster.admission.revision_pods import judge_pod
from relume.config.durations import go_duration
from relume.config.names import is_dns1035_label
from relume.config.nodes import Node, Table

_LARGEST = 2.0**63
_INT32 = 2.0**31 - 1
_ABOVE_ONE = math.nextafter(1.0, 2.0)
_ABOVE_ZERO = math.nextafter(0.0, 1.0)
_SECONDS = "revision-timeout-seconds"
_MOST_SECONDS = "max-revision-timeout-seconds"
_DEFAULTS: Mapping[str, tuple[float, float, float]] = {  # shipped, least, most
    _SECONDS: (300, -_LARGEST, _LARGEST),
    _MOST_SECONDS: (600, -_LARGEST, _LARGEST),
    "revision-response-start-timeout-seconds": (300, -_LARGEST, _LARGEST),
    "revision-idle-timeout-seconds": (0, -_LARGEST, _LARGEST),
    "container-concurrency": (0, 0, _LARGEST),
    "container-concurrency-max-limit": (1000, 1, _LARGEST),
}
_AUTOSCALER: Mapping[str, tuple[float, float, float]] = {
    "max-scale-up-rate": (1000, _ABOVE_ONE, math.inf),
    "max-scale-down-rate": (2, _ABOVE_ONE, math.inf),
    "container-concurrency-target-percentage": (70, _ABOVE_ZERO, 100),
    "container-concurrency-target-default": (100, _ABOVE_ZERO, math.inf),
    "requests-per-second-target-default": (200, 0.01, math.inf),
    "target-burst-capacity": (211, -1, math.inf),
    "panic-window-percentage": (10, 1, 100),
    "panic-threshold-percentage": (200, -math.inf, math.inf),
    "activator-capacity": (100, 1, math.inf),
    "initial-scale": (1, 0, _INT32),
    "min-scale": (0, 0, _INT32),
    "max-scale": (0, 0, _INT32),
    "max-scale-limit": (0, 0, _INT32),
}
_DURATIONS: Mapping[str, tuple[float, float, bool]] = {  # seconds: least, most; whole
    "stable-window": (6, 3600, True),
    "scale-down-delay": (0, math.inf, True),
    "scale-to-zero-grace-period": (1e-9, math.inf, False),
    "scale-to-zero-pod-retention-period": (0, math.inf, False),
}


def judge_service(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Service: a Configuration and a Route in one."""
    judge_owner(fields(document, "metadata", "annotations"), judge, rollout=True)
    spec = document.get("spec") or document
    _judge_template(document, spec, judge)
    _judge_traffic(spec, judge, of_service=True)


def judge_configuration(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Configuration."""
    judge_owner(fields(document, "metadata", "annotations"), judge, rollout=False)
    _judge_template(document, document.get("spec") or document, judge)


def judge_route(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Route."""
    judge_owner(fields(document, "metadata", "annotations"), judge, rollout=True)
    _judge_traffic(document.get("spec") or document, judge, of_service=False)


def judge_revision(document: Table, judge: Judge) -> None:
    """serving.knative.dev/v1 Revision; Knative makes them itself."""
    judge_template(fields(document, "metadata", "annotations"), judge)
    spec = document.get("spec")
    if isinstance(spec, Table):
        judge_revision_spec(spec, judge)


def judge_revision_spec(
    spec: Table, judge: Judge, *, merged: bool = False, pod: str = "pod-refused"
) -> None:
    """A pod and the fields beside it: time and concurrency.

    `merged`: another layer still adds to it, so that nothing can be missing. `pod` is the reason
    for what the API server refuses the pod for. The webhook asks it itself, in a dry run, about
    Services and Configurations (pkg/webhook/podspec_dryrun.go).
    """
    judge_pod(spec, judge, merged=merged)
    later = Judge(judge.cluster)
    judge_whole_pod(spec, later, whole=False)
    judge.adopt(later, pod)
    judge_limits(spec.get("timeoutSeconds"), spec.get("containerConcurrency"), judge)
    if not merged and not judge.cluster.secure_defaults:
        _note_insecure(spec, judge)


def judge_limits(timeout: Node | None, concurrency: Node | None, judge: Judge) -> None:
    """A request's time (0 is the default), and requests at once in one replica (0: no bound)."""
    judge.check_number(timeout, 0, judge.cluster.number(_MOST_SECONDS))
    least = 0 if judge.cluster.switch("allow-container-concurrency-zero") else 1
    most = judge.cluster.number("container-concurrency-max-limit")
    judge.check_number(concurrency, least, most)


def _judge_template(document: Table, owner: Node, judge: Judge) -> None:
    template, spec = child(owner, "template"), child(owner, "template", "spec")
    if not isinstance(spec, Table):
        path = "spec.template.spec.containers"
        judge.say(template or owner, "missing-field", f"missing field(s): {path}", field=path)
        return
    judge_revision_spec(spec, judge, pod="dry-run-refused")
    judge_template(fields(template, "metadata", "annotations"), judge)
    name, owner_name = child(template, "metadata", "name"), content(document, "metadata", "name")
    if name is None or not content(name):
        return
    if not is_dns1035_label(content(name)):
        judge.say(name, "invalid-name", f"not a DNS 1035 label: {content(name)}: write {RULE_1035}")
    elif not owner_name:
        judge.not_allowed(name, ": the owner's name is generated")
    elif not content(name).startswith(f"{owner_name}-"):
        judge.invalid(name, f'"{content(name)}" must have prefix "{owner_name}-"')


def _judge_traffic(spec: Node, judge: Judge, *, of_service: bool) -> None:
    node = child(spec, "traffic")
    targets = entries(node)
    if not targets and of_service:
        return  # all of it to the latest revision
    total, tags = 0, dict[str, Node]()
    for target in targets:
        total += number(target, "percent") or 0
        _judge_target(target, judge, of_service=of_service)
        tag = child(target, "tag")
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
    revision = content(target, "revisionName")
    configuration = content(target, "configurationName")
    latest, url = inside.get("latestRevision"), inside.get("url")
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
        if content(target, name) and not is_qualified_name(content(target, name)):
            judge.invalid(inside[name], "must be a name")
    judge.check_number(inside.get("percent"), 0, 100)
    if url is not None and content(url):
        judge.not_allowed(url)


def _note_insecure(spec: Table, judge: Judge) -> None:
    """Knative's warnings about settings of the restricted Pod Security level that are not set."""
    of_pod = fields(spec, "securityContext")
    for container in (*entries(spec, "containers"), *entries(spec, "initContainers")):
        own = fields(container, "securityContext")
        open_ = [name for name in ("allowPrivilegeEscalation",) if name not in own]
        open_ += [n for n in ("runAsNonRoot", "seccompProfile") if n not in {**of_pod, **own}]
        dropped = child(own.get("capabilities"), "drop")
        if dropped is None:
            open_.append("capabilities.drop")
        elif [content(one) for one in entries(dropped)][:1] == ["all"]:
            judge.say(dropped, "insecure-default", 'capabilities.drop: "all" must be spelled "ALL"')
        if open_:
            message = f"insecure defaults: {', '.join(sorted(open_))}"
            field = f"{container.path}.securityContext"
            judge.say(container, "insecure-default", message, field=field)


def judge_settings(document: Table, judge: Judge) -> None:
    """A config map of Knative Serving. Other config maps are not judged.

    A map may be laid over the one that is there: a key that it leaves out has its shipped value.
    """
    data = fields(document, "data")
    if content(document, "metadata", "namespace") != SERVING_NAMESPACE:
        return
    name = content(document, "metadata", "name")
    if name == "config-defaults":
        _judge_defaults(data, judge)
    elif name == "config-autoscaler":
        _judge_autoscaler(data, judge)


def _judge_defaults(data: Mapping[str, Node], judge: Judge) -> None:
    values = {key: _setting(data, key, bounds, judge) for key, bounds in _DEFAULTS.items()}
    if values[_SECONDS] > values[_MOST_SECONDS]:
        _conflict(data, _SECONDS, _MOST_SECONDS, values, judge)
    for key in ("revision-response-start-timeout-seconds", "revision-idle-timeout-seconds"):
        if key in data and values[key] > max(0.0, values[_SECONDS]):
            _conflict(data, key, _SECONDS, values, judge)
    key, most = "container-concurrency", "container-concurrency-max-limit"
    if values[key] > values[most]:
        _conflict(data, key, most, values, judge)


def _judge_autoscaler(data: Mapping[str, Node], judge: Judge) -> None:
    values = {key: _setting(data, key, bounds, judge) for key, bounds in _AUTOSCALER.items()}
    for key, (low, high, whole) in _DURATIONS.items():
        node, seconds = data.get(key), judge.parsed(data.get(key), go_duration)
        if node is None or seconds is None:
            continue
        if not low <= seconds <= high:
            judge.say(node, "out-of-range", f"{content(node)} is out of its range")
        elif whole and not seconds.is_integer():
            judge.invalid(node, "must be specified with at most second precision")
    burst = data.get("target-burst-capacity")
    if burst is not None and -1 < values["target-burst-capacity"] < 0:
        judge.invalid(burst, "must be -1 (no bound), 0 or more")
    zero = content(data.get("allow-zero-initial-scale")).lower() in ("true", "t", "1")
    if values["initial-scale"] == 0 and not zero and "initial-scale" in data:
        judge.invalid(data["initial-scale"], "must be 1 where allow-zero-initial-scale is false")
    most, limit = values["max-scale"], values["max-scale-limit"]
    if limit > 0 and not 1 <= most <= limit:
        where = data.get("max-scale") or data["max-scale-limit"]
        message = f"max-scale={most:g} must be in [1, max-scale-limit={limit:g}]"
        judge.say(where, "conflict", message)
    if most > 0 and values["min-scale"] > most:
        _conflict(data, "min-scale", "max-scale", values, judge)


def _conflict(
    data: Mapping[str, Node], key: str, over: str, values: Mapping[str, float], judge: Judge
) -> None:
    message = f"{key} ({values[key]:g}) cannot be greater than {over} ({values[over]:g})"
    where = data.get(key) or data.get(over)
    if where is not None:
        judge.say(where, "conflict", message, f"Raise {over}, or lower {key}.")


def _setting(
    data: Mapping[str, Node], key: str, bounds: tuple[float, float, float], judge: Judge
) -> float:
    """The number that is in force: the shipped one if the written one is missing or refused."""
    shipped, least, most = bounds
    node = data.get(key)
    if node is None:
        return shipped
    try:
        value = float(content(node))
    except ValueError:
        judge.invalid(node, "must be a number")
        return shipped
    if not least <= value <= most:
        judge.say(node, "out-of-range", f"{key} = {content(node)} is out of its range")
        return shipped
    return value
