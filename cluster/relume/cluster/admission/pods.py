"""What the API server asks of every pod: containers, resources, probes, tolerations.

Source: kubernetes pkg/apis/core/validation. A pod that Knative makes is refused by the same rules:
in a dry run with its Service, otherwise after the Service was admitted.
"""

import re
from collections.abc import Collection, Mapping

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
from relume.cluster.admission.metadata import is_label_value, is_qualified_name
from relume.cluster.admission.pod_claims import judge_pod_claims
from relume.cluster.admission.pod_volumes import containers_of, judge_volume_paths, judge_volumes
from relume.cluster.admission.revision_containers import PROBES
from relume.cluster.claims import quantity
from relume.config.names import is_dns_label, is_subdomain
from relume.config.nodes import Node

PROTOCOLS = ("TCP", "UDP", "SCTP")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_NATIVE = ("cpu", "memory", "ephemeral-storage")
_SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")
POD_WORDS: Mapping[str, tuple[str, ...]] = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
}
_CONTAINER_WORDS: Mapping[str, tuple[str, ...]] = {
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
}


def judge_whole_pod(pod: Node, judge: Judge, *, whole: bool = True) -> None:
    """A pod's containers and tolerations. `whole`: no other layer adds to them.

    Otherwise it is a revision's: names and images are added, and the ports of its own probes but
    the startup probe's (knative/serving pkg/reconciler/revision/resources/deploy.go).
    """
    judge_tolerations(child(pod, "tolerations"), judge, _EFFECTS)
    judge_volume_paths(pod, judge)
    if whole:
        judge_volumes(pod, judge)
        judge_pod_claims(pod, judge)
        judge_ports(pod, judge)
        _judge_bounds(pod, judge)
    names: set[str] = set()
    for container in containers_of(pod):
        name = child(container, "name")
        if name is not None and content(name):
            if not is_dns_label(content(name)):
                judge.invalid(name, "a container's name is a DNS-1123 label")
            if content(name) in names:
                judge.repeated(name)
            names.add(content(name))
        judge_words(container, _CONTAINER_WORDS, judge)
        if whole:  # Knative writes the image and the port itself
            judge.check_filled(container, "image")
            _judge_handlers(container, judge)
        for variable in entries(container, "env"):
            _judge_variable(variable, judge)
        _judge_resources(container, judge)
        _judge_seccomp(child(container, "securityContext", "seccompProfile"), judge)
        for probe in ("livenessProbe", "startupProbe"):
            _judge_probe(child(container, probe), judge)
        for probe in PROBES if whole else ("startupProbe",):
            _judge_probe_port(child(container, probe), judge)


def judge_words(table: Node, words: Mapping[str, tuple[str, ...]], judge: Judge) -> None:
    """The fields of a table that have one of a few words."""
    for name, known in words.items():
        judge.check_word(child(table, name), known)


def judge_tolerations(tolerations: Node | None, judge: Judge, effects: Collection[str]) -> None:
    """The taints that a pod tolerates, on nodes with these effects."""
    for toleration in entries(tolerations):
        if not content(toleration, "key") and content(toleration, "operator") != "Exists":
            judge.missing(toleration, "key")
        judge_toleration(toleration, judge, effects)


def judge_toleration(toleration: Node, judge: Judge, effects: Collection[str]) -> None:
    """What a toleration of nodes or devices has; of devices it may leave the key out."""
    key, operator, value = (child(toleration, n) for n in ("key", "operator", "value"))
    judge.check_word(operator, ("Equal", "Exists"))
    if value is not None and content(operator) == "Exists" and content(value):
        judge.invalid(value, "must be empty for operator `Exists`")
    elif value is not None and not is_label_value(content(value)):
        judge.invalid(value, "must be a label value")
    if key is not None and content(key) and not is_qualified_name(content(key)):
        judge.invalid(key, "must be a label name")
    judge.check_word(child(toleration, "effect"), effects)


def _judge_seccomp(profile: Node | None, judge: Judge) -> None:
    if profile is None:
        return
    kind, file = child(profile, "type"), child(profile, "localhostProfile")
    if content(kind) not in _SECCOMP:
        judge.unsupported(kind or profile, _SECCOMP, field=f"{profile.path}.type")
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
    for handler in (child(probe, "httpGet"), child(probe, "tcpSocket")):
        if handler is not None and not content(handler, "port"):
            message = "invalid value: 0: must be between 1 and 65535"
            judge.say(handler, "missing-field", message, "Name the port.", f"{handler.path}.port")
        judge_port(child(handler, "port"), judge)


def is_port_name(text: str) -> bool:
    """At most 15 lower case letters, digits and '-', one of them a letter."""
    return _PORT_NAME.fullmatch(text) is not None


def judge_port(node: Node | None, judge: Judge) -> None:
    """The number of a port."""
    judge.check_number(node, 1, 65535)


def judge_ports(pod: Node, judge: Judge) -> None:
    """The ports of all containers: numbers, names, and those of the node, which are there once."""
    taken: set[tuple[str, str, int]] = set()
    own_network = not truth(pod, "hostNetwork")
    for container in containers_of(pod):
        names: set[str] = set()
        for port in entries(container, "ports"):
            judge_port(child(port, "containerPort"), judge)
            name, protocol = child(port, "name"), child(port, "protocol")
            if name is not None and content(name) and not is_port_name(content(name)):
                judge.invalid(name, "at most 15 lower case letters, digits and '-', one a letter")
            elif name is not None and content(name) in names:
                judge.repeated(name)
            names.add(content(name) or f"#{len(names)}")
            judge.check_word(protocol, PROTOCOLS)
            of_node, inside = child(port, "hostPort"), number(port, "containerPort")
            where = number(of_node) or (0 if own_network else inside or 0)
            if of_node is not None and number(of_node):  # 0 is the same as none
                judge_port(of_node, judge)
                if not own_network and number(of_node) != inside:
                    judge.invalid(of_node, "must match `containerPort` when `hostNetwork` is true")
            key = (content(protocol) or "TCP", content(port, "hostIP"), where)
            if where and key in taken and container not in entries(pod, "initContainers"):
                judge.say(of_node or port, "duplicate-item", f"duplicate port of the node: {where}")
            if container not in entries(pod, "initContainers"):
                taken.add(key)


def _judge_bounds(pod: Node, judge: Judge) -> None:
    """Numbers and names of the pod itself."""
    judge.check_number(child(pod, "activeDeadlineSeconds"), 1, INT32)
    judge.check_number(child(pod, "terminationGracePeriodSeconds"), 0, 2**63 - 1)
    account = child(pod, "serviceAccountName")
    if account is not None and content(account) and not is_subdomain(content(account)):
        judge.invalid(account, "must be the name of a ServiceAccount")
    for name in ("hostname", "subdomain"):
        node = child(pod, name)
        if node is not None and content(node) and not is_dns_label(content(node)):
            judge.invalid(node, "must be a DNS-1123 label")
    if content(pod, "dnsPolicy") == "None" and not entries(pod, "dnsConfig", "nameservers"):
        message = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        where = f"{pod.path}.dnsConfig.nameservers"
        judge.say(pod, "missing-field", message, "Add the addresses of servers.", where)


def _judge_handlers(container: Node, judge: Judge) -> None:
    """Every probe of a container does one thing; an init container has none."""
    init = ".initContainers[" in f".{container.path}" and content(container, "restartPolicy") == ""
    for name in (*PROBES, "lifecycle"):
        probe = child(container, name)
        if probe is None:
            continue
        if init:
            message = "may not be set for init containers without restartPolicy=Always"
            judge.say(probe, "not-allowed", f"{probe.path}: {message}")
        elif name != "lifecycle":
            judge.check_one_of(probe, *_HANDLERS)
    for source in entries(container, "envFrom"):
        judge.check_one_of(source, "configMapRef", "secretRef")


def _judge_variable(variable: Node, judge: Judge) -> None:
    name, source = child(variable, "name"), child(variable, "valueFrom")
    # The relaxed rule, on since Kubernetes 1.34.
    if name is not None and not all(" " <= c <= "~" and c != "=" for c in content(name)):
        judge.invalid(name, "a variable's name has printable ASCII characters without =")
    if source is not None and content(variable, "value"):
        judge.say(source, "one-of", "may not be specified when `value` is not empty")
    if source is not None and len(fields(source)) != 1:
        judge.say(source, "one-of", "must have exactly one source")


def _judge_resources(container: Node, judge: Judge) -> None:
    """Limits and requests: names, whole devices, and no request above its limit."""
    limits, requests = (fields(container, "resources", name) for name in ("limits", "requests"))
    for name, node in (*limits.items(), *requests.items()):
        native = name in _NATIVE or name.startswith("hugepages-")
        extended = is_extended_resource(name) or _is_implicit_resource(name)
        if not native and not extended:
            why = "must be a standard resource, or domain/name of a device"
            judge.invalid(node, why, shown=name)
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


def is_extended_resource(text: str) -> bool:
    """`domain/name` outside of kubernetes.io, and still a resource name in a quota."""
    domain, slash, _ = text.partition("/")
    if not slash or "kubernetes.io/" in text or text.startswith("requests."):
        return False
    return is_qualified_name(text) and is_qualified_name(f"requests.{text}") and bool(domain)


def _is_implicit_resource(text: str) -> bool:
    """The name under which every DeviceClass is an extended resource."""
    prefix = "deviceclass.resource.kubernetes.io/"
    return text.startswith(prefix) and is_qualified_name(text)
