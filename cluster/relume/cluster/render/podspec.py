"""Which fields of a predictor Knative takes: always, with a feature flag, or never.

Source: knative/serving pkg/apis/serving/fieldmask.go and pkg/apis/config/features.go. KServe copies
the fields into the Knative Service, which Knative refuses if it does not take one of them. That
happens when KServe's controller writes it, long after the InferenceService was admitted.
"""

from collections.abc import Mapping

from relume.cluster.admission.revision_containers import security_fields
from relume.cluster.admission.revision_pods import FLAGS
from relume.cluster.render.draft import Book, Setting
from relume.cluster.render.originals import MODEL, PREDICTOR, Original
from relume.cluster.render.runtimes import PORT
from relume.config.nodes import Node, Table

_FEATURES = "config-features"

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
    predictor = original.at(*PREDICTOR).table()
    for name, node in predictor:
        if name in _NEVER:
            raise node.wrong(f"cannot work in Knative mode: {_NEVER[name]}")
        if name in FLAGS:
            why = f"InferenceService {original.namespace}/{original.name} sets {node.path}"
            flag, _ = FLAGS[name]
            book.need(Setting(_FEATURES, flag, "enabled", why))
    _check_container(predictor.need("model", "").table(), original, book)


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
