"""Waiting until what was applied is ready, and saying what is still waited for."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from relume.base.errors import RelumeError
from relume.cluster.apply.api import (
    ClusterApi,
    Unreachable,
    condition,
    is_ready,
    objects,
    table,
    text,
)
from relume.cluster.apply.devices import NotExplained, explain_pod, is_about_devices, need_of
from relume.cluster.apply.manifests import ClusterManifest
from relume.cluster.apply.observing import PodView, View, observe
from relume.cluster.claims.explain import ClaimReport


@dataclass(frozen=True, slots=True)
class Pace:
    """A monotonic clock in seconds, and how to wait; a test passes its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


Tone = Literal["", "good", "bad", "worth a look"]


class ApplyProgress(Protocol):
    """Shows the progress: `now` replaces the line before it, everything else is shown once."""

    def now(self, doing: str) -> None:
        """What is done or waited for at the moment."""

    def say(self, line: str, tone: Tone = "") -> None:
        """Something that happened."""

    def explain(self, reports: Sequence[ClaimReport]) -> None:
        """Why a claim cannot be allocated."""


_EVERY_S = 2.0
# After this time KServe and Knative have made a Revision of a change, so that older pods are known.
_SETTLED_S = 20.0
_OVER = ("Terminating", "Succeeded", "Failed")
_WAITED_FOR = ("InferenceService", "Broker", "Trigger")


class NotReady(RelumeError):
    """What was applied did not become ready in time."""

    reason = "not-ready"
    retryable = True


class ReadyWithoutDevice(RelumeError):
    """A pod takes requests and has no device, because some layer dropped its request for one."""

    reason = "ready-without-device"


@dataclass(slots=True)
class Waiting:
    """Polls the namespaces of `manifests`, and reports every change once."""

    api: ClusterApi
    manifests: Sequence[ClusterManifest]
    progress: ApplyProgress
    pace: Pace = field(default_factory=Pace)
    _started: float = 0.0
    _said: dict[str, str] = field(default_factory=dict)
    _explained: set[str] = field(default_factory=set)

    def until_ready(self, longest_s: float) -> None:
        """Return when all is ready and every pod that is ready holds its devices.

        Raises NotReady after `longest_s` seconds, ReadyWithoutDevice as soon as it is seen.
        """
        wanted = [one for one in self.manifests if one.kind in _WAITED_FOR]
        self._started = self.pace.now()
        deadline = self._started + longest_s
        open_: list[str] = []
        while wanted:
            try:
                open_ = list(self._look(wanted))
                if not open_:
                    return
            except Unreachable as error:
                self._say("api server", str(error), "bad")
                open_ = open_ or [f"the API server: {error}"]
            if self.pace.now() >= deadline:
                raise NotReady(f"not ready after {longest_s:.0f} s: " + "; ".join(open_))
            self.progress.now("waiting for " + ", ".join(one.split(":")[0] for one in open_))
            self.pace.sleep(_EVERY_S)

    def _look(self, wanted: Sequence[ClusterManifest]) -> Iterator[str]:
        """What is not ready yet, and why."""
        for namespace in sorted({one.namespace for one in wanted}):
            view = observe(self.api, namespace)
            listed = {"InferenceService": view.services, "Broker": view.brokers}
            listed["Trigger"] = view.triggers
            for one in wanted:
                if one.namespace != namespace:
                    continue
                found = listed[one.kind]
                seen = next((s for s in found if text(s, "metadata", "name") == one.name), None)
                waits: list[str] = []
                if one.kind == "InferenceService":
                    waits = list(self._pods(view, one.name))
                    self._note_zero(view, one.name, seen)
                yield from self._judge(one.title, seen, waits)

    def _judge(self, title: str, seen: object, waits: list[str]) -> Iterator[str]:
        why = why_not_ready(seen)
        ready = is_ready(seen)
        self._say(title, "ready" if ready else why, "good" if ready else "")
        lacking = [*([] if ready else [why]), *waits[:1]]
        if lacking:
            yield f"{title}: {', '.join(lacking)}"

    def _pods(self, view: View, service: str) -> Iterator[str]:
        """What the pods of a service still wait for. Raises ReadyWithoutDevice."""
        for pod in view.pods_of(service):
            if pod.phase in _OVER or pod.outdated:
                continue
            title, words = f"pod {view.namespace}/{pod.name}", pod_words(pod)
            if pod.lacks:
                if not pod.older or self.pace.now() - self._started > _SETTLED_S:
                    raise ReadyWithoutDevice(_loud(view.namespace, service, pod))
                yield f"{title} was there before"
                continue
            self._say(title, words, "good" if pod.ready else "")
            if not pod.ready:
                self._blame(pod)
            if not pod.ready or (pod.holding is not None and pod.holding.state == "waits"):
                yield f"{title} {words}"

    def _note_zero(self, view: View, service: str, seen: object) -> None:
        """Report that a service at zero has no pod that could hold a claim."""
        if (
            is_ready(seen)
            and isinstance(seen, dict)
            and need_of(seen)
            and not view.pods_of(service)
        ):
            words = "none yet: the first request makes the first pod; then look at relume status"
            self._say(f"devices of {view.namespace}/{service}", words)

    def _blame(self, pod: PodView) -> None:
        """Explain once what the scheduler cannot allocate."""
        if pod.name in self._explained or pod.phase != "Pending" or not is_about_devices(pod.why):
            return
        self._explained.add(pod.name)
        try:
            self.progress.explain(explain_pod(self.api, pod.pod))
        except NotExplained as error:
            self.progress.say(f"pod {pod.name}: the cluster's devices say nothing: {error}")

    def _say(self, title: str, words: str, tone: Tone = "") -> None:
        if self._said.get(title) != words:
            self._said[title] = words
            self.progress.say(f"{title}: {words}", tone)


def why_not_ready(seen: object) -> str:
    """The most useful condition with its reason, and what KServe reports about the model.

    That is the first condition that is False and has a message. KServe lists conditions in
    alphabetical order, and some only say that another one is not there
    (`PredictorConfigurationReady not ready`).
    """
    if seen is None:
        return "not there"
    ready = condition(seen, "Ready")
    lacking = [
        one
        for one in objects(seen, "status", "conditions")
        if text(one, "status") == "False" and text(one, "type") != "Ready"
    ]
    lacking.sort(key=lambda one: text(one, "message") == "")
    for one in (*lacking, ready):
        reason, message = text(one, "reason"), text(one, "message")
        if reason or message:
            model = _model_failure(seen)
            return f"{text(one, 'type')} {reason}: {message}".rstrip(": ") + model
    return (f"Ready is {text(ready, 'status') or 'not said yet'}") + _model_failure(seen)


def _model_failure(seen: object) -> str:
    failure = table(seen, "status", "modelStatus", "lastFailureInfo")
    if not failure:
        return ""
    return f" ({text(failure, 'reason')}: {text(failure, 'message')})"


def pod_words(pod: PodView) -> str:
    """A pod's phase, what keeps it, and its devices."""
    words = "ready" if pod.ready else pod.phase
    if pod.why:
        words += f", {pod.why}"
    if pod.holding is not None:
        words += f"; device: {pod.holding.state}, {pod.holding.detail}"
    return words


def _loud(namespace: str, service: str, pod: PodView) -> str:
    assert pod.holding is not None
    return (
        f"POD {namespace}/{pod.name} IS READY WITHOUT A DEVICE: InferenceService {service} asks "
        f"for one, and {pod.holding.detail}. Some layer dropped the request: see `relume doctor "
        "--context`; delete the pod when that is mended"
    )
