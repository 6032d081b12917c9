"""Arguments written for KServe's Hugging Face server, as the vLLM of Relume's runtime takes them.

What each one means is decided in `relume.config.translation`, for one machine and a cluster alike.
A cluster fills in templates and $(NAME) itself, so that they stay as they are.
"""

from dataclasses import dataclass

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import SHARE
from relume.cluster.admission.judge import content
from relume.cluster.render import rules
from relume.cluster.render.draft import Book, Draft, Note
from relume.cluster.render.originals import ANNOTATIONS, MODEL, Original
from relume.config.arguments import written_arguments
from relume.config.fields import Resource
from relume.config.storage import uri_in_arguments, with_revision
from relume.config.translation import Translation, translate

_OWN_NAME = "{{.Name}}"  # KServe fills it in: the name of the InferenceService


@dataclass(frozen=True, slots=True)
class ReadArguments:
    """A translation, and the document as which `relume.config` reads it."""

    said: Translation
    resource: Resource

    def uri(self, *, stored: bool) -> str | None:
        """The URI of the model that the arguments name, None where they name none."""
        found = uri_in_arguments(self.said, self.resource, stored=stored)
        return None if found is None else found[0]


def read_arguments(original: Original) -> ReadArguments:
    """The arguments of `spec.predictor.model`, which has been admitted.

    They are always judged by the table of vLLM's flags: it is of the release that is in the
    runtime's image, whatever is installed here.
    """
    origin = original.at("metadata", "name").origin
    resource = Resource(original.kind, original.namespace, original.name, origin, original.table)
    words = written_arguments(original.node(*MODEL, "args"), resource)
    return ReadArguments(translate(words, check=True), resource)


def translate_arguments(draft: Draft, original: Original, book: Book) -> None:
    """Write the arguments of the draft's model for vLLM, and the URI that they name.

    Raises InvalidManifest for the first argument that vLLM would end with.
    """
    read = read_arguments(original)
    said, resource = read.said, read.resource
    for one in said.objections:
        at = one.word.origin
        if one.kind == "wrong":
            raise InvalidManifest(str(one), file=at.file, line=at.line, field=at.field)
        if one.is_harmless:
            resource.note(at, str(one))
    _tell_preload(said, original, resource)
    _write_arguments(draft, said, original.name)
    _write_uri(draft, read)
    for left in resource.left:
        book.tell(Note(left.file, left.line, left.field, left.why))


def _tell_preload(said: Translation, original: Original, resource: Resource) -> None:
    """Say that a pod with a device of its own finds no weights of `vllm preload` there.

    Its daemon hands weights out by CUDA IPC, and so must see the same device (vLLM 0.31).
    """
    share = content(original.node(*ANNOTATIONS, SHARE)) or ""
    if "claim=" in share:
        return
    before = ""
    for word in said.words:
        if word.text.replace("=", " ").split() == ["--load-format", "ipc_cache"] or (
            before == "--load-format" and word.text == "ipc_cache"
        ):
            resource.note(
                word.origin,
                "ipc_cache takes weights from the daemon of vllm preload on the same device, and "
                "the claim of this pod gives it a device that no other pod sees: share one claim "
                f"with the daemon ({SHARE}: claim=NAME), or remove the flag",
            )
        before = word.text


def _write_arguments(draft: Draft, said: Translation, name: str) -> None:
    said.names = [one for one in said.names if one != name]
    arguments = said.arguments(_OWN_NAME)
    path = (*MODEL, "args")
    if arguments == (draft.get(*path) or []):
        return
    if not arguments:
        draft.remove(path, rules.KSERVE_FLAGS)
        return
    reason = "a further name in requests; the first is the service's own" if said.names else ""
    draft.set(path, [*arguments], rules.KSERVE_FLAGS, reason)


def _write_uri(draft: Draft, read: ReadArguments) -> None:
    path = (*MODEL, "storageUri")
    written = draft.get(*path)
    before = written if isinstance(written, str) else ""
    uri = read.uri(stored=bool(before))
    reason = "the model that the arguments name, for KServe to download"
    if uri is None:
        uri = with_revision(before, read.said.revision, read.resource)
        reason = "the revision that the arguments name"
    if uri != before:
        draft.set(path, uri, rules.KSERVE_FLAGS, reason)
