"""`relume status --context NAME`: services, pods with their devices, Brokers and Triggers."""

from collections.abc import Sequence

from rich.text import Text

from relume.base.vocabulary import Json
from relume.cli.cluster.options import ClusterTarget
from relume.cli.screen import Screen
from relume.cluster.apply.api import is_ready, objects, text
from relume.cluster.apply.observing import PodView, View, observe
from relume.cluster.apply.waiting import why_not_ready

_OK, _WRONG = 0, 1
_HOLDS = {"holds": "green", "waits": "yellow", "without": "bold red", "unknown": "yellow"}


def show_cluster_status(target: ClusterTarget, output: str) -> int:
    """Print one namespace of a cluster; 1 where a pod is ready without a device that it needs."""
    api = target.api()
    view = observe(api, target.namespace or api.namespace)
    screen = Screen.stdout()
    if output == "json":
        screen.json(as_json(view))
    else:
        _show(screen, view, target.context or "the current context")
    return _WRONG if any(pod.lacks for pod in view.pods) else _OK


def _show(screen: Screen, view: View, context: str) -> None:
    screen.title(f"namespace {view.namespace} of {context}")
    if not (view.services or view.brokers or view.triggers):
        screen.line("no InferenceService, Broker or Trigger is in there, or none may be read")
    _rows(screen, ("service", "state", "pods", "why"), [_service(view, s) for s in view.services])
    _rows(screen, ("revision", "state", "why"), [_thing(one) for one in view.revisions])
    _rows(screen, ("pod", "service", "phase", "device", "why"), [_pod(one) for one in view.pods])
    _rows(screen, ("claim", "state", "devices"), [_claim(one) for one in view.claims])
    _rows(screen, ("broker", "state", "why"), [_thing(one) for one in view.brokers])
    _rows(screen, ("trigger", "state", "why"), [_thing(one) for one in view.triggers])
    for pod in view.pods:
        if pod.lacks:
            screen.line()
            screen.line(f"pod {pod.name} is ready WITHOUT A DEVICE", "bold red")


def _rows(screen: Screen, headers: Sequence[str], rows: Sequence[tuple[str | Text, ...]]) -> None:
    if rows:
        screen.line()
        screen.table(headers, rows)


def _state(one: Json) -> Text:
    return Text("ready", style="green") if is_ready(one) else Text("not ready", style="yellow")


def _service(view: View, one: Json) -> tuple[str | Text, ...]:
    name = text(one, "metadata", "name")
    pods = [pod for pod in view.pods_of(name) if pod.phase != "Terminating"]
    up = sum(pod.ready for pod in pods)
    zero = is_ready(one) and not pods
    state = Text("zero", style="blue") if zero else _state(one)
    return name, state, f"{up}/{len(pods)}", "" if is_ready(one) else why_not_ready(one)


def _thing(one: Json) -> tuple[str | Text, ...]:
    why = "" if is_ready(one) else why_not_ready(one)
    return text(one, "metadata", "name"), _state(one), why


def _pod(pod: PodView) -> tuple[str | Text, ...]:
    held: str | Text = "-"
    if pod.holding is not None:
        words = f"{pod.holding.state}: {pod.holding.detail}"
        held = Text(words, style=_HOLDS[pod.holding.state])
    return pod.name, pod.service, "ready" if pod.ready else pod.phase, held, pod.why


def _claim(one: Json) -> tuple[str, ...]:
    results = objects(one, "status", "allocation", "devices", "results")
    state = "not allocated"
    if results:
        state = "in use" if objects(one, "status", "reservedFor") else "allocated"
    devices = ", ".join(f"{text(r, 'pool')}/{text(r, 'device')}" for r in results)
    return text(one, "metadata", "name"), state, devices


def as_json(view: View) -> dict[str, object]:
    """The namespace as JSON: conditions and devices, and no other field of the objects."""
    return {
        "namespace": view.namespace,
        "services": [
            _thing_json(one) | {"url": text(one, "status", "url")} for one in view.services
        ],
        "revisions": [_thing_json(one) for one in view.revisions],
        "pods": [_pod_json(one) for one in view.pods],
        "claims": [
            dict(zip(("name", "state", "devices"), _claim(one), strict=True)) for one in view.claims
        ],
        "brokers": [_thing_json(one) for one in view.brokers],
        "triggers": [_thing_json(one) for one in view.triggers],
    }


def _thing_json(one: Json) -> dict[str, object]:
    return {
        "name": text(one, "metadata", "name"),
        "ready": is_ready(one),
        "why": "" if is_ready(one) else why_not_ready(one),
        "conditions": [
            {name: text(found, name) for name in ("type", "status", "reason", "message")}
            for found in objects(one, "status", "conditions")
        ],
    }


def _pod_json(pod: PodView) -> dict[str, object]:
    held = pod.holding
    return {
        "name": pod.name,
        "service": pod.service,
        "phase": pod.phase,
        "ready": pod.ready,
        "why": pod.why,
        "device": held and {"state": held.state, "detail": held.detail, "claims": held.claims},
    }
