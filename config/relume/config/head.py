"""Read the head of a manifest: its kind, its name by the rules of Kubernetes, its annotations."""

from collections.abc import Callable

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import (
    CORE_V1,
    KNATIVE_EVENTING_V1,
    KNATIVE_EVENTING_V1ALPHA1,
    KNATIVE_FLOWS_V1,
    KNATIVE_SERVING_V1,
    KNATIVE_SOURCES_V1,
    KSERVE_V1BETA1,
)
from relume.config.fields import Fields, Resource
from relume.config.names import (
    DNS_1035,
    LONGEST_LABEL,
    LONGEST_SUBDOMAIN,
    is_dns1035_label,
    is_dns_label,
    is_subdomain,
)
from relume.config.nodes import Node, Table

API_VERSIONS = {
    "InferenceService": KSERVE_V1BETA1,
    "Broker": KNATIVE_EVENTING_V1,
    "Trigger": KNATIVE_EVENTING_V1,
    "Sequence": KNATIVE_FLOWS_V1,
    "Parallel": KNATIVE_FLOWS_V1,
    "RequestReply": KNATIVE_EVENTING_V1ALPHA1,
    "PingSource": KNATIVE_SOURCES_V1,
    "SinkBinding": KNATIVE_SOURCES_V1,
    "Service": KNATIVE_SERVING_V1,
    "Secret": CORE_V1,
    "ConfigMap": CORE_V1,
}
DEFAULT_NAMESPACE = "default"

_BY_CLUSTER = "a cluster writes it"
TOP = Fields.of("apiVersion kind metadata spec", harmless={_BY_CLUSTER: "status"})
#: Kinds whose reader checks the fields beside apiVersion, kind and metadata itself.
#: Kinds that hold values in the document itself, without a spec.
OBJECTS = ("Secret", "ConfigMap")
METADATA = Fields.of(
    "name namespace annotations",
    harmless={
        "nothing on this machine selects by label": "labels",
        _BY_CLUSTER: """uid resourceVersion generation creationTimestamp deletionTimestamp
        deletionGracePeriodSeconds managedFields ownerReferences finalizers selfLink""",
    },
    refused={"write metadata.name": "generateName"},
)


def read_head(document: Node) -> Resource:
    """Check apiVersion, kind and metadata of a document and begin its resource.

    Of a kind that is not in API_VERSIONS only the kind and the name are read.
    """
    body = document_table(document)
    kind = _kind(body)
    if not _is_run(body, kind):
        return _other_head(body, kind)
    if kind not in OBJECTS:
        TOP.refuse_unknown(body)
    metadata = body.need("metadata", "write metadata.name").table()
    METADATA.refuse_unknown(metadata)
    name_node = metadata.need("name", f"every {kind} needs a name")
    named = _NAMES.get(kind, resource_name)
    resource = Resource(
        kind=kind,
        namespace=_namespace(metadata),
        name=named(name_node),
        origin=name_node.origin,
        body=body,
        annotations=annotations(metadata),
    )
    if kind not in OBJECTS:
        TOP.check(body, resource)
    METADATA.check(metadata, resource)
    if (labels := metadata.get("labels")) is not None:
        labels.table().texts()
    return resource


def _is_run(body: Table, kind: str) -> bool:
    """Whether the kind is one of API_VERSIONS; a Service of Kubernetes itself is not."""
    version = body.get("apiVersion")
    is_core = version is not None and version.text() == CORE_V1
    return kind in API_VERSIONS and not (kind == "Service" and is_core)


def _other_head(body: Table, kind: str) -> Resource:
    node = body.get("metadata")
    metadata = body if node is None else node.table()
    name, namespace = metadata.get("name"), metadata.get("namespace")
    return Resource(
        kind=kind,
        namespace=DEFAULT_NAMESPACE if namespace is None else namespace.text(),
        name="" if name is None else name.text(),
        origin=(name or metadata).origin,
        body=body,
        is_run=False,
    )


def annotations(table: Table) -> dict[str, Node]:
    """The annotations of a table that may have some; every value must be a string."""
    node = table.get("annotations")
    found = dict(node.table()) if node is not None else {}
    for value in found.values():
        value.text()
    return found


def document_table(document: Node) -> Table:
    """The fields of a whole document. Raises InvalidManifest for anything but a table."""
    if isinstance(document, Table):
        return document
    raise InvalidManifest(
        f"a manifest must be a table of fields, not {document.what}",
        file=document.file,
        line=document.line,
        field="manifest",
    )


def _kind(body: Table) -> str:
    if body.get("kind") is None:
        TOP.refuse_unknown(body)
    node = body.need("kind", f"known are {', '.join(API_VERSIONS)}")
    kind = node.filled()
    if not _is_run(body, kind):
        return kind
    version = body.need("apiVersion", f"write {API_VERSIONS[kind]}")
    if version.text() != API_VERSIONS[kind]:
        raise version.wrong(f"{version.text()} is not known for {kind}: write {API_VERSIONS[kind]}")
    return kind


def _namespace(metadata: Table) -> str:
    node = metadata.get("namespace")
    return DEFAULT_NAMESPACE if node is None else namespace_name(node)


PREDICTOR_SUFFIX = "-predictor"


def namespace_name(node: Node) -> str:
    """A namespace: a DNS-1123 label."""
    return _checked(node, is_dns_label, LONGEST_LABEL, "a namespace", "digits and '-'")


def resource_name(node: Node) -> str:
    """A resource of Knative Eventing: a DNS-1123 subdomain."""
    return _checked(node, is_subdomain, LONGEST_SUBDOMAIN, "a name", "digits, '-' and '.'")


def _checked(node: Node, allowed: Callable[[str], bool], most: int, what: str, marks: str) -> str:
    name = node.text()
    if not allowed(name):
        raise node.wrong(
            f"invalid value: {name}: {what} has at most {most} lower case letters, {marks}, and "
            "starts and ends with a letter or digit"
        )
    return name


def service_name(node: Node) -> str:
    """An InferenceService: a DNS-1035 label that still is one with `-predictor` after it.

    KServe admits longer ones, and Knative then refuses the predictor.
    """
    name = node.text()
    if not DNS_1035.fullmatch(name):
        raise node.wrong(
            f"invalid value: {name}: an InferenceService name must consist of lower case letters, "
            "digits and '-', start with a letter and end with a letter or digit"
        )
    if len(name) > LONGEST_LABEL - len(PREDICTOR_SUFFIX):
        raise node.wrong(
            f"invalid value: {name}: not a DNS 1035 label with {PREDICTOR_SUFFIX} after it: "
            f"write at most {LONGEST_LABEL - len(PREDICTOR_SUFFIX)} characters"
        )
    return name


def function_name(node: Node) -> str:
    """A Knative Service, and so a function: a DNS-1035 label."""
    name = node.text()
    if not is_dns1035_label(name):
        raise node.wrong(
            f"invalid value: {name}: a function and its Knative Service have a name of at most "
            f"{LONGEST_LABEL} lower case letters, digits and '-', which starts with a letter and "
            "ends with a letter or digit"
        )
    return name


_NAMES = {"InferenceService": service_name, "Service": function_name}
