"""Every timeout of a service, computed together from one number: how long a cold start may take.

Knative counts the cold start into the request's timeout (the activator's and the queue-proxy's
clocks are the same `timeoutSeconds`), so a service whose model loads for five minutes cannot answer
within the default of five minutes.
"""

import math
from dataclasses import dataclass
from typing import Literal

from relume.base.vocabulary import COLD_START_BUDGET, FUNCTION_COLD_START_S
from relume.cluster.render.options import LONGEST_COLD_START_S
from relume.cluster.render.originals import ANNOTATIONS, Original
from relume.config import Function, InferenceService
from relume.config.durations import go_duration, read_seconds
from relume.eventing.delivery.route import DeliveryPolicy
from relume.eventing.delivery.route import backoff_s as wait_s

SHIPPED_MAX_TIMEOUT_S = 600  # Knative's max-revision-timeout-seconds, and the activator's grace
_PROGRESS_MARGIN_S = 60  # between the last moment to become ready and giving up


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds. `answer_s` is what `timeout` says, where no model has to load first.

    `own_progress_s` is the user's progress deadline, or Knative's default of 600 s.
    """

    cold_start_s: int
    answer_s: int
    own_progress_s: int

    @property
    def timeout_s(self) -> int:
        """Of one request, waiting for the model included."""
        return self.cold_start_s + self.answer_s

    @property
    def progress_s(self) -> int:
        """How long a revision may take to become ready before Knative gives it up."""
        return max(self.cold_start_s + _PROGRESS_MARGIN_S, self.own_progress_s)


def budget_of(service: InferenceService, original: Original, cold_start_s: int) -> Budget:
    """The budget of one service; raises InvalidManifest for an annotation that is no duration."""
    node = original.node(*ANNOTATIONS, COLD_START_BUDGET)
    return Budget(
        cold_start_s=cold_start_s if node is None else int(read_seconds(node, whole_budget)),
        answer_s=int(service.timeout_s),
        own_progress_s=int(service.progress_deadline_s),
    )


def budget_of_function(function: Function) -> Budget:
    """The budget of a function, whose own timeout covers its start as well, as func leaves it."""
    timeout_s = int(function.timeout_s)
    return Budget(
        cold_start_s=min(FUNCTION_COLD_START_S, timeout_s),
        answer_s=max(timeout_s - FUNCTION_COLD_START_S, 0),
        own_progress_s=int(function.progress_deadline_s),
    )


def whole_budget(text: str) -> int:
    """Seconds of a cold start budget such as `10m`; raises ValueError beyond 0 to 1h."""
    seconds = go_duration(text)
    if not seconds.is_integer() or not 0 <= seconds <= LONGEST_COLD_START_S:
        raise ValueError("expected whole seconds, from 0s to 1h")
    return int(seconds)


def backoff_s(
    cold_start_s: int, retries: int, policy: Literal["linear", "exponential"]
) -> int | None:
    """The least delay, in seconds, with which `retries` retries outlast a cold start.

    The waits are those of Knative's own Brokers. Kafka's Broker waits longer, because it counts the
    retries from 1. None where no delay is enough.
    """
    unit = DeliveryPolicy(backoff=policy, backoff_delay_s=1.0)
    # More retries than these outlast the longest cold start with a delay of one second.
    units = sum(wait_s(unit, attempt) for attempt in range(min(retries, 1000)))
    return max(1, math.ceil(cold_start_s / units)) if units else None
