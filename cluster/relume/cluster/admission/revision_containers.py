"""One container of a revision: its fields, ports, probes and mounts.

Source: knative/serving pkg/apis/serving/{fieldmask,k8s_validation}.go; an image reference is read
as google/go-containerregistry does (pkg/name).
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from relume.cluster.admission.judge import (
    INT32,
    Judge,
    child,
    content,
    entries,
    fields,
    is_set,
    number,
    truth,
)
from relume.cluster.schemas import shape_of
from relume.config.environment import RESERVED_ENVIRONMENT
from relume.config.nodes import Node

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
RESERVED_PORTS = (8008, 8012, 8013, 8022, 9090, 9091)
_RESERVED_PATHS = ("/", "/dev", "/dev/log")
_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")
_REPOSITORY = re.compile(r"[a-z0-9_\-./]{2,255}")
_TAG = re.compile(r"[A-Za-z0-9_\-.]{1,128}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REGISTRY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~-]*)(:\d*)?")


@dataclass(frozen=True, slots=True)
class Volume:
    """What the rules of mounts need to know of a volume."""

    writable: bool
    read_only_claim: bool


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
    for name in PROBES:
        probe, readiness = child(container, name), name == "readinessProbe"
        if probe is None:
            continue
        if sidecar and not probing:
            filled = f", {probe.path}.successThreshold" if readiness else ""
            judge.closed(probe, "multi-container-probing", filled)
        else:
            _judge_probe(probe, judge, readiness=readiness, port=port, own=not sidecar)
    _judge(container, volumes, judge, sidecar=sidecar, merged=merged)


@cache
def _passing(*path: str) -> frozenset[str]:
    """The fields of a container, or of what is at a path in it, that Knative lets pass.

    Its CRD lists them for containers, and leaves init containers open.
    """
    container = ("spec", "template", "spec", "containers", "[]")
    shape = shape_of("serving.knative.dev/v1", "Service", *container, *path)
    return frozenset(shape.type["fields"])


def security_fields() -> frozenset[str]:
    """The fields of a container's security context that Knative lets pass with any value.

    Its CRD lists `privileged` too, which may only be false.
    """
    return _passing("securityContext") - {"privileged"}


def judge_init_container(container: Node, volumes: Mapping[str, Volume], judge: Judge) -> None:
    """A container that runs before the others."""
    for name in (*PROBES, "lifecycle"):
        node = child(container, name)
        if node is not None:
            judge.say(node, "not-allowed", f"field not allowed in an init container: {node.path}")
    _judge(container, volumes, judge, sidecar=True, merged=False, init=True)


def _judge(
    container: Node,
    volumes: Mapping[str, Volume],
    judge: Judge,
    *,
    sidecar: bool,
    merged: bool,
    init: bool = False,
) -> None:
    inside = fields(container)
    if not inside and not merged:
        judge.say(container, "missing-field", f"missing field(s): {container.path}")
        return
    for name, node in inside.items():
        if name not in _passing() and not (init and name == "lifecycle") and is_set(node):
            judge.not_allowed(node)
    if content(container, "name") == "queue-proxy":
        judge.say(inside["name"], "reserved", '"queue-proxy" is a reserved container name')
    _judge_environment(container, judge, sidecar=sidecar)
    image = content(container, "image")
    if not image and not merged:
        judge.missing(container, "image")
    elif image and not _is_image(image):
        judge.say(
            inside["image"],
            "invalid-value",
            f'Failed to parse image reference: {inside["image"].path}: image: "{image}"',
            "Write [registry/]repository[:tag][@sha256:…], the repository in lower case.",
        )
    _judge_ports(inside.get("ports"), judge, checked=not init)
    for name, node in fields(container, "resources").items():
        if name not in ("limits", "requests") and is_set(node):
            judge.not_allowed(node)
    _judge_security(inside.get("securityContext"), judge)
    policy = inside.get("terminationMessagePolicy")
    if policy is not None and content(policy) not in ("File", "FallbackToLogsOnError", ""):
        judge.invalid(policy, "must be File or FallbackToLogsOnError")
    _judge_mounts(container, volumes, judge, init=init)


def _judge_environment(container: Node, judge: Judge, *, sidecar: bool) -> None:
    reserved = RESERVED_ENVIRONMENT[1:] if sidecar else RESERVED_ENVIRONMENT
    for variable in entries(container, "env"):
        name = content(variable, "name")
        judge.check_filled(variable, "name")
        if name in reserved:
            message = f'"{name}" is a reserved environment variable'
            judge.say(fields(variable)["name"], "reserved", message)
        for source, node in fields(variable, "valueFrom").items():
            flag = "kubernetes.podspec-fieldref"
            if source in ("fieldRef", "resourceFieldRef"):
                if not judge.cluster.open(flag):
                    judge.closed(node, flag)
            elif source not in ("configMapKeyRef", "secretKeyRef"):
                judge.not_allowed(node)
    for source_node in entries(container, "envFrom"):
        path = source_node.path.rpartition("[")[0]
        judge.check_one_of(source_node, "configMapRef", "secretRef", path=path)


def _is_image(text: str) -> bool:
    """An image reference: [registry/]repository[:tag][@digest].

    A repository has 2 to 255 characters, an empty tag is none, only sha256 is a digest, and a first
    part with a dot or colon is a registry.
    """
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        return False
    colon = name.rfind(":")
    if colon > name.rfind("/"):
        name, tag = name[:colon], name[colon + 1 :]
        if tag and not _TAG.fullmatch(tag):
            return False
    registry, slash, rest = name.partition("/")
    if slash and ("." in registry or ":" in registry):
        if not _REGISTRY.fullmatch(registry):
            return False
        name = rest
    return _REPOSITORY.fullmatch(name) is not None


def _judge_ports(ports: Node | None, judge: Judge, *, checked: bool) -> None:
    """The ports; `checked`: of a container that may answer requests, where the first one counts."""
    listed = entries(ports)
    path = ports.path if ports is not None else ""  # the webhook names no port by its number
    for port in listed[:1] if checked else listed:
        for field, node in fields(port).items():
            if field not in _passing("ports", "[]") and is_set(node):
                judge.not_allowed(node)
        node_, field = child(port, "containerPort"), f"{path}.containerPort"
        if node_ is not None and number(node_) in RESERVED_PORTS:
            message = f"invalid value: {number(node_)} is a reserved port"
            judge.say(node_, "reserved", message, field=field)
        else:
            judge.check_number(node_, 0, 65535, field=field)
        protocol, name = child(port, "protocol"), child(port, "name")
        if checked and protocol is not None and content(protocol) not in ("", "TCP"):
            judge.invalid(protocol, "must be TCP", field=f"{path}.protocol")
        if checked and name is not None and content(name) not in ("h2c", "http1", ""):
            judge.say(
                name,
                "unsupported-value",
                f"Port name {content(name)} is not allowed: Name must be empty, or one of: "
                "'h2c', 'http1'",
                "Write h2c for HTTP/2 and gRPC, or remove the name.",
                field=path,
            )


def _judge_security(context: Node | None, judge: Judge) -> None:
    for name, node in fields(context).items():
        if name == "privileged":
            if truth(node):
                judge.not_allowed(node, ": only false is allowed")
        elif name not in security_fields():
            judge.not_allowed(node)
        elif name in ("runAsUser", "runAsGroup"):
            judge.check_number(node, 0, INT32)
    added = child(context, "capabilities", "add")
    flag = "kubernetes.containerspec-addcapabilities"
    if added is None or not entries(added) or judge.cluster.enabled(flag):
        return
    only_low_ports = [content(one) for one in entries(added)] == ["NET_BIND_SERVICE"]
    if not (judge.cluster.secure_defaults and only_low_ports):
        judge.closed(added, flag)


def _judge_probe(probe: Node, judge: Judge, *, readiness: bool, port: str, own: bool) -> None:
    """One probe. `own`: of the container that has `port`, which a probe may leave out."""
    # The webhook adds a TCP readiness probe itself.
    if any(name in fields(probe) for name in _HANDLERS) or not (readiness and own):
        judge.check_one_of(probe, *_HANDLERS)
    for name in ("httpGet", "tcpSocket"):
        handler = child(probe, name)
        if handler is not None:
            _judge_probe_port(handler, judge, port=port, own=own)
    if readiness:
        _judge_probe_numbers(probe, judge)


def _judge_probe_port(handler: Node, judge: Judge, *, port: str, own: bool) -> None:
    node = child(handler, "port")
    named = content(node) if number(node) is None else ""
    if own and node is not None and named and named != port:
        judge.invalid(node, "Probe port must match container port", "Write the port's number.")
    elif not own and not named and not number(node):
        judge.say(
            node or handler,
            "missing-field",
            f"invalid value: {content(node) or 0}: Probe port must be specified",
            "Name the port.",
            field=f"{handler.path}.port",
        )


def _judge_probe_numbers(probe: Node, judge: Judge) -> None:
    """A readiness probe. Without a period it is Knative's own probe, which retries at once."""
    for name, low in (("periodSeconds", 0), ("initialDelaySeconds", 0), ("successThreshold", 1)):
        value = number(probe, name)
        if value is not None and value < low and not (name == "successThreshold" and value == 0):
            judge.bounds(fields(probe)[name], low, INT32)
    for name in ("failureThreshold", "timeoutSeconds"):
        value, node = number(probe, name), child(probe, name)
        if not value or node is None:  # 0 is filled in
            continue
        if not number(probe, "periodSeconds"):
            message = f"{name} is disallowed when periodSeconds is zero"
            judge.say(node, "conflict", message, "Set periodSeconds, or remove the field.")
        elif value < 1:
            judge.bounds(node, 1, INT32)


def _judge_mounts(
    container: Node, volumes: Mapping[str, Volume], judge: Judge, *, init: bool
) -> None:
    """Every mount names a volume and a path of its own; `init`: of an init container."""
    seen: set[str] = set()
    for mount in entries(container, "volumeMounts"):
        volume = volumes.get(content(mount, "name"))
        if volume is None:
            where = f"{mount.path}.name"
            message = f"volumeMount has no matching volume: {where}"
            judge.say(child(mount, "name") or mount, "invalid-value", message, field=where)
        _judge_mount_path(mount, seen, judge)
        for name, node in fields(mount).items():
            _judge_mount_field(name, node, judge)
        if volume is None or truth(mount, "readOnly"):
            continue
        where, fix = f"{mount.path}.readOnly", "Write readOnly: true."
        at = child(mount, "readOnly") or mount
        # The webhook sets readOnly itself where it must be set, but not for init containers.
        if init and not volume.writable:
            message = "volume mount should be readOnly for this type of volume"
            judge.say(at, "invalid-value", message, fix, field=where)
        elif volume.read_only_claim:
            message = "volume is readOnly but volume mount is not"
            judge.say(at, "conflict", message, fix, field=where)


def _judge_mount_path(mount: Node, seen: set[str], judge: Judge) -> None:
    node = child(mount, "mountPath")
    if node is None or not content(node):
        judge.missing(mount, "mountPath")
        return
    path = posixpath.normpath(content(node)).replace("//", "/", 1)
    if path in _RESERVED_PATHS:
        judge.say(node, "reserved", f'mountPath "{path}" is a reserved path')
    elif not path.startswith("/"):
        judge.invalid(node, "must be an absolute path")
    elif path in seen:
        judge.say(node, "duplicate-item", f'invalid value: "{content(node)}" must be unique')
    seen.add(path)


def _judge_mount_field(name: str, node: Node, judge: Judge) -> None:
    if name == "mountPropagation":
        flag = "kubernetes.podspec-volumes-mount-propagation"
        if not judge.cluster.enabled(flag):
            judge.closed(node, flag)
        if content(node) not in ("None", "HostToContainer"):
            judge.invalid(node, "must be None or HostToContainer")
    elif name not in ("name", "readOnly", "mountPath", "subPath") and is_set(node):
        judge.not_allowed(node)
