"""What one tenant may have waiting at one service: a bound in jobs and one in tokens.

Both are asked at the door, so they cost no request to the store. How many jobs wait is known by
the lanes, which are counted once a second for all gateways together; between two counts a gateway
knows of its own jobs only. So a bound may be exceeded by what the others accept in one second.

How many tokens wait is estimated: of each lane the sizes of the last jobs that this gateway has
accepted are remembered in a few sums, and as a lane is a queue, those that wait are its newest.
An exact count would have to be stored with each acceptance and each lease. That is a second write
for each, and a kill between the two would leave a difference that nobody finds again.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from relume.eventing.jobs.estimates import Estimates
from relume.eventing.jobs.fair_share import served_before
from relume.eventing.jobs.job import PRIORITIES, ServiceName
from relume.eventing.jobs.store import Lane

BYTES_PER_TOKEN = 4
# The names under which requests bound the length of their answer; the first one counts.
_ANSWER_BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# No model answers with more; a larger bound is none.
_LONGEST_ANSWER = 10_000_000
# Sums of one size that are remembered for each lane, and lanes for which they are.
SUMS_EACH = 4
LANES = 10_000


@dataclass(frozen=True, slots=True)
class Full:
    """Why a job is not accepted now, and when to try again."""

    what: Literal["jobs", "tokens"]
    limit: int
    waiting: int
    retry_after_s: int

    def __str__(self) -> str:
        about = "about " if self.what == "tokens" else ""
        return (
            f"{about}{self.waiting:,} {self.what} of yours wait at this service, and at most "
            f"{self.limit:,} may: try again in {self.retry_after_s} s"
        )


def tokens_of(size: int, request: Mapping[str, object] | None = None) -> int:
    """About how many tokens a job has: its body of `size` bytes, and the answer that it asks for.

    `request` is the body where it is a JSON object. Without a bound in it only the body counts.
    """
    tokens = size // BYTES_PER_TOKEN
    if request is None:
        return tokens
    for name in _ANSWER_BOUNDS:
        if name in request and (found := _count(request[name])):
            answers = max(1, min(_count(request.get("n")), 128))
            return tokens + min(found, _LONGEST_ANSWER) * answers
    return tokens


class Quotas:
    """The bounds of all tenants; `counts` says how many jobs wait in each lane of a service."""

    def __init__(
        self,
        counts: Callable[[ServiceName], Mapping[Lane, int]],
        estimates: Estimates,
        *,
        tenant_jobs: int,
        tenant_tokens: int,
    ) -> None:
        self._counts = counts
        self._estimates = estimates
        self._tenant_jobs = tenant_jobs
        self._tenant_tokens = tenant_tokens
        self._sizes: OrderedDict[Lane, _Sizes] = OrderedDict()

    def check(self, lane: Lane, tokens: int) -> Full | None:
        """Whether another job of so many tokens may wait in a lane; None when it may.

        A job that has more tokens than may wait is accepted when nothing else of its tenant waits.
        """
        counts = self._counts(lane.service)
        mine: list[tuple[Lane, int]] = []
        jobs, most = 0, tokens
        for priority in PRIORITIES:
            each = Lane(lane.service, priority, lane.tenant)
            if (n := counts.get(each, 0)) > 0:
                mine.append((each, n))
                jobs += n
                most += self._at_most(each, n, tokens)
        if jobs >= self._tenant_jobs:
            return self._full("jobs", lane, jobs, jobs + 1 - self._tenant_jobs, counts)
        if most <= self._tenant_tokens:
            return None  # the usual case, without a look at the sums
        waiting = sum(self.tokens_in(each, n, tokens) for each, n in mine)
        if jobs and (over := waiting + tokens - self._tenant_tokens) > 0:
            # As many jobs of mean size as make the room; all that wait are always enough.
            needed = min(jobs, -(-over * jobs // max(1, waiting)))
            return self._full("tokens", lane, waiting, needed, counts)
        return None

    def accepted(self, lane: Lane, tokens: int) -> None:
        """A job of so many tokens was stored."""
        sizes = self._sizes.get(lane)
        if sizes is not None:
            self._sizes.move_to_end(lane)
        else:
            if len(self._sizes) >= LANES:
                self._sizes.popitem(last=False)
            sizes = self._sizes[lane] = _Sizes()
        sizes.add(tokens)

    def tokens_in(self, lane: Lane, jobs: int, otherwise: int) -> int:
        """About how many tokens the newest `jobs` of a lane have.

        `otherwise` is taken for the size of each where this gateway has accepted none of them.
        """
        sizes = self._sizes.get(lane)
        return jobs * otherwise if sizes is None else sizes.newest(jobs)

    def _at_most(self, lane: Lane, jobs: int, otherwise: int) -> int:
        """No less than what `tokens_in` says."""
        sizes = self._sizes.get(lane)
        if sizes is not None and jobs <= sizes.jobs:
            return sizes.tokens
        return self.tokens_in(lane, jobs, otherwise)

    def _full(
        self,
        what: Literal["jobs", "tokens"],
        lane: Lane,
        waiting: int,
        needed: int,
        counts: Mapping[Lane, int],
    ) -> Full:
        limit = self._tenant_jobs if what == "jobs" else self._tenant_tokens
        # There is room when the first `needed` jobs of the lane are served, and what comes between.
        turns = served_before(lane, needed, counts)
        return Full(what, limit, waiting, self._estimates.retry_after_s(lane.service, turns))


class _Sizes:
    """The tokens of a lane's jobs in the order of their acceptance, as a few sums.

    The newest jobs have a sum of their own each. The older jobs are, the more of them share one: 2,
    4, 8 and so on. To add one takes the same time on average, however many there are.
    """

    __slots__ = ("_sums", "jobs", "tokens")

    def __init__(self) -> None:
        self.jobs = self.tokens = 0  # all that were ever added
        # At number n the sums of 2**n jobs each, the newest last; all of n are newer than n + 1.
        self._sums: list[list[int]] = [[]]

    def add(self, tokens: int) -> None:
        self.jobs += 1
        self.tokens += tokens
        for sums in self._sums:
            sums.append(tokens)
            if len(sums) <= SUMS_EACH:
                return
            tokens = sums.pop(0) + sums.pop(0)
        self._sums.append([tokens])

    def newest(self, jobs: int) -> int:
        """The tokens of the newest `jobs`; beyond what is remembered, by the mean."""
        left, tokens, count = jobs, 0, 1
        for sums in self._sums:
            for total in reversed(sums):
                if left <= count:
                    return tokens + total * left // count
                left -= count
                tokens += total
            count *= 2
        return tokens + tokens * left // (jobs - left)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
