"""`relume apply` and `relume delete`.

Apply writes all documents or none, in an order that works. Delete removes, in the reverse order,
what the same files name and Relume applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relume.base.errors import InvalidInput, RelumeError
from relume.base.vocabulary import KSERVE_V1BETA1, Json
from relume.cluster.apply.api import ApiAnswer, ClusterApi, Forbidden, objects, text
from relume.cluster.apply.manifests import (
    SERVICES,
    ClusterManifest,
    ClusterWriter,
    NotApplied,
    Refusal,
    Source,
    clashes,
    ours,
    refusal,
)
from relume.cluster.apply.policy import wait_for_policy
from relume.cluster.apply.settings import SettingsMissing, missing_settings
from relume.cluster.apply.waiting import ApplyProgress, NotReady, Pace, Waiting
from relume.cluster.render.runtimes import NO_IMAGE


@dataclass(frozen=True, slots=True)
class Choices:
    """How to apply.

    `wait_s` is how long to wait until all is ready (0: not at all). `despite_settings` applies even
    where settings of the cluster are missing.
    """

    wait_s: float = 600.0
    dry_run: bool = False
    despite_settings: bool = False


def apply(
    source: Source, writer: ClusterWriter, choices: Choices, progress: ApplyProgress, pace: Pace
) -> tuple[ClusterManifest, ...]:
    """Apply `source`, and return what is on the cluster then (with `dry_run`: what would be).

    Every document is tried as a server-side dry run first. If one is refused, none is applied.
    Raises InvalidInput for a runtime without an image, NotApplied, SettingsMissing,
    PolicyNotInForce, NotReady, ReadyWithoutDevice, Unreachable.
    """
    _check_images(source.manifests)
    manifests = tuple(map(writer.placed, source.manifests))
    _check_settings(writer.api, source.patches, choices, progress)
    progress.now(f"trying {len(manifests)} documents")
    _check_runtimes(writer.api, manifests)
    later = _try_all(writer, manifests)
    if choices.dry_run:
        tried = len(manifests) - len(later)
        progress.say(f"the cluster takes {tried} documents; nothing was applied", "good")
        for one in later:
            progress.say(f"{one.title}: not tried, its namespace is not there yet")
        return manifests
    done: list[ClusterManifest] = []
    progress.now("applying them")
    for one in manifests:
        if one.kind != "Namespace" and later:
            _try(writer, later, tuple(done))
            later = ()
        if one.rank >= SERVICES and all(before.rank < SERVICES for before in done):
            wait_for_policy(writer.api, _services(manifests), progress, pace)
        _apply_one(writer, one, done, progress)
    if choices.wait_s:
        Waiting(writer.api, manifests, progress, pace).until_ready(choices.wait_s)
    return manifests


def _check_images(manifests: Sequence[ClusterManifest]) -> None:
    """Refuse a runtime without an image: it could replace one that has an image, for everybody."""
    for one in manifests:
        for container in objects(one.body, "spec", "containers"):
            if text(container, "image").startswith(NO_IMAGE):
                raise InvalidInput(
                    f"{one.file}: {one.title}: it has no image: name it with "
                    f"--image {one.name}=REPOSITORY@sha256:…",
                    reason="no-image",
                )


def _check_runtimes(api: ClusterApi, manifests: Sequence[ClusterManifest]) -> None:
    """Refuse runtimes that KServe does not take beside each other: dry runs see one at a time."""
    try:
        refused = tuple(clashes(api, manifests))
    except Forbidden:
        return  # the cluster itself says so when it tries them
    if refused:
        raise NotApplied(refused)


def _check_settings(
    api: ClusterApi, patches: Sequence[ClusterManifest], choices: Choices, progress: ApplyProgress
) -> None:
    missing, unread = missing_settings(api, patches)
    for name in unread:
        progress.say(f"{name} may not be read: its settings were not checked", "worth a look")
    for one in missing:
        progress.say(f"{one.name} lacks {', '.join(one.settings)}", "worth a look")
        progress.say(f"  {one.command}")
    if missing and not choices.despite_settings:
        raise SettingsMissing(
            "settings of the cluster are missing; nothing was applied. Its administrator changes "
            "them with the commands above; --despite-settings applies all the same"
        )


def _try_all(
    writer: ClusterWriter, manifests: Sequence[ClusterManifest]
) -> tuple[ClusterManifest, ...]:
    """Try everything as a dry run; return what can be tried only after its namespace is made."""
    made = {one.name for one in manifests if one.kind == "Namespace"}
    new = {name for name in made if writer.api.get(f"/api/v1/namespaces/{name}") is None}
    later = tuple(one for one in manifests if one.namespace in new)
    _try(writer, [one for one in manifests if one not in later], ())
    return later


def _try(
    writer: ClusterWriter, manifests: Sequence[ClusterManifest], done: tuple[ClusterManifest, ...]
) -> None:
    refused: list[Refusal] = []
    for one in manifests:
        answer = writer.apply(one, dry_run=True)
        if not answer.ok:
            refused.append(refusal(one, _told(writer, one, answer)))
    if refused:
        raise NotApplied(tuple(refused), done)


def _told(writer: ClusterWriter, one: ClusterManifest, answer: ApiAnswer) -> ApiAnswer:
    """The answer, or what to install where the cluster does not serve the kind."""
    if answer.code != 404 or writer.path(one) is not None:
        return answer
    product = {
        "serving.kserve.io": "KServe",
        "serving.knative.dev": "Knative Serving",
        "eventing.knative.dev": "Knative Eventing",
        "resource.k8s.io": "Kubernetes 1.34 or later",
        "admissionregistration.k8s.io": "Kubernetes 1.36 or later",
    }.get(one.api_version.partition("/")[0])
    hint = f": install {product}" if product else ""
    return ApiAnswer(404, {"message": f"the cluster has no {one.kind} in {one.api_version}{hint}"})


def _services(manifests: Sequence[ClusterManifest]) -> list[ClusterManifest]:
    return [one for one in manifests if one.kind == "InferenceService"]


def _apply_one(
    writer: ClusterWriter,
    one: ClusterManifest,
    done: list[ClusterManifest],
    progress: ApplyProgress,
) -> None:
    before = _version(writer, one)
    answer = writer.apply(one, dry_run=False)
    if not answer.ok:
        raise NotApplied((refusal(one, answer),), tuple(done))
    done.append(one)
    same = before == text(answer.body, "metadata", "resourceVersion")
    what = "created" if answer.code == 201 else "unchanged" if same else "changed"
    progress.say(f"{one.title}: {what}", "good")


def _version(writer: ClusterWriter, one: ClusterManifest) -> str:
    """The resource version on the cluster, "" where there is none or it may not be read."""
    try:
        return text(writer.read(one), "metadata", "resourceVersion")
    except Forbidden:
        return ""


_EVERY_S = 1.0
_SERVICES = f"/apis/{KSERVE_V1BETA1}/inferenceservices"


class NotDeleted(RelumeError):
    """The cluster does not let an object go."""

    reason = "not-deleted"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one document: it is deleted, or `kept` says why it is not."""

    manifest: ClusterManifest
    uid: str
    kept: str = ""


def plan_removal(source: Source, writer: ClusterWriter) -> list[Fate]:
    """What would be deleted, first to last; nothing is changed.

    Documents that services share (DeviceClasses, runtimes, the policy) stay while the cluster has
    another InferenceService that Relume applied. Namespaces stay, because they may hold other
    objects.
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


def _others(writer: ClusterWriter, named: set[tuple[str, str]]) -> list[str]:
    """Services that may use the cluster-wide documents, besides those that are deleted."""
    try:
        found = writer.api.list(_SERVICES) or ()
    except Forbidden:
        return ["that you may not see"]
    return ["/".join(_key(one)) for one in found if ours(one) and _key(one) not in named]


def _key(found: Json) -> tuple[str, str]:
    return text(found, "metadata", "namespace"), text(found, "metadata", "name")


def _why_kept(one: ClusterManifest, found: Json, others: Sequence[str]) -> str:
    if not ours(found):
        return "relume did not apply it"
    if one.kind == "Namespace":
        return "it may hold what these files do not name"
    if not one.namespace and others:
        return f"InferenceService {others[0]} may use it"
    return ""


def remove(
    fates: Sequence[Fate], writer: ClusterWriter, progress: ApplyProgress, pace: Pace, wait_s: float
) -> None:
    """Delete what `fates` says, each object after what was applied later is gone.

    Raises NotDeleted where the server refuses, and NotReady for an object that is still there after
    `wait_s` seconds; the objects after it are not deleted then.
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


def _until_gone(fate: Fate, writer: ClusterWriter, pace: Pace, wait_s: float) -> None:
    deadline = pace.now() + wait_s
    while True:
        found = writer.read(fate.manifest)
        if found is None or text(found, "metadata", "uid") != fate.uid:
            return
        if pace.now() >= deadline:
            held = f"{fate.manifest.title} is still there after {wait_s:.0f} s"
            raise NotReady(f"{held}; the objects after it were not deleted: run the command again")
        pace.sleep(_EVERY_S)
