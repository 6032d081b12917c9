"""What a namespace shows of services, Brokers and Triggers, read once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from relume.base.vocabulary import (
    KNATIVE_EVENTING_V1,
    KNATIVE_SERVING_V1,
    KSERVE_V1BETA1,
    RESOURCE_V1,
    REVISION_LABEL,
    SERVICE_LABEL,
    Json,
)
from relume.cluster.apply.api import ClusterApi, Forbidden, condition, objects, table, text
from relume.cluster.apply.devices import Holding, holding, is_explicit, is_up, need_of
from relume.cluster.apply.manifests import own_fields

# The runtime begins the line that says why it ends with this.
_OURS = "relume: "


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of a service; `why` is what keeps it from running.

    `older` means that the pod was made before our last change of its service. Such a pod is
    `outdated` if its revision is not the newest; in Standard mode, which has no revisions, always.
    """

    pod: Json
    service: str
    phase: str
    ready: bool
    holding: Holding | None
    why: str
    older: bool = False
    outdated: bool = False

    @property
    def name(self) -> str:
        return text(self.pod, "metadata", "name")

    @property
    def lacks(self) -> bool:
        """Ready without a device that its service asks for."""
        without = self.holding is not None and self.holding.state == "without"
        return self.ready and without and not self.outdated


@dataclass(frozen=True, slots=True)
class View:
    """What one namespace holds; lists are empty for what the cluster does not serve."""

    namespace: str
    services: Sequence[Json]
    revisions: Sequence[Json]
    pods: Sequence[PodView]
    claims: Sequence[Json]
    brokers: Sequence[Json]
    triggers: Sequence[Json]

    def pods_of(self, service: str) -> list[PodView]:
        """The pods of one InferenceService."""
        return [one for one in self.pods if one.service == service]


def observe(api: ClusterApi, namespace: str) -> View:
    """Read a namespace; what may not be read counts as not there. Raises Unreachable."""

    def listed(group: str, plural: str, **query: str) -> Sequence[Json]:
        path = f"{group}/namespaces/{namespace}/{plural}"
        return _readable(lambda: api.list(path, **query)) or ()

    services = listed(f"/apis/{KSERVE_V1BETA1}", "inferenceservices")
    by_name = _by_name(services)
    plugins = [name for one in services for name in need_of(one).resources if is_explicit(name)]
    pods = listed("/api/v1", "pods", labelSelector=SERVICE_LABEL) if services else ()
    claims = listed(f"/apis/{RESOURCE_V1}", "resourceclaims")
    nodes: Mapping[str, Json] | None = {}
    if plugins:
        found = _readable(lambda: api.list("/api/v1/nodes"))
        nodes = None if found is None else _by_name(found)
    return View(
        namespace=namespace,
        services=services,
        revisions=listed(f"/apis/{KNATIVE_SERVING_V1}", "revisions", labelSelector=SERVICE_LABEL),
        pods=[_pod(api, pod, by_name, _by_name(claims), nodes) for pod in pods],
        claims=claims,
        brokers=listed(f"/apis/{KNATIVE_EVENTING_V1}", "brokers"),
        triggers=listed(f"/apis/{KNATIVE_EVENTING_V1}", "triggers"),
    )


def _readable(ask: Callable[[], Sequence[Json] | None]) -> Sequence[Json] | None:
    try:
        return ask()
    except Forbidden:
        return None


def _by_name(found: Iterable[Json]) -> dict[str, Json]:
    return {text(one, "metadata", "name"): one for one in found}


def _pod(
    api: ClusterApi,
    pod: Json,
    services: Mapping[str, Json],
    claims: Mapping[str, Json],
    nodes: Mapping[str, Json] | None,
) -> PodView:
    name = text(pod, "metadata", "labels", SERVICE_LABEL)
    service = services.get(name, {})
    need = need_of(service)
    ready = is_up(pod)
    older = text(pod, "metadata", "creationTimestamp") < _changed(service)
    return PodView(
        pod=pod,
        service=name,
        phase="Terminating" if text(pod, "metadata", "deletionTimestamp") else _phase(pod),
        ready=ready,
        holding=holding(need, pod, claims, nodes) if need else None,
        why="" if ready else _why(api, pod),
        older=older,
        outdated=older and not _may_be_newest(pod, service),
    )


def _changed(service: Json) -> str:
    """When we last changed the service, in RFC 3339 and UTC, so that texts compare like times."""
    return max((text(one, "time") for one in own_fields(service)), default="")


def _may_be_newest(pod: Json, service: Json) -> bool:
    """Whether the pod is of the newest revision, as far as KServe has said which that is."""
    own = text(pod, "metadata", "labels", REVISION_LABEL)
    newest = text(service, "status", "components", "predictor", "latestCreatedRevision")
    return own != "" and newest in ("", own)


def _phase(pod: Json) -> str:
    return text(pod, "status", "phase") or "Unknown"


def _why(api: ClusterApi, pod: Json) -> str:
    """Why a pod is not ready: its scheduling, then a container's state, then the newest warning."""
    scheduled = condition(pod, "PodScheduled")
    if text(scheduled, "status") == "False":
        return text(scheduled, "message")
    for status in (
        *objects(pod, "status", "initContainerStatuses"),
        *objects(pod, "status", "containerStatuses"),
    ):
        for state in ("waiting", "terminated"):
            held = table(status, "state", state) or table(status, "lastState", state)
            reason = text(held, "reason")
            if reason and reason not in ("Completed", "PodInitializing", "ContainerCreating"):
                said = _last_word(status) or text(held, "message")
                return f"{text(status, 'name')}: {reason}: {said}".rstrip(": ")
    return _newest_warning(api, pod)


def _last_word(status: Json) -> str:
    """What a container said when it last ended; the state "back-off" does not name the cause.

    With FallbackToLogsOnError this is the end of its log: the first line of the runtime's own
    there, or else the last line.
    """
    ended = table(status, "state", "terminated") or table(status, "lastState", "terminated")
    lines = [line.strip() for line in text(ended, "message").splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(_OURS)), lines[-1] if lines else "")


def _newest_warning(api: ClusterApi, pod: Json) -> str:
    namespace, name = text(pod, "metadata", "namespace"), text(pod, "metadata", "name")
    query = f"involvedObject.name={name},type=Warning"
    path = f"/api/v1/namespaces/{namespace}/events"
    found = _readable(lambda: api.list(path, fieldSelector=query)) or ()
    own = [one for one in found if text(one, "involvedObject", "name") == name]
    warnings = [one for one in own if text(one, "type") == "Warning"]
    newest = max(warnings, key=_when, default=None)
    return "" if newest is None else f"{text(newest, 'reason')}: {text(newest, 'message')}"


def _when(event: Json) -> str:
    return text(event, "lastTimestamp") or text(event, "eventTime")
