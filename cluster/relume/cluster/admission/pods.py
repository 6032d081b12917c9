"""The pod of a revision: which of its fields Knative Serving lets pass, and with what in them.

Source: knative/serving pkg/apis/serving/{fieldmask,k8s_validation}.go. The document has passed its
CRD, so that types are right and fields that no CRD has are gone.
"""

from collections.abc import Mapping, Sequence

from relume.cluster.admission.containers import judge_container, judge_init_container
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
from relume.cluster.admission.syntax import is_subdomain
from relume.cluster.admission.volumes import Volume, judge_volumes
from relume.config.nodes import Node, Table

_ALWAYS = frozenset(
    {
        "containers",
        "volumes",
        "serviceAccountName",
        "imagePullSecrets",
        "enableServiceLinks",
        # of the revision, not of the pod
        "containerConcurrency",
        "timeoutSeconds",
        "responseStartTimeoutSeconds",
        "idleTimeoutSeconds",
    }
)
FLAGS: Mapping[str, str] = {
    name: f"kubernetes.podspec-{name.lower()}"
    for name in (
        "affinity",
        "topologySpreadConstraints",
        "hostAliases",
        "nodeSelector",
        "runtimeClassName",
        "tolerations",
        "securityContext",
        "shareProcessNamespace",
        "priorityClassName",
        "schedulerName",
        "dnsPolicy",
        "dnsConfig",
        "hostIPC",
        "hostPID",
        "hostNetwork",
    )
} | {"initContainers": "kubernetes.podspec-init-containers"}
_POINTERS = frozenset(
    {"affinity", "runtimeClassName", "securityContext", "shareProcessNamespace", "dnsConfig"}
)
_SECURITY = ("runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "supplementalGroups")


def judge_pod(spec: Table, judge: Judge, *, merged: bool = False) -> None:
    """A pod spec. `merged`: another layer still adds to it, so that nothing can be missing."""
    for name, node in spec:
        _judge_field(name, node, judge)
    _judge_security(spec.get("securityContext"), judge)
    containers, inits = (entries(spec.get(name)) for name in ("containers", "initContainers"))
    volumes = judge_volumes(spec, (*inits, *containers), judge)
    _judge_inits(spec, inits, containers, volumes, judge)
    _judge_containers(spec, containers, volumes, judge, merged=merged)
    account = spec.get("serviceAccountName")
    if content(account) and account is not None and not is_subdomain(content(account)):
        judge.invalid(account, "must be a DNS-1123 subdomain")


def _judge_field(name: str, node: Node, judge: Judge) -> None:
    cluster = judge.cluster
    if name in _ALWAYS:
        return
    if name == "automountServiceAccountToken":
        if truth(node):
            judge.not_allowed(node, ": only false is allowed", "Remove it, or write false.")
    elif name in FLAGS:
        secure = name == "securityContext" and cluster.secure_defaults
        if is_set(node, pointer=name in _POINTERS) and not (cluster.open(FLAGS[name]) or secure):
            also = sorted(f", {one.path}" for one in fields(node).values())
            judge.closed(node, FLAGS[name], "".join(also) if name == "securityContext" else "")
    elif is_set(node, pointer=True):
        judge.not_allowed(node)


def _judge_security(context: Node | None, judge: Judge) -> None:
    if context is None:
        return
    on = judge.cluster.open(FLAGS["securityContext"])
    allowed = {*_SECURITY, "seccompProfile"} if on else set()
    if judge.cluster.secure_defaults:
        allowed.add("seccompProfile")
    for name, node in fields(context).items():
        if name not in allowed:
            if on or judge.cluster.secure_defaults:
                judge.not_allowed(node)
            continue
        for one in entries(node) if name == "supplementalGroups" else (node,):
            value = number(one)
            if value is not None and not 0 <= value <= INT32:
                judge.bounds(one, 0, INT32)


def _judge_inits(
    spec: Table,
    inits: Sequence[Node],
    containers: Sequence[Node],
    volumes: Mapping[str, Volume],
    judge: Judge,
) -> None:
    if not inits:
        return
    flag = FLAGS["initContainers"]
    if not judge.cluster.enabled(flag):
        if judge.cluster.open(flag):  # "allowed" passes the mask only
            judge.closed(spec.entries["initContainers"], flag)
        return
    names = {content(fields(container).get("name")) for container in containers} - {""}
    for container in inits:
        name = fields(container).get("name")
        if name is not None and content(name) in names:
            judge.say(name, "duplicate-item", f'duplicate container name "{content(name)}"')
        judge_init_container(container, volumes, judge)


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
        judge.closed(
            spec.entries["containers"],
            "multi-container",
            f": multi-container is off, but found {len(containers)} containers",
        )
        return
    names: set[str] = set()
    for container in containers:
        name = fields(container).get("name")
        if name is not None and content(name) in names:
            judge.say(name, "duplicate-item", f'duplicate container name "{content(name)}"')
        names.add(content(name) or f"#{len(names)}")
        sidecar = len(containers) > 1 and not entries(fields(container).get("ports"))
        judge_container(container, volumes, judge, port=port, sidecar=sidecar, merged=merged)


def _judge_ports(spec: Table, containers: Sequence[Node], judge: Judge, *, merged: bool) -> str:
    """One port in all containers; its name, for probes that point at it."""
    ports = [port for c in containers for port in entries(fields(c).get("ports"))]
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
        first = containers[0]
        judge.say(
            first,
            "missing-field",
            f"missing field(s): {where}",
            "Name the port of the container that answers requests.",
            field=where,
        )
    return content(fields(ports[-1]).get("name")) or "http" if ports else "http"
