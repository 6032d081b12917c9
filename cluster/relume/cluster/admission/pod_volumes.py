"""The volumes of every pod, and where its containers mount them.

Source: kubernetes pkg/apis/core/validation/validation.go, ValidateVolumes and ValidateVolumeMounts.
"""

import posixpath
from collections.abc import Collection, Iterator

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.cluster.admission.volume_claims import judge_claim_spec, judge_template_metadata
from relume.cluster.claims import quantity
from relume.config.names import is_dns_label
from relume.config.nodes import Node

_HOST_PATHS = (
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
# What a kind of volume needs; a volume that is of none of the kinds is an emptyDir.
_NEEDED = {
    "hostPath": ("path",),
    "secret": ("secretName",),
    "configMap": ("name",),
    "persistentVolumeClaim": ("claimName",),
    "nfs": ("server", "path"),
    "csi": ("driver",),
    "ephemeral": ("volumeClaimTemplate",),
    "iscsi": ("targetPortal", "iqn"),
}
_PROJECTED = {"secret": "name", "configMap": "name", "serviceAccountToken": "path"}
_LARGEST_MODE = 0o777
_SHORTEST_TOKEN = 600  # seconds


def judge_volumes(pod: Node, judge: Judge) -> None:
    """Every volume: its name, that it is of one kind, and what that kind needs."""
    seen: set[str] = set()
    for volume in entries(pod, "volumes"):
        name = child(volume, "name")
        if name is None or not content(name):
            judge.missing(volume, "name")
        elif not is_dns_label(content(name)):
            judge.invalid(name, "a volume's name is a DNS-1123 label")
        elif content(name) in seen:
            judge.repeated(name)
        seen.add(content(name))
        kinds = [kind for kind in fields(volume) if kind != "name"]
        if len(kinds) > 1:
            judge.several(volume, *kinds)
        for kind in kinds:
            for needed in _NEEDED.get(kind, ()):
                if not content(volume, kind, needed) and not fields(volume, kind, needed):
                    judge.missing(child(volume, kind) or volume, needed)
        _judge_host_path(child(volume, "hostPath"), judge)
        _judge_empty_dir(child(volume, "emptyDir"), judge)
        for source in entries(volume, "projected", "sources"):
            _judge_projection(source, judge)
        if (template := child(volume, "ephemeral", "volumeClaimTemplate")) is not None:
            judge_template_metadata(child(template, "metadata"), judge)
            judge_claim_spec(child(template, "spec") or template, judge)


def _judge_host_path(path: Node | None, judge: Judge) -> None:
    where = child(path, "path")
    if where is not None and ".." in content(where).split("/"):
        judge.invalid(where, "must not contain '..'")
    judge.check_word(child(path, "type"), _HOST_PATHS)


def _judge_empty_dir(empty: Node | None, judge: Judge) -> None:
    limit = child(empty, "sizeLimit")
    size = judge.parsed(limit, quantity.parse)
    if limit is not None and size is not None and size < 0:
        judge.invalid(limit, "must be a valid resource quantity, and not negative")


def _judge_projection(source: Node, judge: Judge) -> None:
    kinds = list(fields(source))
    if len(kinds) > 1:
        judge.several(source, *kinds)
    elif not kinds:
        judge.missing(source, *_PROJECTED, "downwardAPI", reason="one-of")
    for kind, needed in _PROJECTED.items():
        if kind in kinds:
            judge.check_filled(fields(source)[kind], needed)
    lifetime = child(source, "serviceAccountToken", "expirationSeconds")
    seconds = number(lifetime)
    if lifetime is not None and seconds is not None and seconds < _SHORTEST_TOKEN:
        judge.invalid(lifetime, f"may not specify a duration less than {_SHORTEST_TOKEN} seconds")


def judge_volume_paths(pod: Node, judge: Judge) -> None:
    """The files of secrets, config maps and the like: paths inside the volume, and their modes.

    Knative lets such volumes pass as they are, so that these rules come into force in its dry run.
    """
    for volume in entries(pod, "volumes"):
        projected = entries(volume, "projected", "sources")
        for source in (volume, *projected):
            for kind in ("secret", "configMap", "downwardAPI"):
                for item in entries(source, kind, "items"):
                    if kind != "downwardAPI" and not content(item, "key"):
                        judge.missing(item, "key")
                    if not content(item, "path"):
                        judge.missing(item, "path")
                    _judge_inside(child(item, "path"), judge)
                    _judge_mode(child(item, "mode"), judge)
                    if kind == "downwardAPI":
                        judge.check_one_of(item, "fieldRef", "resourceFieldRef")
                _judge_mode(child(source, kind, "defaultMode"), judge)
            _judge_inside(child(source, "serviceAccountToken", "path"), judge)
        _judge_mode(child(volume, "projected", "defaultMode"), judge)


def _judge_inside(path: Node | None, judge: Judge) -> None:
    """A path below the volume's own folder."""
    text = content(path)
    if path is None or not text:
        return
    if text.startswith("/"):
        judge.invalid(path, "must be a relative path", "Write the path without / at its start.")
    elif ".." in text.split("/"):
        judge.invalid(path, "must not contain '..'")
    elif text.startswith(".."):
        judge.invalid(path, "must not start with '..'")


def _judge_mode(mode: Node | None, judge: Judge) -> None:
    judge.check_number(mode, 0, _LARGEST_MODE)


def judge_mounts(pod: Node, judge: Judge, *, also: Collection[str] = ()) -> None:
    """Every mount names a volume of the pod, or one of `also`, and a path of its own."""
    names = {content(volume, "name") for volume in entries(pod, "volumes")} | set(also)
    for container in containers_of(pod):
        seen: set[str] = set()
        for mount in entries(container, "volumeMounts"):
            name, path = child(mount, "name"), child(mount, "mountPath")
            if name is None or not content(name):
                judge.missing(mount, "name")
            elif content(name) not in names:
                message = f'not found: "{content(name)}"'
                fix = "Write the name of one of the pod's volumes, or add the volume."
                judge.say(name, "invalid-value", message, fix)
            if path is None or not content(path):
                judge.missing(mount, "mountPath")
            elif posixpath.normpath(content(path)) in seen:
                judge.invalid(path, "must be unique")
            seen.add(posixpath.normpath(content(path)))
            part, written = child(mount, "subPath"), child(mount, "subPathExpr")
            for node in (part, written):
                text = content(node)
                if node is not None and text.startswith("/"):
                    judge.invalid(node, "must be a relative path")
                elif node is not None and ".." in text.split("/"):
                    judge.invalid(node, "must not contain '..'")
            if content(part) and content(written):
                judge.several(mount, "subPath", "subPathExpr")


def containers_of(pod: Node) -> Iterator[Node]:
    """The containers of a pod, those that run first at the beginning."""
    yield from entries(pod, "initContainers")
    yield from entries(pod, "containers")
