"""Whether a job is tried again after a request that has not ended it, and what that costs it. Pure.

The rules are those of a Trigger's delivery, with llm-d's reasons among them (`delivery.llm_d`). A
request that llm-d's router has rejected has reached no model, so it uses up no attempt. It uses up
time to start, as a cold start does: a pool that stays asleep ends the job by its start clock.
"""

from dataclasses import replace
from datetime import datetime

from relume.eventing.delivery.decision import Action, Retry
from relume.eventing.delivery.llm_d import FreeRetry, decide_routed
from relume.eventing.delivery.outcome import Outcome, asked_s
from relume.eventing.delivery.profiles import STRICT
from relume.eventing.delivery.route import DeliveryPolicy
from relume.eventing.jobs.settings import LONGEST_PAUSE_S

#: A job is tried again as a Trigger's event is, but a 404 is final: the model is not there.
PROFILE = replace(STRICT, name="jobs", retried=frozenset({408, 409, 429}))
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


class Retries:
    """The retries of one job under one lease."""

    def __init__(self, max_attempts: int) -> None:
        self.policy = DeliveryPolicy(
            retry=max_attempts - 1,
            backoff_delay_s=_FIRST_WAIT_S,
            retry_after_max_s=LONGEST_PAUSE_S,
            profile=PROFILE,
        )
        self._free = 0

    def decide(self, outcome: Outcome, attempt: int, now: datetime) -> Action:
        """What follows from the request of attempt `attempt` (1 is the first).

        After a FreeRetry the next request belongs to the same attempt.
        """
        number = attempt + self._free
        action = decide_routed(outcome, number, self._free, self.policy, now)
        if isinstance(action, FreeRetry):
            self._free += 1
        if isinstance(action, Retry):
            longest = max(_LONGEST_WAIT_S, min(asked_s(outcome, now), LONGEST_PAUSE_S))
            return replace(action, after_s=min(action.after_s, longest))
        return action
