"""What the API server asks of the containers of every pod.

Source: kubernetes pkg/apis/core/validation. A pod that Knative makes is refused by the same rules:
in a dry run with its Service, otherwise after the Service was admitted.
"""

import re
from collections.abc import Mapping

from relume.cluster.admission.device_parts import judge_taints
from relume.cluster.admission.judge import Judge, content, entries, fields, number
from relume.cluster.admission.syntax import (
    is_dns_label,
    is_environment_name,
    is_extended_resource,
    is_implicit_resource,
)
from relume.cluster.claims import quantity
from relume.config.nodes import Node

PROTOCOLS = ("TCP", "UDP", "SCTP", "")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_NATIVE = ("cpu", "memory", "ephemeral-storage")
_SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")
_WORDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("pod", "restartPolicy"): ("Always", "OnFailure", "Never"),
    ("pod", "dnsPolicy"): ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    ("container", "imagePullPolicy"): ("Always", "IfNotPresent", "Never"),
    ("container", "terminationMessagePolicy"): ("File", "FallbackToLogsOnError"),
}


def judge_whole_pod(pod: Node, judge: Judge, *, whole: bool = True) -> None:
    """A pod's containers and tolerations; `whole`: nothing adds to them any more.

    Otherwise it is a revision's: names and images are added, and the ports of its own probes but
    the startup probe's (knative/serving pkg/reconciler/revision/resources/deploy.go).
    """
    judge_taints(fields(pod).get("tolerations"), judge, _EFFECTS)
    names: set[str] = set()
    for list_ in ("initContainers", "containers"):
        for container in entries(fields(pod).get(list_)):
            inside = fields(container)
            name = inside.get("name")
            if name is not None and content(name):
                if not is_dns_label(content(name)):
                    judge.invalid(name, "a container's name is a DNS-1123 label")
                if content(name) in names:
                    judge.say(name, "duplicate-item", f'duplicate value: "{content(name)}"')
                names.add(content(name))
            if whole and not content(inside.get("image")):
                judge.missing(container, "image")
            judge_words("container", container, judge)
            if whole:  # Knative writes the port itself
                _judge_container_ports(inside.get("ports"), judge)
            for variable in entries(inside.get("env")):
                _judge_variable(variable, judge)
            _judge_resources(inside.get("resources"), judge)
            _judge_seccomp(inside.get("securityContext"), judge)
            for probe in ("livenessProbe", "startupProbe"):
                _judge_probe(inside.get(probe), judge)
            for probe in _PROBES if whole else ("startupProbe",):
                _judge_probe_port(inside.get(probe), judge)


def _judge_seccomp(context: Node | None, judge: Judge) -> None:
    profile = fields(context).get("seccompProfile")
    if profile is None:
        return
    kind, file = fields(profile).get("type"), fields(profile).get("localhostProfile")
    if content(kind) not in _SECCOMP:
        message = f'unsupported value: "{content(kind)}": supported: {", ".join(_SECCOMP)}'
        judge.say(kind or profile, "unsupported-value", message, field=f"{profile.path}.type")
    elif content(kind) == "Localhost" and not content(file):
        judge.missing(profile, "localhostProfile")
    elif content(kind) != "Localhost" and file is not None:
        judge.say(file, "conflict", "only for the type Localhost")


def _judge_probe(probe: Node | None, judge: Judge) -> None:
    """A probe that restarts its container: one success is enough, and no number is negative."""
    for name, node in fields(probe).items():
        value = number(node)
        if value is not None and value < 0:
            judge.invalid(node, "must be greater than or equal to 0")
        elif name == "successThreshold" and value not in (None, 0, 1):
            judge.invalid(node, "must be 1")


def _judge_probe_port(probe: Node | None, judge: Judge) -> None:
    for name in ("httpGet", "tcpSocket"):
        if (handler := fields(probe).get(name)) is None:
            continue
        port = fields(handler).get("port")
        if port is None or not content(port):
            message = "invalid value: 0: must be between 1 and 65535"
            judge.say(handler, "missing-field", message, "Name the port.", f"{handler.path}.port")
        else:
            judge_port(port, judge)


def judge_words(what: str, table: Node, judge: Judge) -> None:
    for name, node in fields(table).items():
        known = _WORDS.get((what, name))
        if known is not None and content(node) not in (*known, ""):
            words = ", ".join(f'"{word}"' for word in known)
            message = f'unsupported value: "{content(node)}": supported: {words}'
            judge.say(node, "unsupported-value", message)


def _judge_container_ports(ports: Node | None, judge: Judge) -> None:
    for port in entries(ports):
        inside = fields(port)
        for name in ("containerPort", "hostPort"):
            judge_port(inside.get(name), judge)
        name_node, protocol = inside.get("name"), inside.get("protocol")
        if (
            name_node is not None
            and content(name_node)
            and not _PORT_NAME.fullmatch(content(name_node))
        ):
            judge.invalid(name_node, "at most 15 lower case letters, digits and '-', one a letter")
        if protocol is not None and content(protocol) not in PROTOCOLS:
            judge.say(protocol, "unsupported-value", f'unsupported value: "{content(protocol)}"')


def judge_port(node: Node | None, judge: Judge) -> None:
    value = number(node)
    if node is not None and value is not None and not 1 <= value <= 65535:
        judge.bounds(node, 1, 65535)


def _judge_variable(variable: Node, judge: Judge) -> None:
    name, value = fields(variable).get("name"), fields(variable).get("value")
    if name is not None and content(name) and not is_environment_name(content(name)):
        judge.invalid(name, "a variable's name has printable ASCII characters without =")
    source = fields(variable).get("valueFrom")
    if source is not None and value is not None and content(value):
        judge.say(source, "one-of", "may not be specified when `value` is not empty")
    if source is not None and len(fields(source)) != 1:
        judge.say(source, "one-of", "must have exactly one source")


def _judge_resources(resources: Node | None, judge: Judge) -> None:
    """Limits and requests: names, whole devices, and no request above its limit."""
    limits, requests = (fields(fields(resources).get(name)) for name in ("limits", "requests"))
    for name, node in (*limits.items(), *requests.items()):
        native = name in _NATIVE or name.startswith("hugepages-")
        extended = is_extended_resource(name) or is_implicit_resource(name)
        if not native and not extended:
            where = "must be a standard resource, or domain/name of a device"
            judge.invalid(node, where, shown=name)
        elif (value := _value(node)) is not None:
            if value < 0:
                judge.invalid(node, "must not be negative")
            elif extended and value.denominator != 1:
                judge.invalid(node, "devices are counted in whole numbers")
    for name, node in requests.items():
        wanted, most = _value(node), _value(limits.get(name))
        extended = "/" in name or name.startswith("hugepages-")  # none of them is shared
        if wanted is not None and most is not None and wanted > most:
            judge.say(node, "conflict", f"must be less than or equal to the limit of {name}")
        elif extended and (name not in limits or wanted != most):
            judge.say(node, "conflict", f"the limit of {name} must be set and equal for a device")


def _value(node: Node | None) -> quantity.Quantity | None:
    try:
        return None if node is None else quantity.parse(content(node))
    except ValueError:
        return None
