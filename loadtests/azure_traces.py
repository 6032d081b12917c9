"""Azure's public traces of LLM inference as parameters: lengths, gaps between requests, a week.

The lengths and gaps are percentiles of the traces of 2023 (one hour of 2023-11-16; 19,366 requests
of a conversation service, 8,819 of a code service), computed from the published files:
https://github.com/Azure/AzurePublicDataset/blob/master/AzureLLMInferenceDataset2023.md
(Patel et al., "Splitwise", ISCA 2024; the data is licensed CC-BY).

The week is that of the traces of 2024 (27,303,999 and 16,803,695 requests in seven days): the mean
of each three hours, read from the plots of requests per minute in the dataset's notebook
(analysis/AzureLLMInferenceDataset2024.ipynb; Stojkovic et al., "DynamoLLM", HPCA 2025).

No request of the traces is contained here. Prompt and answer lengths are drawn independently of
each other: in both traces of 2023 their correlation is near zero (conversation -0.11, code 0.00).
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution by its percentiles: (percent, value) pairs from 0 to 100, values above 0."""

    knots: tuple[tuple[float, float], ...]

    def at(self, share: float) -> float:
        """The value below which `share` (0 to 1) of all lie; between two knots it grows evenly
        in its logarithm, as lengths and gaps do that span several powers of ten."""
        percent = share * 100
        above = min(bisect_right([p for p, _ in self.knots], percent), len(self.knots) - 1)
        (low_p, low), (high_p, high) = self.knots[above - 1], self.knots[above]
        part = (percent - low_p) / (high_p - low_p)
        return math.exp(math.log(low) * (1 - part) + math.log(high) * part)

    def mean(self, up_to: float = 1.0, steps: int = 20_000) -> float:
        """The mean of the part of the distribution below the share `up_to`."""
        return sum(self.at((i + 0.5) / steps * up_to) for i in range(steps)) / steps


@dataclass(frozen=True, slots=True)
class Trace:
    """One service of the traces: what its requests are like and when they come."""

    name: str
    gaps_s: Quantiles
    """Seconds from one request to the next (2023)."""
    prompt: Quantiles
    """Tokens of a prompt (2023)."""
    answer: Quantiles
    """Tokens of an answer (2023)."""
    rate: float
    """Requests a second, the mean of the hour of 2023."""
    busy: float
    """The share of the gaps that are no silences. Of the code service one gap in a hundred is
    longer than two seconds, and these are three quarters of the hour."""
    week: tuple[float, ...]
    """Load of each three hours of the week of 2024, in its mean."""


def _spread(text: str) -> Quantiles:
    percents = (0, 1, 5, 10, 25, 40, 50, 60, 75, 80, 90, 95, 99, 99.5, 99.9, 100)
    values = [float(word) for word in text.split()]
    return Quantiles(tuple(zip(percents, values, strict=True)))


def _gaps(text: str) -> Quantiles:
    percents = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100)
    values = [float(word) for word in text.split()]
    return Quantiles(tuple(zip(percents, values, strict=True)))


def _week(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


CONVERSATION = Trace(
    name="conversation",
    gaps_s=_gaps("2e-6 5.5e-4 .00632 .01613 .04827 .1184 .2467 .4207 .5652 .889 1.031 1.431 4.315"),
    prompt=_spread("2 29 181 207 396 703 1020 1071 1189 1315 2734 4083 4142 4831 6212 14050"),
    answer=_spread("7 16 41 54 85 103 129 177 395 400 424 451 601 643 954 1000"),
    rate=5.53,
    busy=1.0,
    # Sunday, Monday, … Saturday; eight values a day.
    week=_week(
        "0.57 0.48 0.55 0.58 0.73 0.76 0.72 0.70 "
        "1.06 0.94 1.21 1.19 1.51 1.38 1.21 0.95 "
        "1.12 0.97 1.25 1.25 1.57 1.42 1.28 0.92 "
        "1.03 0.92 1.19 1.19 1.46 1.30 1.14 0.81 "
        "1.08 0.96 1.31 1.14 1.44 1.27 1.08 0.85 "
        "1.07 0.94 1.19 1.09 1.27 1.12 0.89 0.61 "
        "0.61 0.54 0.62 0.66 0.81 0.79 0.68 0.59"
    ),
)

CODE = Trace(
    name="code",
    gaps_s=_gaps("6e-6 2.2e-5 8.8e-5 2.1e-4 .00208 .0638 .104 .2728 .4008 2.205 10.12 78.4 217.2"),
    prompt=_spread("3 17 75 147 578 1075 1469 1909 2745 3192 5186 7302 7436 7436 7437 7437"),
    answer=_spread("6 6 6 7 9 11 13 16 24 29 55 90 252 361 824 1899"),
    rate=2.57,
    busy=0.99,
    # Friday, Saturday, … Thursday; eight values a day.
    week=_week(
        "0.74 0.47 0.29 0.33 1.26 1.94 2.11 1.11 "
        "0.54 0.38 0.19 0.13 0.36 0.53 0.60 0.52 "
        "0.48 0.37 0.17 0.14 0.30 0.47 0.60 0.63 "
        "0.66 0.47 0.31 0.38 1.55 2.34 2.66 1.45 "
        "0.98 0.51 0.30 0.43 1.86 2.44 2.78 1.38 "
        "0.88 0.53 0.33 0.42 1.70 2.50 2.89 1.32 "
        "0.85 0.51 0.34 0.45 1.72 2.40 2.76 1.41"
    ),
)

TRACES = {trace.name: trace for trace in (CONVERSATION, CODE)}


@dataclass(frozen=True, slots=True)
class Scale:
    """How the traces' lengths fit a small model: every length times `factor`, at least one token,
    prompts no longer than `most_prompt` and answers no longer than `most_answer` tokens."""

    factor: float
    most_prompt: int
    most_answer: int

    def lengths(self, trace: Trace, random: Random) -> tuple[int, int]:
        """Draw the tokens of one prompt and of its answer."""
        prompt = max(round(trace.prompt.at(random.random()) * self.factor), 1)
        answer = max(round(trace.answer.at(random.random()) * self.factor), 1)
        return min(prompt, self.most_prompt), min(answer, self.most_answer)


def scale_to(trace: Trace, longest: int) -> Scale:
    """The scale at which the 99th percentile of a prompt and of an answer together are `longest`
    tokens; the few that are longer are cut, so that a request never has more than that."""
    prompt, answer = trace.prompt.at(0.99), trace.answer.at(0.99)
    factor = min(longest / (prompt + answer), 1.0)
    most_prompt = max(round(longest * prompt / (prompt + answer)), 1)
    return Scale(factor, most_prompt, max(longest - most_prompt, 1))


def unit_gaps(trace: Trace, random: Random) -> Iterator[float]:
    """Gaps of the trace without its silences, in units of their mean, without end."""
    mean = trace.gaps_s.mean(trace.busy)
    while True:
        yield trace.gaps_s.at(random.random() * trace.busy) / mean


def arrivals(trace: Trace, rates: Sequence[tuple[float, float]], random: Random) -> Iterator[float]:
    """Moments in seconds at which requests arrive, where the load is `rates`: (seconds, requests a
    second) one after the other.

    The gaps of the trace are stretched by the rate of their moment, so that the number of requests
    follows the rates and their bursts are those of the trace.
    """
    gaps = unit_gaps(trace, random)
    begins, left = 0.0, next(gaps)
    for seconds, rate in rates:
        moment = begins
        while rate > 0 and moment + left / rate <= begins + seconds:
            moment += left / rate
            yield moment
            left = next(gaps)
        left -= (begins + seconds - moment) * rate
        begins += seconds
