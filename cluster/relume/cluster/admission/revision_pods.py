"""The pod of a revision: which of its fields Knative Serving lets pass, and with what in them.

Source: knative/serving pkg/apis/serving/{fieldmask,k8s_validation}.go. The document has passed its
CRD, so that types are right and fields that no CRD has are gone.
"""

from collections.abc import Mapping, Sequence

from relume.cluster.admission.cluster import POD_FLAGS
from relume.cluster.admission.judge import INT32, Judge, content, entries, fields, is_set, truth
from relume.cluster.admission.revision_containers import (
    Volume,
    judge_container,
    judge_init_container,
)
from relume.cluster.claims import quantity
from relume.config.names import is_dns_label, is_subdomain
from relume.config.nodes import Node, Table

#: A field to the flag that opens it, and whether it is behind a pointer in the Go type.
FLAGS: Mapping[str, tuple[str, bool]] = {
    "affinity": (POD_FLAGS + "affinity", True),
    "topologySpreadConstraints": (POD_FLAGS + "topologyspreadconstraints", False),
    "hostAliases": (POD_FLAGS + "hostaliases", False),
    "nodeSelector": (POD_FLAGS + "nodeselector", False),
    "runtimeClassName": (POD_FLAGS + "runtimeclassname", True),
    "tolerations": (POD_FLAGS + "tolerations", False),
    "securityContext": (POD_FLAGS + "securitycontext", True),
    "shareProcessNamespace": (POD_FLAGS + "shareprocessnamespace", True),
    "priorityClassName": (POD_FLAGS + "priorityclassname", False),
    "schedulerName": (POD_FLAGS + "schedulername", False),
    "dnsPolicy": (POD_FLAGS + "dnspolicy", False),
    "dnsConfig": (POD_FLAGS + "dnsconfig", True),
    "hostIPC": (POD_FLAGS + "hostipc", False),
    "hostPID": (POD_FLAGS + "hostpid", False),
    "hostNetwork": (POD_FLAGS + "hostnetwork", False),
    "initContainers": (POD_FLAGS + "init-containers", False),
}
_SECURITY = ("runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "supplementalGroups")
_VOLUMES = ("secret", "configMap", "projected")  # that every cluster takes
# The other kinds of volumes to the flag that opens them, and what the webhook calls them.
VOLUME_FLAGS: Mapping[str, tuple[str, str]] = {
    "emptyDir": (POD_FLAGS + "volumes-emptydir", "EmptyDir volume"),
    "persistentVolumeClaim": (POD_FLAGS + "persistent-volume-claim", "Persistent volume claim"),
    "hostPath": (POD_FLAGS + "volumes-hostpath", "HostPath volume"),
    "csi": (POD_FLAGS + "volumes-csi", "CSI volume"),
    "ephemeral": (POD_FLAGS + "volumes-ephemeral", "Ephemeral volume"),
    "image": (POD_FLAGS + "volumes-image", "Image volume"),
}
_PROJECTED = ("secret", "configMap", "serviceAccountToken", "downwardAPI")
_PULL = ("IfNotPresent", "Always", "Never", "")


def judge_pod(spec: Table, judge: Judge, *, merged: bool = False) -> None:
    """A pod spec. `merged`: another layer still adds to it, so that nothing can be missing."""
    for name, node in spec:
        _judge_field(name, node, judge)
    _judge_security(spec.get("securityContext"), judge)
    containers, inits = entries(spec, "containers"), entries(spec, "initContainers")
    volumes = _judge_volumes(spec, (*inits, *containers), judge)
    _judge_inits(spec, inits, containers, volumes, judge)
    _judge_containers(spec, containers, volumes, judge, merged=merged)
    account = spec.get("serviceAccountName")
    if account is not None and content(account) and not is_subdomain(content(account)):
        judge.invalid(account, "must be a DNS-1123 subdomain")


def _judge_field(name: str, node: Node, judge: Judge) -> None:
    """A field behind a flag. The CRD lists no other field but those that are always taken."""
    if name == "automountServiceAccountToken":
        if truth(node):
            judge.not_allowed(node, ": only false is allowed", "Remove it, or write false.")
    elif name in FLAGS:
        flag, pointer = FLAGS[name]
        secure = name == "securityContext" and judge.cluster.secure_defaults
        if is_set(node, pointer=pointer) and not (judge.cluster.open(flag) or secure):
            also = sorted(f", {one.path}" for one in fields(node).values())
            judge.closed(node, flag, "".join(also) if name == "securityContext" else "")


def _judge_security(context: Node | None, judge: Judge) -> None:
    on = judge.cluster.open(FLAGS["securityContext"][0])
    allowed = {*_SECURITY, "seccompProfile"} if on else set()
    if judge.cluster.secure_defaults:
        allowed.add("seccompProfile")
    for name, node in fields(context).items():
        if name in allowed:
            for one in entries(node) if name == "supplementalGroups" else (node,):
                judge.check_number(one, 0, INT32)
        elif allowed:
            judge.not_allowed(node)


def _judge_inits(
    spec: Table,
    inits: Sequence[Node],
    containers: Sequence[Node],
    volumes: Mapping[str, Volume],
    judge: Judge,
) -> None:
    flag, _ = FLAGS["initContainers"]
    if not inits:
        return
    if not judge.cluster.enabled(flag):
        if judge.cluster.open(flag):  # "allowed" passes the mask only
            judge.closed(spec.entries["initContainers"], flag)
        return
    names = {content(container, "name") for container in containers} - {""}
    for container in inits:
        _judge_name(container, names, judge)
        judge_init_container(container, volumes, judge)


def _judge_name(container: Node, names: set[str], judge: Judge) -> None:
    name = fields(container).get("name")
    if name is not None and content(name) in names:
        judge.say(name, "duplicate-item", f'duplicate container name "{content(name)}"')


def _judge_containers(
    spec: Table,
    containers: Sequence[Node],
    volumes: Mapping[str, Volume],
    judge: Judge,
    *,
    merged: bool,
) -> None:
    port = _judge_ports(spec, containers, judge, merged=merged)
    if not containers:
        if not merged:
            judge.missing(spec, "containers")
        return
    if len(containers) > 1 and not judge.cluster.enabled("multi-container"):
        why = f": multi-container is off, but found {len(containers)} containers"
        judge.closed(spec.entries["containers"], "multi-container", why)
        return
    names: set[str] = set()
    for container in containers:
        _judge_name(container, names, judge)
        names.add(content(container, "name") or f"#{len(names)}")
        sidecar = len(containers) > 1 and not entries(container, "ports")
        judge_container(container, volumes, judge, port=port, sidecar=sidecar, merged=merged)


def _judge_ports(spec: Table, containers: Sequence[Node], judge: Judge, *, merged: bool) -> str:
    """Ask for one port in all containers; return its name, to which probes may refer."""
    ports = [port for container in containers for port in entries(container, "ports")]
    where = f"{spec.path}.containers[*].ports"
    if len(ports) > 1:
        judge.say(
            ports[1],
            "not-allowed",
            f"more than one container port is set: {where}: Only a single port is allowed across "
            "all containers",
            "Keep the port that answers requests.",
            field=where,
        )
    elif not ports and len(containers) > 1 and not merged:
        message = f"missing field(s): {where}"
        fix = "Name the port of the container that answers requests."
        judge.say(containers[0], "missing-field", message, fix, field=where)
    return (content(ports[-1], "name") if ports else "") or "http"


def _judge_volumes(spec: Table, containers: Sequence[Node], judge: Judge) -> Mapping[str, Volume]:
    """Judge every volume; returns them by name for the mounts."""
    mounted = {
        content(mount, "name")
        for container in containers
        for mount in entries(container, "volumeMounts")
    }
    volumes: dict[str, Volume] = {}
    for volume in entries(spec, "volumes"):
        inside = fields(volume)
        node, name = inside.get("name", volume), content(volume, "name")
        where = f"{volume.path}.name"
        if name in volumes:
            judge.say(node, "duplicate-item", f'duplicate volume name "{name}"', field=where)
        if name not in mounted:
            message, fix = f'volume with name "{name}" not mounted', "Mount it, or remove it."
            judge.say(node, "invalid-value", message, fix, field=where)
        _judge_volume(volume, judge)
        volumes[name] = Volume(
            writable=any(k in inside for k in ("emptyDir", "persistentVolumeClaim", "ephemeral")),
            read_only_claim=truth(volume, "persistentVolumeClaim", "readOnly"),
        )
    return volumes


def _judge_volume(volume: Node, judge: Judge) -> None:
    inside, name = fields(volume), content(volume, "name")
    judge.check_filled(volume, "name")
    if name and not is_dns_label(name):
        judge.invalid(inside["name"], "must be a DNS-1123 label")
    on = [kind for kind, (flag, _) in VOLUME_FLAGS.items() if judge.cluster.enabled(flag)]
    for kind, (flag, words) in VOLUME_FLAGS.items():
        if kind in inside and kind not in on:
            why = f": {words} support is disabled, but found {words} {name}"
            judge.closed(inside[kind], flag, why)
    if "persistentVolumeClaim" in on:
        _judge_claim(inside.get("persistentVolumeClaim"), judge)
    for kind in ("secret", "configMap"):
        for item in entries(volume, kind, "items"):
            path = item.path.replace(f".{kind}.items[", ".items[")
            judge.check_filled(item, "key", "path", path=path)
    for source in entries(volume, "projected", "sources"):
        _judge_projection(source, judge)
    _judge_empty_dir(inside.get("emptyDir"), judge)
    if (image := inside.get("image")) is not None:
        judge.check_filled(image, "reference")
        policy = fields(image).get("pullPolicy")
        if policy is not None and content(policy) not in _PULL:
            judge.invalid(policy, "must be IfNotPresent, Always or Never")
    chosen = [kind for kind in (*_VOLUMES, *VOLUME_FLAGS) if kind in inside]
    if len(chosen) > 1:
        judge.several(volume, *chosen)
    elif not chosen:
        judge.missing(volume, *_VOLUMES, *on, reason="one-of")


def _judge_claim(claim: Node | None, judge: Judge) -> None:
    flag = POD_FLAGS + "persistent-volume-write"
    if claim is None or truth(claim, "readOnly") or judge.cluster.enabled(flag):
        return
    found = f"found persistent volume claim {content(claim, 'claimName')} that is not read-only"
    judge.closed(claim, flag, f": write support is disabled, but {found}")


def _judge_projection(source: Node, judge: Judge) -> None:
    path = _named(source)
    for name, node in fields(source).items():
        if name not in _PROJECTED:
            judge.not_allowed(node)
    judge.check_one_of(source, *_PROJECTED, path=path)
    for kind in ("secret", "configMap"):
        if kind in fields(source):
            judge.check_filled(fields(source)[kind], "name", path=f"{path}.{kind}")
            for item in entries(source, kind, "items"):
                judge.check_filled(item, "key", "path", path=_named(item))
    if (token := fields(source).get("serviceAccountToken")) is not None:
        judge.check_filled(token, "path", path=_named(token))
    for item in entries(source, "downwardAPI", "items"):
        judge.check_one_of(item, "fieldRef", "resourceFieldRef", path=_named(item))
        judge.check_filled(item, "path", path=_named(item))


def _named(node: Node) -> str:
    """The path of something projected: the webhook leaves `sources` out."""
    return node.path.replace(".projected.sources[", ".projected[")


def _judge_empty_dir(empty: Node | None, judge: Judge) -> None:
    medium, limit = fields(empty).get("medium"), fields(empty).get("sizeLimit")
    if medium is not None and content(medium) not in ("", "Memory"):
        judge.invalid(medium, "must be Memory, or nothing")
    size = judge.parsed(limit, quantity.parse)
    if limit is not None and size is not None and size < 0:
        judge.invalid(limit, "must not be negative")
