"""Which fields of a predictor Knative takes: always, with a feature flag, or never.

Source: knative/serving pkg/apis/serving/fieldmask.go and pkg/apis/config/features.go. KServe copies
the fields into the Knative Service, which Knative refuses if it does not take one of them. That
happens when KServe's controller writes it, long after the InferenceService was admitted.
"""

from collections.abc import Mapping
from pathlib import Path

from relume.base.errors import InvalidManifest
from relume.cluster.admission import SHIPPED, Cluster
from relume.cluster.admission.annotations import judge_template
from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.revision_containers import security_fields
from relume.cluster.admission.revision_pods import FLAGS, VOLUME_FLAGS
from relume.cluster.claims.workloads import COMPONENTS
from relume.cluster.render.draft import Book, Setting
from relume.cluster.render.originals import MODEL, PREDICTOR, Original
from relume.cluster.render.runtimes import PORT
from relume.config.autoscaling import MAX_SCALE, MIN_SCALE
from relume.config.nodes import Node, Table

_FEATURES = "config-features"
_FIELD_REFERENCES = "kubernetes.podspec-fieldref"

_CLAIMS = (
    "Knative has no field for claims: it would be pruned silently and the service would become "
    "ready without a device; ask in model.resources.limits, or write --dra standard"
)
_NEVER: Mapping[str, str] = {
    "resourceClaims": _CLAIMS,
    "terminationGracePeriodSeconds": "Knative sets the grace period to the timeout",
    **dict.fromkeys(
        (
            "activeDeadlineSeconds",
            "hostUsers",
            "hostname",
            "hostnameOverride",
            "nodeName",
            "os",
            "overhead",
            "preemptionPolicy",
            "priority",
            "readinessGates",
            "resources",
            "restartPolicy",
            "schedulingGates",
            "serviceAccount",
            "setHostnameAsFQDN",
            "subdomain",
        ),
        "Knative has no such field: remove it, or write --dra standard",
    ),
}
_NEVER_IN_CONTAINER = (
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "stdin",
    "stdinOnce",
    "tty",
)


def check_fields(original: Original, book: Book) -> None:
    """Refuse what Knative has no field for; ask for the flags of what it takes behind one."""
    for component in COMPONENTS:
        table = original.node("spec", component)
        for name, node in table if isinstance(table, Table) else ():
            _check_field(name, node, original, book)
    for stored in entries(original.node(*PREDICTOR, "storageUris")):
        # KServe writes the volumes and the downloads of these into the Knative Service itself.
        scheme = content(stored, "uri").partition("://")[0]
        if scheme == "pvc":
            _need(VOLUME_FLAGS["persistentVolumeClaim"][0], stored, original, book)
        elif scheme.partition("+")[0] != "oci":
            _need(FLAGS["initContainers"][0], stored, original, book)
    _check_container(original.at(*MODEL).table(), original, book)


def _check_field(name: str, node: Node, original: Original, book: Book) -> None:
    if name in _NEVER:
        raise node.wrong(f"cannot work in Knative mode: {_NEVER[name]}")
    if name in FLAGS:
        _need(FLAGS[name][0], node, original, book)
    if name == "volumes":
        for volume in entries(node):
            for kind, inside in fields(volume).items():
                if kind in VOLUME_FLAGS:
                    _need(VOLUME_FLAGS[kind][0], inside, original, book)


def _need(flag: str, node: Node, original: Original, book: Book) -> None:
    """Ask for a feature flag, unless a cluster has it on as it is shipped."""
    why = f"InferenceService {original.namespace}/{original.name} sets {node.path}"
    if not SHIPPED.enabled(flag):
        book.need(Setting(_FEATURES, flag, "enabled", why))


def check_annotations(annotations: Mapping[str, Node], file: Path) -> None:
    """Raise InvalidManifest for an annotation that Knative refuses on a revision.

    The replicas are left out, because KServe writes those from its own fields.
    """
    judge = Judge(Cluster({"allow-zero-initial-scale": "true"}))
    kept = {key: node for key, node in annotations.items() if key not in (MIN_SCALE, MAX_SCALE)}
    judge_template(kept, judge)
    for finding in judge.found:
        if finding.effect == "refused":
            place = finding.file or file
            line, field = finding.line or 1, finding.field
            raise InvalidManifest(finding.message, file=place, line=line, field=field)


def _check_container(model: Table, original: Original, book: Book) -> None:
    for name in _NEVER_IN_CONTAINER:
        if (node := model.get(name)) is not None:
            raise node.wrong("cannot work in Knative mode: Knative has no such field")
    claims = original.node(*MODEL, "resources", "claims")
    if claims is not None:
        raise claims.wrong(f"cannot work in Knative mode: {_CLAIMS}")
    for item in ports.items() if (ports := model.get("ports")) is not None else ():
        port = item.table().get("containerPort")
        if port is None or port.integer() != PORT:
            raise item.wrong(
                f"cannot work in Knative mode: one port is served, and the runtime's is {PORT}"
            )
    for variable in entries(model, "env"):
        if (chosen := child(variable, "valueFrom", "fieldRef")) is not None:
            _need(_FIELD_REFERENCES, chosen, original, book)
    if (context := model.get("securityContext")) is not None:
        _check_security(context.table(), original, book)


def _check_security(context: Table, original: Original, book: Book) -> None:
    for name, node in context:
        if name not in security_fields():
            raise node.wrong("cannot work in Knative mode: Knative has no such field")
    if _adds_capabilities(context.get("capabilities")):
        why = f"InferenceService {original.namespace}/{original.name} adds capabilities"
        key = "kubernetes.containerspec-addcapabilities"
        book.need(Setting(_FEATURES, key, "enabled", why))


def _adds_capabilities(node: Node | None) -> bool:
    return node is not None and node.table().get("add") is not None
