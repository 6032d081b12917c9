"""The documents that are applied: where they come from, how each is written, what is refused.

They are rendered here, or read from a folder that was rendered before. Writing is a server-side
apply.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from relume.base.errors import InvalidInput, RelumeError
from relume.base.vocabulary import KSERVE_V1ALPHA1, Json
from relume.cluster.admission.runtime_choice import (
    CLUSTER_KIND,
    NAMESPACE_KIND,
    RuntimeFacts,
    clash,
    facts_of,
)
from relume.cluster.apply.api import ApiAnswer, ClusterApi, objects, text
from relume.cluster.claims.documents import Document, read
from relume.cluster.claims.yaml_files import KubernetesLoader
from relume.cluster.render import Note, Options, Rendering, render
from relume.cluster.render.draft import LABELS
from relume.cluster.render.folder import base_files, cluster_files, is_rendered
from relume.config.loader import manifest_files

_BUILD = ("Kustomization", "Component")
CLASH_FIX = "give the format another priority, or none"

# Each kind comes after those that it needs.
_ORDER = (
    ("Namespace",),
    ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    ("ConfigMap", "Secret", "RabbitmqBrokerConfig"),
    ("DeviceClass",),
    ("ResourceClaim", "ResourceClaimTemplate"),
    ("MutatingAdmissionPolicy",),
    ("MutatingAdmissionPolicyBinding",),
    ("ClusterServingRuntime", "ServingRuntime"),
    ("InferenceService",),
    ("Broker",),
    ("Trigger",),
)
_RANKS = {kind: rank for rank, kinds in enumerate(_ORDER) for kind in kinds}
SERVICES = _RANKS["InferenceService"]


@dataclass(frozen=True, slots=True)
class ClusterManifest:
    """One document to apply. `document` knows its lines, if it was read from a file."""

    body: Mapping[str, object]
    file: str
    document: Document | None = None

    @property
    def api_version(self) -> str:
        return text(self.body, "apiVersion")

    @property
    def kind(self) -> str:
        return text(self.body, "kind")

    @property
    def name(self) -> str:
        return text(self.body, "metadata", "name")

    @property
    def namespace(self) -> str:
        """The namespace that it names, "" where it names none."""
        return text(self.body, "metadata", "namespace")

    @property
    def rank(self) -> int:
        """Its place in the order of `in_order`."""
        return _RANKS.get(self.kind, len(_ORDER))

    @property
    def title(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """All documents in the order of `in_order`, and the patches that are for the administrator."""

    manifests: tuple[ClusterManifest, ...]
    patches: tuple[ClusterManifest, ...] = ()
    notes: tuple[Note, ...] = ()


def in_order(manifests: Iterable[ClusterManifest]) -> tuple[ClusterManifest, ...]:
    """Namespaces, then what others refer to, policies, runtimes, services, events, the rest."""
    return tuple(sorted(manifests, key=lambda one: one.rank))


def read_source(paths: Sequence[Path], options: Options, *, as_is: bool = False) -> Source:
    """What to apply for `paths`.

    A folder that `relume render` made is taken as it is, with the documents that somebody added to
    its base. Anything else is rendered first, unless `as_is`. Raises InvalidInput for what cannot
    be read, or is not an object.
    """
    folders = [path for path in paths if is_rendered(path)]
    if folders and len(folders) < len(paths):
        raise InvalidInput(f"{folders[0]} is rendered already: apply it by itself")
    if folders:
        found = [one for folder in folders for one in _documents(base_files(folder))]
        patches = [one for folder in folders for one in _documents(cluster_files(folder))]
        return Source(in_order(found), tuple(patches))
    if as_is:
        return Source(in_order(_documents(manifest_files(paths))))
    return _of_rendering(render(paths, options))


def _of_rendering(rendering: Rendering) -> Source:
    base = [
        ClusterManifest(body, file)
        for file, bodies in rendering.documents.items()
        if file.startswith("base/")
        for body in bodies
        if body["kind"] not in _BUILD
    ]
    patches = [
        ClusterManifest(yaml.load(content, KubernetesLoader), file)
        for file, content in rendering.files.items()
        if file.startswith("cluster/")
    ]
    return Source(in_order(base), tuple(patches), rendering.notes)


def _documents(files: Iterable[Path]) -> Iterator[ClusterManifest]:
    for file in sorted(files):
        for document in read(file):
            if document.kind in _BUILD:
                continue
            manifest = ClusterManifest(document.data, f"{file}:{document.line(())}", document)
            for name in ("apiVersion", "kind"):
                if not text(manifest.body, name):
                    raise document.wrong((), f"{name} is missing")
            if not manifest.name:
                raise document.wrong(("metadata",), "metadata.name is missing")
            yield manifest


#: Owns, for the API server, the fields that we apply.
FIELD_MANAGER = "relume"
_APPLY = "application/apply-patch+yaml"
_IDENTITY = {"apiVersion", "kind"}
_IDENTITY_OF_METADATA = {"name", "namespace"}


@dataclass(frozen=True, slots=True)
class ServedKind:
    """How the API server names a kind in URLs."""

    api_version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        """The path of a collection, or of one object of it."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{self.api_version}{place}/{self.plural}{'/' + name if name else ''}"


class ClusterWriter:
    """Writes documents to one cluster; those that name no namespace go into `namespace`."""

    def __init__(self, api: ClusterApi, namespace: str, *, force: bool = False) -> None:
        self.api = api
        self.namespace = namespace
        self._force = force
        self._served: dict[str, dict[str, ServedKind]] = {}

    def resource(self, api_version: str, kind: str) -> ServedKind | None:
        """How the cluster serves a kind; None where it does not."""
        if api_version not in self._served:
            root = "/apis/" if "/" in api_version else "/api/"
            found = self.api.get(root + api_version)
            self._served[api_version] = {
                text(one, "kind"): ServedKind(
                    api_version, text(one, "name"), bool(one["namespaced"])
                )
                for one in objects(found, "resources")
                if "/" not in text(one, "name")
            }
        return self._served[api_version].get(kind)

    def placed(self, manifest: ClusterManifest) -> ClusterManifest:
        """The document with its namespace written in; cluster-wide ones have none."""
        found = self.resource(manifest.api_version, manifest.kind)
        if found is None or not found.namespaced or manifest.namespace:
            return manifest
        metadata = manifest.body.get("metadata")
        named = dict(metadata) if isinstance(metadata, Mapping) else {}
        body = {**manifest.body, "metadata": {**named, "namespace": self.namespace}}
        return ClusterManifest(body, manifest.file, manifest.document)

    def path(self, manifest: ClusterManifest) -> str | None:
        """Where the document lives; None where its kind is not served."""
        found = self.resource(manifest.api_version, manifest.kind)
        if found is None:
            return None
        return found.path(manifest.namespace or self.namespace, manifest.name)

    def apply(self, manifest: ClusterManifest, *, dry_run: bool) -> ApiAnswer:
        """Server-side apply with strict validation. A kind that is not served is a 404."""
        path = self.path(manifest)
        if path is None:
            return ApiAnswer(404, {"message": f"the cluster does not serve {manifest.api_version}"})
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if self._force:
            query["force"] = "true"
        if dry_run:
            query["dryRun"] = "All"
        return self.api.change("PATCH", path, _traceable(manifest.body), _APPLY, **query)

    def read(self, manifest: ClusterManifest) -> Json | None:
        """The object as it is on the cluster."""
        path = self.path(manifest)
        return None if path is None else self.api.get(path)

    def remove(self, manifest: ClusterManifest, uid: str) -> ApiAnswer:
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
    """The body, with a label where it has no field that we could own.

    managedFields list the owners of fields. A Broker with nothing but a name would have no owner,
    so that nobody could tell who applied it.
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


# How a refusal names the field, first in the words of server-side apply itself.
_FIELDS = (
    re.compile(r"(?:^|: |, )\.([A-Za-z][^\s:]*): field not declared in schema"),
    re.compile(r'unknown field "([^"]+)"'),
    re.compile(r"must not set the field\(s\): ([^\s,]+)"),
    re.compile(r"[:,] ((?:spec|metadata)\.[^\s,:]+)"),
    re.compile(r"\b((?:spec|metadata)\.[A-Za-z][\w.\[\]/-]*)"),
)
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MOST = 600  # characters of a server's message


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that the server refuses; `field` is "" where the server names none."""

    manifest: ClusterManifest
    field: str
    message: str

    @property
    def place(self) -> str:
        """The file, and the line of the field where it is known."""
        document = self.manifest.document
        if document is None:
            return self.manifest.file
        path = tuple(int(n) if n else name for name, n in _STEP.findall(self.field))
        return f"{document.file}:{document.line(path)}"

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.place}: {self.manifest.title}: {field}{self.message}"


def runtimes_there(api: ClusterApi, namespaces: Iterable[str]) -> list[RuntimeFacts]:
    """The runtimes of the cluster, and those of `namespaces`. Raises Forbidden."""
    root = f"/apis/{KSERVE_V1ALPHA1}"
    kinds = {f"{root}/clusterservingruntimes": CLUSTER_KIND}
    for name in namespaces:
        kinds[f"{root}/namespaces/{name}/servingruntimes"] = NAMESPACE_KIND
    return [
        facts_of({**one, "kind": kind})
        for path, kind in kinds.items()
        for one in api.list(path) or ()
    ]


def clashes(api: ClusterApi, manifests: Sequence[ClusterManifest]) -> Iterator[Refusal]:
    """Runtimes that the cluster refuses beside its own, or beside another one of `manifests`."""
    runtimes = [
        (one, facts_of(one.body)) for one in manifests if one.kind in (CLUSTER_KIND, NAMESPACE_KIND)
    ]
    if not runtimes:
        return
    names = {(facts.namespace, facts.name) for _, facts in runtimes}
    there = runtimes_there(api, {facts.namespace for _, facts in runtimes if facts.namespace})
    before = [one for one in there if (one.namespace, one.name) not in names]
    for manifest, facts in runtimes:
        for other in before:
            message = clash(facts, other)
            if message is not None:
                yield Refusal(manifest, "spec.supportedModelFormats", f"{message}: {CLASH_FIX}")
        before.append(facts)


class NotApplied(RelumeError):
    """Documents were refused. `applied` are those that were applied before."""

    reason = "not-applied"

    def __init__(
        self, refusals: tuple[Refusal, ...], applied: tuple[ClusterManifest, ...] = ()
    ) -> None:
        self.refusals, self.applied = refusals, applied
        lines = "\n  ".join(str(one) for one in refusals)
        done = ", ".join(one.title for one in applied)
        told = f"; applied before: {done}" if done else "; nothing was applied"
        super().__init__(f"refused by the cluster{told}\n  {lines}")


def refusal(manifest: ClusterManifest, answer: ApiAnswer) -> Refusal:
    """The refusal that an answer is."""
    message = " ".join(answer.message.split())[:_MOST]
    causes = [text(one, "field") for one in objects(answer.body, "details", "causes")]
    field = next((cause for cause in causes if cause), "")
    if answer.code == 409 and field:
        message += ": --force-conflicts takes the field over"
    for pattern in _FIELDS:
        if not field and (found := pattern.search(message)):
            field = found[1].rstrip(".")
    return Refusal(manifest, field.removeprefix("."), message)
