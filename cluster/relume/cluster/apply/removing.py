"""`relume delete`: what the same files name and we applied, in reverse order."""

from collections.abc import Sequence
from dataclasses import dataclass

from relume.base.errors import RelumeError
from relume.cluster.apply.api import Forbidden, Json
from relume.cluster.apply.clock import Pace
from relume.cluster.apply.manifests import Manifest, Source
from relume.cluster.apply.parts import text
from relume.cluster.apply.progress import Progress
from relume.cluster.apply.refusals import refusal
from relume.cluster.apply.waiting import NotReady
from relume.cluster.apply.writer import Writer, ours

_EVERY_S = 1.0
_SERVICES = "/apis/serving.kserve.io/v1beta1/inferenceservices"


class NotDeleted(RelumeError):
    """The cluster does not let an object go."""

    reason = "not-deleted"


@dataclass(frozen=True, slots=True)
class Fate:
    """One document: deleted, or kept and why."""

    manifest: Manifest
    uid: str
    kept: str = ""


def plan_removal(source: Source, writer: Writer) -> list[Fate]:
    """What would be deleted, first to last. Changes nothing.

    What every service may share (DeviceClasses, runtimes, the policy) stays while the cluster has
    another InferenceService that we applied; Namespaces stay, as they may hold what is not ours.
    Raises Unreachable, and Forbidden for a document that may not be read.
    """
    manifests = tuple(map(writer.placed, source.manifests))
    named = {(one.namespace, one.name) for one in manifests if one.kind == "InferenceService"}
    others = _others(writer, named)
    fates = []
    for one in reversed(manifests):
        found = writer.read(one)
        if found is None:
            fates.append(Fate(one, "", "it is not there"))
        else:
            fates.append(Fate(one, text(found, "metadata", "uid"), _why_kept(one, found, others)))
    return fates


def _others(writer: Writer, named: set[tuple[str, str]]) -> list[str]:
    """What may share the cluster-wide documents with the services that go."""
    try:
        found = writer.api.list(_SERVICES) or ()
    except Forbidden:
        return ["that you may not see"]
    return ["/".join(_key(one)) for one in found if ours(one) and _key(one) not in named]


def _key(found: Json) -> tuple[str, str]:
    return text(found, "metadata", "namespace"), text(found, "metadata", "name")


def _why_kept(one: Manifest, found: Json, others: Sequence[str]) -> str:
    if not ours(found):
        return "relume did not apply it"
    if one.kind == "Namespace":
        return "it may hold what these files do not name"
    if not one.namespace and others:
        return f"InferenceService {others[0]} may use it"
    return ""


def remove(
    fates: Sequence[Fate], writer: Writer, progress: Progress, pace: Pace, wait_s: float
) -> None:
    """Delete what `fates` says, each object after what was applied later is gone.

    Raises NotDeleted for what the server does not let go, NotReady for what is still there after
    `wait_s` seconds: then what was to go after it was left alone.
    """
    for fate in fates:
        title = fate.manifest.title
        if fate.kept:
            progress.say(f"{title}: kept, {fate.kept}")
            continue
        progress.now(f"deleting {title}")
        answer = writer.remove(fate.manifest, fate.uid)
        if not answer.ok and answer.code not in (404, 409):  # gone, or another one since
            raise NotDeleted(str(refusal(fate.manifest, answer)))
        _until_gone(fate, writer, pace, wait_s)
        progress.say(f"{title}: deleted", "good")


def _until_gone(fate: Fate, writer: Writer, pace: Pace, wait_s: float) -> None:
    deadline = pace.now() + wait_s
    while True:
        found = writer.read(fate.manifest)
        if found is None or text(found, "metadata", "uid") != fate.uid:
            return
        if pace.now() >= deadline:
            held = f"{fate.manifest.title} is still there after {wait_s:.0f} s"
            raise NotReady(f"{held}; what was to go after it was left alone")
        pace.sleep(_EVERY_S)
