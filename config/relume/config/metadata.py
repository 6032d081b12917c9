"""The head of every manifest: which kind it is, its name, its annotations."""

from relume.base.errors import InvalidManifest
from relume.config.fields import Fields, Resource, did_you_mean
from relume.config.names import namespace_name, resource_name, service_name
from relume.config.nodes import Node, Table

API_VERSIONS = {
    "InferenceService": "serving.kserve.io/v1beta1",
    "Broker": "eventing.knative.dev/v1",
    "Trigger": "eventing.knative.dev/v1",
}
DEFAULT_NAMESPACE = "default"

_BY_CLUSTER = "a cluster writes it"
TOP = Fields(
    honoured=frozenset({"apiVersion", "kind", "metadata", "spec"}),
    harmless={"status": _BY_CLUSTER},
)
METADATA = Fields(
    honoured=frozenset({"name", "namespace", "annotations"}),
    harmless={
        "labels": "nothing on this machine selects by label",
        **dict.fromkeys(
            (
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
                "ownerReferences",
                "finalizers",
                "selfLink",
            ),
            _BY_CLUSTER,
        ),
    },
    refused={"generateName": "write metadata.name"},
)


def read_head(document: Node) -> Resource:
    """Check apiVersion, kind and metadata of a document and begin its resource."""
    body = _document(document)
    kind = _kind(body)
    TOP.refuse_unknown(body)
    metadata = body.need("metadata", "write metadata.name").table()
    METADATA.refuse_unknown(metadata)
    name_node = metadata.need("name", f"every {kind} needs a name")
    named = service_name if kind == "InferenceService" else resource_name
    resource = Resource(
        kind=kind,
        namespace=_namespace(metadata),
        name=named(name_node),
        origin=name_node.origin,
        body=body,
        annotations=annotations(metadata),
    )
    TOP.check(body, resource)
    METADATA.check(metadata, resource)
    if (labels := metadata.get("labels")) is not None:
        labels.table().texts()
    return resource


def annotations(table: Table) -> dict[str, Node]:
    """The annotations of a table that may have some; every value must be a string."""
    node = table.get("annotations")
    found = dict(node.table()) if node is not None else {}
    for value in found.values():
        value.text()
    return found


def _document(document: Node) -> Table:
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
    kind = node.text()
    if kind not in API_VERSIONS:
        known = ", ".join(API_VERSIONS)
        hint = did_you_mean(kind, API_VERSIONS)
        raise node.wrong(f"{kind} is not run on this machine: known kinds are {known}{hint}")
    version = body.need("apiVersion", f"write {API_VERSIONS[kind]}")
    if version.text() != API_VERSIONS[kind]:
        raise version.wrong(f"{version.text()} is not known for {kind}: write {API_VERSIONS[kind]}")
    return kind


def _namespace(metadata: Table) -> str:
    node = metadata.get("namespace")
    return DEFAULT_NAMESPACE if node is None else namespace_name(node)
