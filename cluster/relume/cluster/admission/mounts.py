"""Where a container of a revision mounts its volumes (knative/serving k8s_validation.go)."""

import posixpath
from collections.abc import Mapping

from relume.cluster.admission.judge import Judge, content, entries, fields, is_set, truth
from relume.cluster.admission.volumes import Volume
from relume.config.nodes import Node

_RESERVED_PATHS = ("/", "/dev", "/dev/log")


def judge_mounts(
    mounts: Node | None, volumes: Mapping[str, Volume], judge: Judge, *, init: bool
) -> None:
    """Every mount names a volume and a path of its own; `init`: of an init container."""
    seen: set[str] = set()
    for mount in entries(mounts):
        inside = fields(mount)
        volume = volumes.get(content(inside.get("name")))
        if volume is None:
            where = f"{mount.path}.name"
            message = f"volumeMount has no matching volume: {where}"
            judge.say(inside.get("name", mount), "invalid-value", message, field=where)
        _judge_mount_path(mount, seen, judge)
        for name, node in inside.items():
            _judge_mount_field(name, node, judge)
        # The webhook sets readOnly itself where it must be set, but not for init containers.
        read_only = truth(inside.get("readOnly"))
        if init and volume is not None and not volume.writable and not read_only:
            judge.say(
                inside.get("readOnly", mount),
                "invalid-value",
                "volume mount should be readOnly for this type of volume",
                "Write readOnly: true.",
                field=f"{mount.path}.readOnly",
            )
        elif volume is not None and volume.read_only_claim and not read_only:
            judge.say(
                inside.get("readOnly", mount),
                "conflict",
                "volume is readOnly but volume mount is not",
                "Write readOnly: true.",
                field=f"{mount.path}.readOnly",
            )


def _judge_mount_path(mount: Node, seen: set[str], judge: Judge) -> None:
    node = fields(mount).get("mountPath")
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
