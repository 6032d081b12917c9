"""One container of a revision (knative/serving pkg/apis/serving/{fieldmask,k8s_validation}.go)."""

from collections.abc import Mapping

from relume.cluster.admission.judge import (
    INT32,
    Judge,
    content,
    entries,
    fields,
    is_set,
    number,
    truth,
)
from relume.cluster.admission.mounts import judge_mounts
from relume.cluster.admission.probes import judge_probe
from relume.cluster.admission.syntax import is_image
from relume.cluster.admission.volumes import Volume
from relume.config.nodes import Node

RESERVED_PORTS = (8008, 8012, 8013, 8022, 9090, 9091)
RESERVED_ENVIRONMENT = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_CONTAINER = frozenset(
    {
        "name",
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "ports",
        "resources",
        "securityContext",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "volumeMounts",
        "workingDir",
        *_PROBES,
    }
)
CONTAINER_SECURITY = frozenset(
    {
        "capabilities",
        "readOnlyRootFilesystem",
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "allowPrivilegeEscalation",
        "seccompProfile",
    }
)


def judge_container(
    container: Node,
    volumes: Mapping[str, Volume],
    judge: Judge,
    *,
    port: str,
    sidecar: bool,
    merged: bool,
) -> None:
    """A container that answers requests on `port`, or stands beside one that does."""
    probing = judge.cluster.enabled("multi-container-probing")
    for name in _PROBES:
        probe = fields(container).get(name)
        if probe is None:
            continue
        if sidecar and not probing:
            filled = f", {probe.path}.successThreshold" if name == "readinessProbe" else ""
            judge.closed(probe, "multi-container-probing", filled)
        else:
            judge_probe(
                probe, judge, readiness=name == "readinessProbe", port=port, own=not sidecar
            )
    _judge(container, volumes, judge, ports_reserved=True, sidecar=sidecar, merged=merged)


def judge_init_container(container: Node, volumes: Mapping[str, Volume], judge: Judge) -> None:
    """A container that runs before the others."""
    for name in (*_PROBES, "lifecycle"):
        node = fields(container).get(name)
        if node is not None:
            judge.say(node, "not-allowed", f"field not allowed in an init container: {node.path}")
    _judge(container, volumes, judge, ports_reserved=False, sidecar=True, merged=False, init=True)


def _judge(
    container: Node,
    volumes: Mapping[str, Volume],
    judge: Judge,
    *,
    ports_reserved: bool,
    sidecar: bool,
    merged: bool,
    init: bool = False,
) -> None:
    inside = fields(container)
    if not inside and not merged:
        judge.say(container, "missing-field", f"missing field(s): {container.path}")
        return
    for name, node in inside.items():
        refused = name not in _CONTAINER and not (init and name == "lifecycle")
        if refused and is_set(node):
            judge.not_allowed(node)
    name_node = inside.get("name")
    if name_node is not None and content(name_node) == "queue-proxy":
        judge.say(name_node, "reserved", '"queue-proxy" is a reserved container name')
    _judge_environment(inside, judge, sidecar=sidecar)
    _judge_image(container, judge, merged=merged)
    _judge_ports(inside.get("ports"), judge, checked=ports_reserved)
    for field_name, node in fields(inside.get("resources")).items():
        if field_name not in ("limits", "requests") and is_set(node):
            judge.not_allowed(node)
    _judge_security(inside.get("securityContext"), judge)
    policy = inside.get("terminationMessagePolicy")
    if policy is not None and content(policy) not in ("File", "FallbackToLogsOnError", ""):
        judge.invalid(policy, "must be File or FallbackToLogsOnError")
    judge_mounts(inside.get("volumeMounts"), volumes, judge, init=init)


def _judge_environment(inside: Mapping[str, Node], judge: Judge, *, sidecar: bool) -> None:
    reserved = RESERVED_ENVIRONMENT[1:] if sidecar else RESERVED_ENVIRONMENT
    for variable in entries(inside.get("env")):
        name = fields(variable).get("name")
        if name is None or not content(name):
            judge.missing(variable, "name")
        elif content(name) in reserved:
            judge.say(name, "reserved", f'"{content(name)}" is a reserved environment variable')
        for source, node in fields(fields(variable).get("valueFrom")).items():
            flag = "kubernetes.podspec-fieldref"
            if source in ("fieldRef", "resourceFieldRef"):
                if not judge.cluster.open(flag):
                    judge.closed(node, flag)
            elif source not in ("configMapKeyRef", "secretKeyRef"):
                judge.not_allowed(node)
    for source_node in entries(inside.get("envFrom")):
        path = source_node.path.rpartition("[")[0]
        chosen = [name for name in ("configMapRef", "secretRef") if name in fields(source_node)]
        if len(chosen) > 1:
            judge.several(source_node, *chosen, path=path)
        elif not chosen:
            judge.missing(source_node, "configMapRef", "secretRef", reason="one-of", path=path)


def _judge_image(container: Node, judge: Judge, *, merged: bool) -> None:
    image = fields(container).get("image")
    if not content(image):
        if not merged:
            judge.missing(container, "image")
    elif image is not None and not is_image(content(image)):
        judge.say(
            image,
            "invalid-value",
            f'Failed to parse image reference: {image.path}: image: "{content(image)}"',
            "Write [registry/]repository[:tag][@sha256:…], the repository in lower case.",
        )


def _judge_ports(ports: Node | None, judge: Judge, *, checked: bool) -> None:
    listed = entries(ports)
    path = ports.path if ports is not None else ""  # the webhook names no port by its number
    for port in listed[:1] if checked else listed:
        inside = fields(port)
        for name, node in inside.items():
            if name not in ("containerPort", "name", "protocol") and is_set(node):
                judge.not_allowed(node)
        _judge_port_number(inside.get("containerPort"), f"{path}.containerPort", judge)
        protocol, name_node = inside.get("protocol"), inside.get("name")
        if checked and protocol is not None and content(protocol) not in ("", "TCP"):
            judge.invalid(protocol, "must be TCP", field=f"{path}.protocol")
        if checked and name_node is not None and content(name_node) not in ("h2c", "http1", ""):
            judge.say(
                name_node,
                "unsupported-value",
                f"Port name {content(name_node)} is not allowed: Name must be empty, or one of: "
                "'h2c', 'http1'",
                "Write h2c for HTTP/2 and gRPC, or remove the name.",
                field=path,
            )


def _judge_port_number(node: Node | None, field: str, judge: Judge) -> None:
    value = number(node)
    if node is None or value is None:
        return
    if value in RESERVED_PORTS:
        message = f"invalid value: {value} is a reserved port"
        judge.say(node, "reserved", message, field=field)
    elif not 0 <= value <= 65535:
        judge.bounds(node, 0, 65535, field=field)


def _judge_security(context: Node | None, judge: Judge) -> None:
    for name, node in fields(context).items():
        if name == "privileged":
            if truth(node):
                judge.not_allowed(node, ": only false is allowed")
        elif name not in CONTAINER_SECURITY:
            judge.not_allowed(node)
        value = number(node)
        if name in ("runAsUser", "runAsGroup") and value is not None and not 0 <= value <= INT32:
            judge.bounds(node, 0, INT32)
    added = fields(fields(context).get("capabilities")).get("add")
    if added is not None and entries(added):
        flag = "kubernetes.containerspec-addcapabilities"
        only_low_ports = [content(one) for one in entries(added)] == ["NET_BIND_SERVICE"]
        if not judge.cluster.enabled(flag) and not (
            judge.cluster.secure_defaults and only_low_ports
        ):
            judge.closed(added, flag)
