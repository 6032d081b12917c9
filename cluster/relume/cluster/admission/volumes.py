"""The volumes of a revision (knative/serving pkg/apis/serving/{fieldmask,k8s_validation}.go)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relume.cluster.admission.judge import Judge, content, entries, fields, truth
from relume.cluster.admission.syntax import is_dns_label
from relume.cluster.claims import quantity
from relume.config.nodes import Node, Table

_ALWAYS = ("secret", "configMap", "projected")
_FLAGS: Mapping[str, tuple[str, str]] = {
    "emptyDir": ("volumes-emptydir", "EmptyDir volume"),
    "persistentVolumeClaim": ("persistent-volume-claim", "Persistent volume claim"),
    "hostPath": ("volumes-hostpath", "HostPath volume"),
    "csi": ("volumes-csi", "CSI volume"),
    "ephemeral": ("volumes-ephemeral", "Ephemeral volume"),
    "image": ("volumes-image", "Image volume"),
}
_POD = "kubernetes.podspec-"
_PULL = ("IfNotPresent", "Always", "Never", "")


@dataclass(frozen=True, slots=True)
class Volume:
    """What a mount must know of its volume."""

    writable: bool
    read_only_claim: bool


def judge_volumes(spec: Table, containers: Sequence[Node], judge: Judge) -> Mapping[str, Volume]:
    """Judge every volume; returns them by name for the mounts."""
    mounted = {
        content(fields(mount).get("name"))
        for container in containers
        for mount in entries(fields(container).get("volumeMounts"))
    }
    volumes: dict[str, Volume] = {}
    for volume in entries(spec.get("volumes")):
        inside = fields(volume)
        name_node, name = inside.get("name", volume), content(inside.get("name"))
        where = f"{volume.path}.name"
        if name in volumes:
            message = f'duplicate volume name "{name}"'
            judge.say(name_node, "duplicate-item", message, field=where)
        if name not in mounted:
            judge.say(
                name_node,
                "invalid-value",
                f'volume with name "{name}" not mounted',
                "Mount it, or remove it.",
                field=where,
            )
        _judge_volume(volume, judge)
        claim = inside.get("persistentVolumeClaim")
        volumes[name] = Volume(
            writable=any(k in inside for k in ("emptyDir", "persistentVolumeClaim", "ephemeral")),
            read_only_claim=truth(fields(claim).get("readOnly")),
        )
    return volumes


def _judge_volume(volume: Node, judge: Judge) -> None:
    inside = fields(volume)
    name = inside.get("name")
    if name is None or not content(name):
        judge.missing(volume, "name")
    elif not is_dns_label(content(name)):
        judge.invalid(name, "must be a DNS-1123 label")
    chosen = [kind for kind in (*_ALWAYS, *_FLAGS) if kind in inside]
    for kind in chosen:
        if kind in _FLAGS and not judge.cluster.enabled(_POD + _FLAGS[kind][0]):
            flag, words = _FLAGS[kind]
            why = f": {words} support is disabled, but found {words} {content(name)}"
            judge.closed(inside[kind], _POD + flag, why)
    _judge_claim(inside.get("persistentVolumeClaim"), judge)
    for kind in ("secret", "configMap"):
        for item in entries(fields(inside.get(kind)).get("items")):
            _need(item, judge, "key", "path", path=item.path.replace(f".{kind}.items[", ".items["))
    for source in entries(fields(inside.get("projected")).get("sources")):
        _judge_projection(source, judge)
    _judge_empty_dir(inside.get("emptyDir"), judge)
    _judge_image(inside.get("image"), judge)
    if len(chosen) > 1:
        judge.several(volume, *chosen)
    elif not chosen:
        on = [kind for kind in _FLAGS if judge.cluster.enabled(_POD + _FLAGS[kind][0])]
        judge.missing(volume, *_ALWAYS, *on, reason="one-of")


def _judge_claim(claim: Node | None, judge: Judge) -> None:
    flag = _POD + "persistent-volume-write"
    if claim is None or truth(fields(claim).get("readOnly")) or judge.cluster.enabled(flag):
        return
    name = content(fields(claim).get("claimName"))
    if judge.cluster.enabled(_POD + _FLAGS["persistentVolumeClaim"][0]):
        why = f": write support is disabled, but found persistent volume claim {name} that is not"
        judge.closed(claim, flag, why + " read-only")


def _judge_projection(source: Node, judge: Judge) -> None:
    inside = fields(source)
    path = _named(source)
    kinds = ("secret", "configMap", "serviceAccountToken", "downwardAPI")
    chosen = [kind for kind in kinds if kind in inside]
    for name, node in inside.items():
        if name not in kinds:
            judge.not_allowed(node)
    if len(chosen) > 1:
        judge.several(source, *chosen, path=path)
    elif not chosen:
        judge.missing(source, *kinds, reason="one-of", path=path)
    for kind in ("secret", "configMap"):
        if kind in inside:
            _need(inside[kind], judge, "name", path=f"{path}.{kind}")
            for item in entries(fields(inside[kind]).get("items")):
                _need(item, judge, "key", "path", path=_named(item))
    if "serviceAccountToken" in inside:
        token = inside["serviceAccountToken"]
        _need(token, judge, "path", path=_named(token))
    for item in entries(fields(inside.get("downwardAPI")).get("items")):
        references = [n for n in ("fieldRef", "resourceFieldRef") if n in fields(item)]
        if len(references) > 1:
            judge.several(item, *references, path=_named(item))
        elif not references:
            names = ("fieldRef", "resourceFieldRef")
            judge.missing(item, *names, reason="one-of", path=_named(item))
        _need(item, judge, "path", path=_named(item))


def _judge_empty_dir(empty: Node | None, judge: Judge) -> None:
    medium, limit = (fields(empty).get(name) for name in ("medium", "sizeLimit"))
    if medium is not None and content(medium) not in ("", "Memory"):
        judge.invalid(medium, "must be Memory, or nothing")
    if limit is not None:
        try:
            if quantity.parse(content(limit)) < 0:
                judge.invalid(limit, "must not be negative")
        except ValueError as error:
            judge.invalid(limit, str(error))


def _judge_image(image: Node | None, judge: Judge) -> None:
    if image is None:
        return
    _need(image, judge, "reference")
    policy = fields(image).get("pullPolicy")
    if policy is not None and content(policy) not in _PULL:
        judge.invalid(policy, "must be IfNotPresent, Always or Never")


def _named(node: Node) -> str:
    """The path of something projected: the webhook leaves `sources` out."""
    return node.path.replace(".projected.sources[", ".projected[")


def _need(table: Node, judge: Judge, *names: str, path: str | None = None) -> None:
    for name in names:
        if not content(fields(table).get(name)):
            judge.missing(table, name, path=path)
