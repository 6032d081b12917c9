"""What a load test does and when: stages of load and of rest, and the requests of the open loop.

A stage has a rate of requests that come whatever was answered (open loop), and users who each wait
for their answer before they ask again (closed loop). A stage of rest has neither, so that services
go to zero. All is decided by the seed before the test begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from azure_traces import TRACES, Trace, arrivals, scale_to

from relume.base.errors import InvalidInput

Kind = Literal["event", "chat"]
KINDS: tuple[Kind, ...] = ("event", "chat")
DEFAULT_MINUTES = 3.5
#: Longer than what a busy machine needs to answer what is left of a burst, the sample's
#: scale-to-zero window of 10 s and the autoscaler's steps of 2 s together.
REST_S = 45.0
#: Mean requests a second of the open loop while there is load.
DEFAULT_RATE = 0.4
DEFAULT_USERS = 8
#: Tokens of the longest prompt and its answer; the demo model's context has 2,048.
DEFAULT_LONGEST = 320
CLOSED_USERS_PER_SPAWN_S = 4.0
SHAPES = ("bursts", "week", "steady")


class BadPlan(InvalidInput):
    """The options make no plan; the message names the option and the fix."""

    reason = "bad-plan"


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the test: `rate` in requests a second of the open loop, closed-loop `users`."""

    name: str
    seconds: float
    rate: float
    users: int

    @property
    def rests(self) -> bool:
        return self.rate == 0 and self.users == 0


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the open loop: due so many seconds after the start."""

    due: float
    kind: Kind
    tenant: str
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks: the share of the requests, and the priority of the jobs."""

    name: str
    share: float
    priority: Literal["high", "normal", "low"]


TENANTS = (
    Tenant("acme", 0.6, "normal"),
    Tenant("globex", 0.3, "high"),
    Tenant("initech", 0.1, "low"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole test. `longest` bounds the tokens of a prompt and its answer together."""

    trace: Trace
    stages: tuple[Stage, ...]
    longest: int
    seed: int

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def stage_at(self, second: float) -> Stage | None:
        """The stage of that moment; None after the last."""
        for stage in self.stages:
            if second < stage.seconds:
                return stage
            second -= stage.seconds
        return None

    def requests(self) -> list[Request]:
        """The open loop, in the order in which the requests are due."""
        random, scale = Random(self.seed), scale_to(self.trace, self.longest)
        rates = [(stage.seconds, stage.rate) for stage in self.stages]
        found = []
        for due in arrivals(self.trace, rates, random):
            prompt, answer = scale.lengths(self.trace, random)
            found.append(
                Request(due, random.choice(KINDS), tenant_of(random.random()).name, prompt, answer)
            )
        return found


def tenant_of(share: float) -> Tenant:
    """The tenant at this place (0 to 1) of all requests."""
    for tenant in TENANTS:
        share -= tenant.share
        if share < 0:
            return tenant
    return TENANTS[-1]


def plan_of(
    shape: str, trace: str, *, minutes: float, rate: float, users: int, longest: int, seed: int
) -> Plan:
    """Make the plan of the options. Raises BadPlan."""
    if rate <= 0 and users <= 0:
        raise BadPlan("--rate and --users are both 0: nothing would be sent; set one of them")
    seconds, known = minutes * 60, TRACES[trace]
    stages = {"bursts": _bursts, "week": _week, "steady": _steady}[shape](
        known, seconds, rate, users
    )
    return Plan(known, tuple(stages), longest, seed)


def _bursts(_: Trace, seconds: float, rate: float, users: int) -> Sequence[Stage]:
    """A trickle, a burst, rest, a higher burst right from zero, rest."""
    busy = seconds - 2 * REST_S
    if busy < 30:
        raise BadPlan(f"--minutes: {seconds / 60:g} leave no time for load; write at least 2")
    return (
        Stage("trickle", busy * 0.25, rate * 0.5, min(users, 1)),
        Stage("burst", busy * 0.4, rate, users),
        Stage("rest", REST_S, 0, 0),
        Stage("second burst", busy * 0.35, rate * 1.5, users),
        Stage("rest", REST_S, 0, 0),
    )


def _week(trace: Trace, seconds: float, rate: float, users: int) -> Sequence[Stage]:
    """The week of the trace of 2024 in the time of the test, then rest.

    A three hours' part of the week below a quarter of the mean is rest: the machine has only a
    part of what a fleet serves, and of a quiet night nothing is left.
    """
    each = (seconds - REST_S) / len(trace.week)
    if each < 1:
        raise BadPlan(f"--minutes: {seconds / 60:g} are too short for a week; write at least 1.7")
    parts = []
    for number, load in enumerate(trace.week):
        share = load if load >= 0.25 else 0.0
        name = f"day {number // 8 + 1}"
        parts.append(Stage(name, each, rate * share, round(users * min(share, 1))))
    return (*parts, Stage("rest", REST_S, 0, 0))


def _steady(_: Trace, seconds: float, rate: float, users: int) -> Sequence[Stage]:
    """The same load all the time, then rest."""
    if seconds <= REST_S:
        raise BadPlan(f"--minutes: {seconds / 60:g} leave no time for load; write at least 1")
    return (Stage("steady", seconds - REST_S, rate, users), Stage("rest", REST_S, 0, 0))


def bands(stages: Sequence[Stage]) -> list[tuple[str, float, float, bool]]:
    """Name, beginning, end and whether it is rest, with neighbours of one name together."""
    found: list[tuple[str, float, float, bool]] = []
    begins = 0.0
    for stage in stages:
        ends = begins + stage.seconds
        same = found and found[-1][0] == stage.name and found[-1][3] == stage.rests
        if same:
            found[-1] = (stage.name, found[-1][1], ends, stage.rests)
        else:
            found.append((stage.name, begins, ends, stage.rests))
        begins = ends
    return found
