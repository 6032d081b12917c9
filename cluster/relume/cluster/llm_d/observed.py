"""What a probe saw of a model server: data only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from relume.base.errors import RelumeError


class ParserMissing(RelumeError):
    """The `prometheus-client` package is not installed."""

    reason = "parser-missing"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `status` is 0 where none came; then `error` says why."""

    status: int
    body: object = None
    """The JSON value, or the text where the body is not JSON."""
    error: str = ""
    content_type: str = ""

    @property
    def said(self) -> str:
        """The status, or why there is none, for people."""
        return str(self.status) if self.status else self.error


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of /metrics. `took_ms` is from the request to the last byte."""

    answer: Answer
    took_ms: float
    series: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The values of each series name, over all label sets."""
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The label names of each series name."""
    unreadable: str = ""
    """What is wrong with the text, if it is not Prometheus' text format."""

    def total(self, name: str) -> float:
        """The sum of a series over its label sets; 0 where it is missing."""
        return sum(self.series.get(name, ()))


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that the clauses judge."""

    model: str
    streams: int
    first: Scrape
    busy: Sequence[Scrape]
    """Taken while the streams ran."""
    last: Scrape
    """Taken after the last stream ended."""
    stream_errors: Sequence[str]
    answers: Mapping[str, Answer]
    """By the name of the request (`probe.REQUESTS`)."""


def scrape(answer: Answer, took_ms: float) -> Scrape:
    """Read an answer of /metrics. Raises ParserMissing."""
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        raise ParserMissing(
            "reading /metrics needs prometheus-client: pip install 'relume[cluster]'"
        ) from None
    if answer.status != 200 or not isinstance(answer.body, str):
        return Scrape(answer, took_ms)
    series: dict[str, list[float]] = {}
    labels: dict[str, set[str]] = {}
    try:
        for family in text_string_to_metric_families(answer.body):
            for sample in family.samples:
                series.setdefault(sample.name, []).append(sample.value)
                labels.setdefault(sample.name, set()).update(sample.labels)
    except ValueError as error:
        return Scrape(answer, took_ms, unreadable=str(error))
    return Scrape(
        answer,
        took_ms,
        {name: tuple(values) for name, values in series.items()},
        {name: frozenset(names) for name, names in labels.items()},
    )
