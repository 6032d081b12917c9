"""The documents as the user wrote them, with all fields and the line of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relume.base.vocabulary import JsonValue
from relume.config.head import DEFAULT_NAMESPACE
from relume.config.loader import kubernetes_documents, manifest_files
from relume.config.nodes import Node, Table
from relume.config.yaml_source import plain

BASE = "base"
# Paths in a document.
ANNOTATIONS = ("metadata", "annotations")
PREDICTOR = ("spec", "predictor")
MODEL = (*PREDICTOR, "model")


@dataclass(frozen=True, slots=True)
class Original:
    """One document; `table` knows the line of every field.

    `written_namespace` is "" where the user wrote none, so that `kubectl -n` still decides.
    """

    kind: str
    namespace: str
    name: str
    table: Table
    written_namespace: str

    @property
    def file(self) -> str:
        """Where it goes: a service has a file of its own, the rest of a namespace shares one."""
        if self.kind == "InferenceService":
            return f"{BASE}/{self.namespace}/inferenceservice-{self.name}.yaml"
        if self.kind == "Service":
            return f"{BASE}/{self.namespace}/service-{self.name}.yaml"
        if self.kind in ("Secret", "ConfigMap"):
            return f"{BASE}/{self.namespace}/objects.yaml"
        return f"{BASE}/{self.namespace}/eventing.yaml"

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
    """Every document of `paths`, in the order of the files; they have passed `load` before."""
    return [
        _original(document.table())
        for file in manifest_files(paths)
        for document in kubernetes_documents(file)
    ]


def _original(table: Table) -> Original:
    metadata = table.need("metadata", "").table()
    namespace = metadata.get("namespace")
    return Original(
        kind=table.need("kind", "").text(),
        namespace=DEFAULT_NAMESPACE if namespace is None else namespace.text(),
        name=metadata.need("name", "").text(),
        table=table,
        written_namespace="" if namespace is None else namespace.text(),
    )
