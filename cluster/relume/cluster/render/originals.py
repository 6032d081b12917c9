"""The documents as the user wrote them, with all fields and the line of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import KUSTOMIZE_GROUP, JsonValue
from relume.cluster.admission.judge import content
from relume.cluster.schemas import schema
from relume.config.func_yaml import FUNC_YAML
from relume.config.head import DEFAULT_NAMESPACE
from relume.config.loader import kubernetes_documents, manifest_files
from relume.config.nodes import Node, Scalar, Table
from relume.config.yaml_source import plain

BASE = "base"
#: Documents of the whole cluster that pass as they are. They come first: a Namespace is among them.
CLUSTER_WIDE = f"{BASE}/cluster-wide.yaml"
# Paths in a document.
ANNOTATIONS = ("metadata", "annotations")
PREDICTOR = ("spec", "predictor")
MODEL = (*PREDICTOR, "model")
# What a rendering changes, by kind and group of the API; documents of other kinds pass.
_CHANGED: Mapping[str, str] = {
    "InferenceService": "serving.kserve.io",
    "Broker": "eventing.knative.dev",
    "Trigger": "eventing.knative.dev",
    "RequestReply": "eventing.knative.dev",
    "Sequence": "flows.knative.dev",
    "Parallel": "flows.knative.dev",
}
# Kinds without a namespace whose fields Relume does not know.
_CLUSTER_WIDE_KINDS = frozenset(
    (
        "APIService",
        "CertificateSigningRequest",
        "ClusterIssuer",
        "ClusterPolicy",
        "ClusterRole",
        "ClusterRoleBinding",
        "CSIDriver",
        "CustomResourceDefinition",
        "GatewayClass",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "RuntimeClass",
        "StorageClass",
        "ValidatingWebhookConfiguration",
    )
)


@dataclass(frozen=True, slots=True)
class Original:
    """One document; `table` knows the line of every field.

    `written_namespace` is "" where the user wrote none, so that `kubectl -n` still decides.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    table: Table
    written_namespace: str

    @property
    def group(self) -> str:
        """The group of its API, "" for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        return (self.kind, self.namespace, self.name)

    @property
    def of_function(self) -> bool:
        """Whether it is what func makes of a func.yaml, and not a document of its own."""
        return self.table.file.name == FUNC_YAML

    @property
    def changed(self) -> bool:
        """Whether a rendering changes documents of this kind."""
        return _CHANGED.get(self.kind) == self.group

    @property
    def file(self) -> str:
        """Where it goes: a service has a file of its own, the rest of a namespace shares two."""
        if self.changed and self.kind == "InferenceService":
            return f"{BASE}/{self.namespace}/inferenceservice-{self.name}.yaml"
        if self.changed:
            return f"{BASE}/{self.namespace}/eventing.yaml"
        return f"{BASE}/{self.namespace}/others.yaml" if self.namespaced else CLUSTER_WIDE

    @property
    def namespaced(self) -> bool:
        """Whether it lives in a namespace, as far as its kind is known."""
        known = schema(self.api_version, self.kind)
        if known is not None:
            return known.namespaced
        return bool(self.written_namespace) or self.kind not in _CLUSTER_WIDE_KINDS

    def body(self) -> dict[str, JsonValue]:
        """The document as plain values; a field that is null is absent, as for the API."""
        body = plain(self.table)
        assert isinstance(body, dict)
        return body

    def node(self, *path: str) -> Node | None:
        """The field at `path`."""
        here: Node | None = self.table
        for key in path:
            here = here.get(key) if isinstance(here, Table) else None
        return here

    def at(self, *path: str) -> Node:
        """The field at `path`, or the nearest table above it that is there."""
        while path and self.node(*path) is None:
            path = path[:-1]
        return self.node(*path) or self.table


def originals(paths: Sequence[Path]) -> list[Original]:
    """Every document of `paths`, in the order of the files, but those that are for kustomize.

    Raises InvalidManifest for a document that has no kind or no name: kustomize and
    `kubectl apply` find an object by both.
    """
    return [
        _original(table)
        for file in manifest_files(paths)
        for document in kubernetes_documents(file)
        if not content((table := _table(document)).get("apiVersion")).startswith(
            f"{KUSTOMIZE_GROUP}/"
        )
    ]


def _table(document: Node) -> Table:
    if isinstance(document, Table):
        return document
    message = f"a manifest must be a table of fields, not {document.what}"
    raise InvalidManifest(message, file=document.file, line=document.line, field="manifest")


def _original(table: Table) -> Original:
    version = table.need("apiVersion", "write the version of the API").filled()
    kind = table.need("kind", "write the kind of the document").filled()
    metadata = table.need("metadata", "write metadata.name").table()
    if metadata.get("name") is None and (generated := metadata.get("generateName")) is not None:
        raise generated.wrong("kubectl apply and kustomize need a name: write metadata.name")
    namespace = metadata.get("namespace")
    return Original(
        api_version=version,
        kind=kind,
        namespace=DEFAULT_NAMESPACE if namespace is None else namespace.filled(),
        name=metadata.need("name", f"every {kind} needs a name").filled(),
        table=table,
        written_namespace="" if namespace is None else namespace.text(),
    )


def with_model(original: Original) -> Original:
    """The document as KServe reads it: `predictor.huggingface` is a model of that format.

    The fields keep the lines and the paths at which they were written. Source: kserve
    pkg/apis/serving/v1beta1/inference_service_defaults.go, assignHuggingFaceRuntime.
    """
    written = original.node(*PREDICTOR, "huggingface")
    if not isinstance(written, Table) or original.node(*MODEL) is not None:
        return original
    at, line = written.path, written.line
    name = Scalar(written.file, line, f"{at}.modelFormat.name", "string", *2 * ("huggingface",))
    chosen = Table(written.file, line, f"{at}.modelFormat", {"name": name})
    protocol = Scalar(written.file, line, f"{at}.protocolVersion", "string", "v2", "v2")
    asked = written.get("protocolVersion") or protocol
    added = {"modelFormat": chosen, "protocolVersion": asked}
    model = replace(written, entries={**written.entries, **added})
    predictor = original.at(*PREDICTOR).table()
    rest = {key: node for key, node in predictor.entries.items() if key != "huggingface"}
    predictor = replace(predictor, entries={**rest, "model": model})
    spec = original.at("spec").table()
    spec = replace(spec, entries={**spec.entries, "predictor": predictor})
    table = replace(original.table, entries={**original.table.entries, "spec": spec})
    return replace(original, table=table)


def annotated(table: Table, name: str, value: str) -> Table:
    """The document with one annotation set; the other fields keep their lines."""
    metadata = table.need("metadata", "").table()
    found = metadata.get("annotations")
    notes = Table(metadata.file, metadata.line, "metadata.annotations", {})
    notes = notes if found is None else found.table()
    before = notes.entries.get(name) or notes
    node = Scalar(before.file, before.line, f"{notes.path}.{name}", "string", value, value)
    notes = replace(notes, entries={**notes.entries, name: node})
    metadata = replace(metadata, entries={**metadata.entries, "annotations": notes})
    return replace(table, entries={**table.entries, "metadata": metadata})
