"""The transformer and the explainer of a service: what they mean for its times and its pods.

KServe makes a service of its own of each: NAME-transformer takes the requests to the
InferenceService, NAME-explainer those that end in :explain, and both ask NAME-predictor (kserve
pkg/controller/v1beta1/inferenceservice/components). So a request waits in them for as long as the
predictor may take, its cold start included.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from relume.cluster.admission.judge import number
from relume.cluster.claims.workloads import COMPONENTS
from relume.cluster.render import rules
from relume.cluster.render.budget import SHIPPED_MAX_TIMEOUT_S, Budget
from relume.cluster.render.draft import Book, Draft, Setting
from relume.cluster.render.originals import Original
from relume.config.nodes import Node

FRONTS = tuple(name for name in COMPONENTS if name != "predictor")


@dataclass(frozen=True, slots=True)
class Front:
    """A transformer or an explainer; `timeout_s` is how long one of its requests may take."""

    name: str
    node: Node
    timeout_s: int


def fronts(original: Original, budget: Budget) -> Iterator[Front]:
    """What stands in front of a predictor, with the time that a request to it needs.

    One that scales to zero starts inside the same request, before it asks the predictor.
    """
    for name in FRONTS:
        node = original.node("spec", name)
        if node is None:
            continue
        starts = number(node, "minReplicas") == 0
        needed = budget.timeout_s + (budget.cold_start_s if starts else 0)
        yield Front(name, node, max(needed, number(node, "timeout") or 0))


def in_front_s(original: Original, budget: Budget) -> int:
    """Seconds that a request may take in what stands in front of the predictor; 0 for nothing."""
    return max((front.timeout_s for front in fronts(original, budget)), default=0)


def render_fronts(
    draft: Draft, original: Original, budget: Budget, book: Book, *, knative: bool
) -> None:
    """Set the timeout of each, and tell what the cluster makes of it."""
    who = f"InferenceService {original.namespace}/{original.name}"
    for front in fronts(original, budget):
        path = ("spec", front.name, "timeout")
        if draft.get(*path) != front.timeout_s:
            reason = f"it waits for the predictor, which may take {budget.timeout_s} s"
            draft.set(path, front.timeout_s, rules.COLD_START, reason)
        if knative and front.timeout_s > SHIPPED_MAX_TIMEOUT_S:
            longest = str(front.timeout_s)
            why = f"the {front.name} of {who} has a timeout of {longest} s; Knative refuses more"
            key = "max-revision-timeout-seconds"
            book.need(Setting("config-defaults", key, longest, why))
        book.note(front.node, _told(front, original, knative=knative))


def _told(front: Front, original: Original, *, knative: bool) -> str:
    """What the cluster does with it, in one sentence."""
    made = "a Knative Service" if knative else "a Deployment"
    asked = "requests that end in :explain" if front.name == "explainer" else "every request"
    least = number(front.node, "minReplicas")
    if least == 0:
        stays = "it goes to zero by itself" if knative else "Standard mode has no zero for it"
    else:
        stays = f"{1 if least is None else least} of its replicas stay while the predictor is idle"
    return (
        f"KServe makes {made} {original.name}-{front.name} of it, which takes {asked} and asks the "
        f"predictor; {stays}"
    )
