"""`relume apply`: all documents or none, in an order that works."""

from collections.abc import Sequence
from dataclasses import dataclass

from relume.base.errors import InvalidInput
from relume.cluster.apply.api import Answer, ClusterApi, Forbidden
from relume.cluster.apply.clock import Pace
from relume.cluster.apply.manifests import SERVICES, Manifest, Source
from relume.cluster.apply.parts import objects, text
from relume.cluster.apply.policy import wait_for_policy
from relume.cluster.apply.progress import Progress
from relume.cluster.apply.refusals import NotApplied, Refusal, refusal
from relume.cluster.apply.settings import SettingsMissing, missing_settings
from relume.cluster.apply.waiting import Waiting
from relume.cluster.apply.writer import Writer
from relume.cluster.render.runtimes import NO_IMAGE


@dataclass(frozen=True, slots=True)
class Choices:
    """`wait_s` 0 does not wait; `despite_settings` applies where the cluster lacks settings."""

    wait_s: float = 600.0
    dry_run: bool = False
    despite_settings: bool = False


def apply(
    source: Source, writer: Writer, choices: Choices, progress: Progress, pace: Pace
) -> tuple[Manifest, ...]:
    """Apply `source`, and return what is on the cluster now (with `dry_run`: would be).

    Every document is tried as a server-side dry run first; where one is refused, none is applied.
    Raises InvalidInput for a runtime without an image, NotApplied, SettingsMissing,
    PolicyNotInForce, NotReady, ReadyWithoutDevice, Unreachable.
    """
    _check_images(source.manifests)
    manifests = tuple(map(writer.placed, source.manifests))
    _check_settings(writer.api, source.patches, choices, progress)
    progress.now(f"trying {len(manifests)} documents")
    later = _try_all(writer, manifests)
    if choices.dry_run:
        tried = len(manifests) - len(later)
        progress.say(f"the cluster takes {tried} documents; nothing was applied", "good")
        for one in later:
            progress.say(f"{one.title}: not tried, its namespace is not there yet")
        return manifests
    done: list[Manifest] = []
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


def _check_images(manifests: Sequence[Manifest]) -> None:
    """A runtime is everybody's: the placeholder must not take the place of a real image."""
    for one in manifests:
        for container in objects(one.body, "spec", "containers"):
            if text(container, "image").startswith(NO_IMAGE):
                raise InvalidInput(
                    f"{one.file}: {one.title}: it has no image: name it with "
                    f"--image {one.name}=REPOSITORY@sha256:…",
                    reason="no-image",
                )


def _check_settings(
    api: ClusterApi, patches: Sequence[Manifest], choices: Choices, progress: Progress
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


def _try_all(writer: Writer, manifests: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Dry-run everything; returns what can be tried only when its namespace is there."""
    made = {one.name for one in manifests if one.kind == "Namespace"}
    new = {name for name in made if writer.api.get(f"/api/v1/namespaces/{name}") is None}
    later = tuple(one for one in manifests if one.namespace in new)
    _try(writer, [one for one in manifests if one not in later], ())
    return later


def _try(writer: Writer, manifests: Sequence[Manifest], done: tuple[Manifest, ...]) -> None:
    refused: list[Refusal] = []
    for one in manifests:
        answer = writer.apply(one, dry_run=True)
        if not answer.ok:
            refused.append(refusal(one, _told(writer, one, answer)))
    if refused:
        raise NotApplied(tuple(refused), done)


def _told(writer: Writer, one: Manifest, answer: Answer) -> Answer:
    """A kind that is not served, with what to install."""
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
    return Answer(404, {"message": f"the cluster has no {one.kind} in {one.api_version}{hint}"})


def _services(manifests: Sequence[Manifest]) -> list[Manifest]:
    return [one for one in manifests if one.kind == "InferenceService"]


def _apply_one(writer: Writer, one: Manifest, done: list[Manifest], progress: Progress) -> None:
    before = _version(writer, one)
    answer = writer.apply(one, dry_run=False)
    if not answer.ok:
        raise NotApplied((refusal(one, answer),), tuple(done))
    done.append(one)
    same = before == text(answer.body, "metadata", "resourceVersion")
    what = "created" if answer.code == 201 else "unchanged" if same else "changed"
    progress.say(f"{one.title}: {what}", "good")


def _version(writer: Writer, one: Manifest) -> str:
    """The version that is there, "" where there is none or it may not be read."""
    try:
        return text(writer.read(one), "metadata", "resourceVersion")
    except Forbidden:
        return ""
