"""Find the model of a predictor: storageUri, storageUris, or the arguments that name it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from relume.base.home import NoHome, expanded
from relume.config.arguments import Argument
from relume.config.fields import Fields, Resource
from relume.config.nodes import Node, Table
from relume.config.resources import MODELS_FOLDER, Mount, Origin
from relume.config.translation import Translation

# What KServe's storage package downloads; the others need a cluster.
STORAGE_SCHEMES = (
    *("hf", "s3", "gs", "hdfs", "webhdfs", "http", "https", "modelscope", "oci", "file"),
)
CLUSTER_SCHEMES = ("oci+native", "oci+modelcar", "oci+fetch")
STORAGE_URI = Fields.of("uri mountPath")
_EXAMPLE = "name the model, as in hf://HuggingFaceTB/SmolLM2-135M-Instruct"
_DEFAULT_REVISION = "main"  # of a repository on the Hugging Face Hub


@dataclass(frozen=True, slots=True)
class Storage:
    """The model's URI and the folder in it that is served; `mounts` are further folders.

    `uri` is "" where no model is named, which the resource's `cannot` tells then.
    """

    uri: str
    origin: Origin
    folder: str = ""
    mounts: tuple[Mount, ...] = ()


def read_storage(model: Table, predictor: Table, said: Translation, resource: Resource) -> Storage:
    """The model of `spec.predictor`; `said` is what its arguments say of it."""
    stored = _stored(model, predictor, resource)
    if (chosen := uri_in_arguments(said, resource, stored=bool(stored))) is not None:
        uri, origin = chosen
        for mount, at in stored:
            if mount.uri != uri and said.model_id is not None:
                resource.note(at, f"--model_id={said.model_id.shown} is served instead")
        return Storage(_checked(uri, origin, resource), origin)
    named = said.model_dir
    if not stored:
        why = f"is missing: {_EXAMPLE}"
        resource.cannot_run(model.place_of("storageUri"), why)
        return Storage("", model.place_of("storageUri"))
    served = MODELS_FOLDER if named is None else named.text
    place, origin = _holding(served, stored)
    if place is None:
        if named is not None:
            why = f"no model is at {named.shown}: it must be {MODELS_FOLDER} or a folder below"
            resource.cannot_run(named.origin, why)
        place, origin = stored[0]
    uri = with_revision(place.uri, said.revision, resource)
    folder = PurePosixPath(served)
    inside = folder.relative_to(place.path) if folder.is_relative_to(place.path) else ""
    mounts = tuple(mount for mount, _ in stored if len(stored) > 1)
    if len(stored) > 1 and named is None:
        _tell_choice(place, stored, resource)
    return Storage(uri, origin, "" if str(inside) == "." else str(inside), mounts)


Placed = tuple[Mount, Origin]


def _stored(model: Table, predictor: Table, resource: Resource) -> list[Placed]:
    """Every URI of the predictor with the place at which KServe puts its files."""
    single, several = model.get("storageUri"), predictor.get("storageUris")
    if single is not None and several is not None:
        raise several.wrong("write storageUri or storageUris, not both")
    if single is not None:
        return [(Mount(MODELS_FOLDER, read_uri(single, resource)), single.origin)]
    found: list[Placed] = []
    for item in several.items() if several is not None else ():
        table = item.table()
        STORAGE_URI.check(table, resource)
        uri = table.need("uri", _EXAMPLE)
        path = table.get("mountPath")
        where = MODELS_FOLDER if path is None else path.filled()
        if path is not None and (not where.startswith("/") or where == "/"):
            raise path.wrong(f"invalid value: {where}: write an absolute path that is not /")
        found.append((Mount(where, read_uri(uri, resource)), uri.origin))
    if several is not None and not found:
        raise several.wrong("must name at least one URI")
    return found


def _holding(path: str, stored: Sequence[Placed]) -> tuple[Mount | None, Origin]:
    """The innermost place that holds `path`."""
    wanted = PurePosixPath(path)
    holding = [(m, o) for m, o in stored if wanted.is_relative_to(m.path)]
    if not holding:
        return None, stored[0][1]
    return max(holding, key=lambda placed: len(PurePosixPath(placed[0].path).parts))


def _tell_choice(served: Mount, stored: Sequence[Placed], resource: Resource) -> None:
    for mount, origin in stored:
        if mount is not served:
            resource.note(
                origin,
                f"the model at {served.path} is served; arguments may name {mount.path}, and "
                f"--model_dir={mount.path} serves this one",
            )


def uri_in_arguments(
    said: Translation, resource: Resource, *, stored: bool
) -> tuple[str, Origin] | None:
    """The URI of a model that arguments name: `stored` says whether other fields name one too.

    KServe's server takes --model_id before any storageUri, and a URI in --model_dir after it.
    """
    if (hub := said.model_id) is not None:
        return with_revision(f"hf://{hub.text}", said.revision, resource), hub.origin
    folder = said.model_dir
    if folder is not None and "://" in folder.text and not stored:
        return folder.text, folder.origin
    return None


def with_revision(uri: str, revision: Argument | None, resource: Resource) -> str:
    """The URI of that revision, as KServe's storage package takes it: hf://OWNER/NAME:REVISION."""
    if revision is None or revision.text == _DEFAULT_REVISION:
        return uri
    if uri.startswith("hf://") and ":" not in uri.removeprefix("hf://"):
        return f"{uri}:{revision.text}"
    resource.note(revision.origin, "a revision chooses nothing where storageUri names the files")
    return uri


def read_uri(node: Node, resource: Resource) -> str:
    """The URI as it is written; a relative path starts at the manifest's folder."""
    uri = node.filled()
    if "://" in uri:
        return _checked(uri, node.origin, resource)
    try:
        return str(Path(node.file).absolute().parent / expanded(uri))
    except NoHome as error:
        raise node.wrong(str(error)) from None


def _checked(uri: str, origin: Origin, resource: Resource) -> str:
    """The URI, with a claim's folder in its place; noted where this machine cannot use it."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        resource.cannot_run(origin, f"invalid value: {uri}: {error}")
        return ""
    if not parts.netloc + parts.path.strip("/") or uri != uri.strip():
        resource.cannot_run(origin, f"invalid value: {uri}: it names no model")
    elif parts.scheme == "pvc":
        return _in_claim(parts.netloc, parts.path, uri, origin, resource)
    elif parts.scheme in CLUSTER_SCHEMES:
        resource.cannot_run(
            origin, f"not honoured on this machine: {parts.scheme}:// needs a cluster: write oci://"
        )
    elif parts.scheme not in STORAGE_SCHEMES:
        known = ", ".join(STORAGE_SCHEMES)
        resource.cannot_run(origin, f"invalid value: {uri}: known schemes are {known}")
    return uri


def _in_claim(claim: str, path: str, uri: str, origin: Origin, resource: Resource) -> str:
    folder = resource.here.folder_of(resource.namespace, claim)
    if folder is not None:
        return str(folder.absolute() / path.strip("/"))
    resource.cannot_run(
        origin,
        f"not honoured on this machine: {uri}: pvc:// needs a cluster, or a folder that stands for "
        f"the claim: --volume {claim}=DIR",
    )
    return uri
