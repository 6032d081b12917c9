"""Server-side apply and removal of single documents."""

from collections.abc import Mapping
from dataclasses import dataclass

from relume.cluster.apply.api import Answer, ClusterApi, Json
from relume.cluster.apply.manifests import Manifest
from relume.cluster.apply.parts import objects, text
from relume.cluster.render.book import LABELS

#: Owns, for the API server, the fields that we apply.
FIELD_MANAGER = "relume"
_APPLY = "application/apply-patch+yaml"
_IDENTITY = {"apiVersion", "kind"}
_IDENTITY_OF_METADATA = {"name", "namespace"}


@dataclass(frozen=True, slots=True)
class Resource:
    """How the API server names a kind in URLs."""

    api_version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        """The path of a collection, or of one object of it."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{self.api_version}{place}/{self.plural}{'/' + name if name else ''}"


class Writer:
    """Writes documents to one cluster. Those without a namespace go into `namespace`."""

    def __init__(self, api: ClusterApi, namespace: str, *, force: bool = False) -> None:
        self.api = api
        self.namespace = namespace
        self._force = force
        self._served: dict[str, dict[str, Resource]] = {}

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """How the cluster serves a kind; None where it does not."""
        if api_version not in self._served:
            root = "/apis/" if "/" in api_version else "/api/"
            found = self.api.get(root + api_version)
            self._served[api_version] = {
                text(one, "kind"): Resource(api_version, text(one, "name"), bool(one["namespaced"]))
                for one in objects(found, "resources")
                if "/" not in text(one, "name")
            }
        return self._served[api_version].get(kind)

    def placed(self, manifest: Manifest) -> Manifest:
        """The document with its namespace written in; cluster-wide ones have none."""
        found = self.resource(manifest.api_version, manifest.kind)
        if found is None or not found.namespaced or manifest.namespace:
            return manifest
        metadata = manifest.body.get("metadata")
        named = dict(metadata) if isinstance(metadata, Mapping) else {}
        body = {**manifest.body, "metadata": {**named, "namespace": self.namespace}}
        return Manifest(body, manifest.file, manifest.document)

    def path(self, manifest: Manifest) -> str | None:
        """Where the document lives; None where its kind is not served."""
        found = self.resource(manifest.api_version, manifest.kind)
        if found is None:
            return None
        return found.path(manifest.namespace or self.namespace, manifest.name)

    def apply(self, manifest: Manifest, *, dry_run: bool) -> Answer:
        """Server-side apply with strict validation. A kind that is not served is a 404."""
        path = self.path(manifest)
        if path is None:
            return Answer(404, {"message": f"the cluster does not serve {manifest.api_version}"})
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if self._force:
            query["force"] = "true"
        if dry_run:
            query["dryRun"] = "All"
        return self.api.change("PATCH", path, _traceable(manifest.body), _APPLY, **query)

    def read(self, manifest: Manifest) -> Json | None:
        """The object as it is on the cluster."""
        path = self.path(manifest)
        return None if path is None else self.api.get(path)

    def remove(self, manifest: Manifest, uid: str) -> Answer:
        """Delete the object with that uid, and then what it owns."""
        path = self.path(manifest)
        assert path is not None, "it was read from there"
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        return self.api.change("DELETE", path, options)


def _traceable(body: Json) -> Json:
    """The body, with a label where it has no field that could be ours.

    managedFields list the owners of fields: a Broker of nothing but its name would have none, and
    could not be told from somebody else's.
    """
    metadata = body.get("metadata")
    named = dict(metadata) if isinstance(metadata, Mapping) else {}
    if body.keys() - _IDENTITY - {"metadata"} or named.keys() - _IDENTITY_OF_METADATA:
        return body
    return {**body, "metadata": {**named, "labels": LABELS}}


def own_fields(found: Json) -> list[Json]:
    """What an object's managedFields say of our applying."""
    return [
        one
        for one in objects(found, "metadata", "managedFields")
        if text(one, "manager") == FIELD_MANAGER and text(one, "operation") == "Apply"
    ]


def ours(found: Json) -> bool:
    """Whether an object was applied by us."""
    return bool(own_fields(found))
