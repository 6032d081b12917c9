"""What a reader wants to know of a load test, computed from its record. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from load_plan import bands
from load_record import Asked, ColdStart, Record

#: Sent later than this after it was due, a request of the open loop says that the load generator
#: itself had too little of the machine.
LATE_S = 0.25
KINDS = ("event", "chat", "job")
KIND_NAMES = {"event": "events", "chat": "chats", "job": "jobs"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A name, a value with its unit, and what helps to read it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The first thing that is read. `well` is False when something failed or was left over."""

    well: bool
    verdict: str
    ways: str
    """How often the plane went up from zero and back, as a sentence."""
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Wake:
    """One way from zero up and back, as the samples saw it; seconds of the test.

    `zero` is None where the record ends before it is at zero again.
    """

    began: float
    most: int
    zero: float | None


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The value below or at which `percent` of them lie (nearest rank); None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def windows(
    pairs: Iterable[tuple[float, float]], width: float, end: float
) -> list[tuple[float, list[float]]]:
    """The middle of each window of `width` seconds up to `end`, and what falls into it."""
    count = max(int(-(-end // width)), 1)
    found: list[list[float]] = [[] for _ in range(count)]
    for moment, value in pairs:
        found[min(max(int(moment // width), 0), count - 1)].append(value)
    return [((number + 0.5) * width, values) for number, values in enumerate(found)]


def percentiles_over_time(
    pairs: Iterable[tuple[float, float]], percent: float, width: float, end: float
) -> list[tuple[float, float | None]]:
    """The percentile of each window; None where a window has nothing."""
    return [(at, percentile(values, percent)) for at, values in windows(pairs, width, end)]


def answered(record: Record) -> list[Asked]:
    """The requests that got what they asked for; cancelled jobs are none of them."""
    return [each for each in record.asked if each.outcome in ("answered", "completed")]


def failed(record: Record) -> list[Asked]:
    return [each for each in record.asked if each.error is not None]


def tokens_over_time(record: Record, width: float) -> list[tuple[float, float]]:
    """Tokens a second of the answers, by window.

    The tokens of a stream count when they came. Those of an event count evenly over the time from
    its sending to its answer, because nothing tells when each was made.
    """
    pairs: list[tuple[float, float]] = []
    for each in record.asked:
        moments = _token_moments(each)
        share = each.tokens / len(moments) if moments else 0.0
        pairs += [(moment, share) for moment in moments]
    return [(at, sum(values) / width) for at, values in windows(pairs, width, record.seconds)]


def _token_moments(each: Asked) -> list[float]:
    if each.tokens <= 0:
        return []
    if each.first is None:
        return [
            each.sent + (each.ended - each.sent) * (i + 0.5) / each.tokens
            for i in range(each.tokens)
        ]
    moments, moment = [each.first], each.first
    for gap in each.gaps_ms:
        moment += gap / 1000
        moments.append(moment)
    return moments


def wakes(record: Record) -> list[Wake]:
    """Every way from zero replicas to at least one and back."""
    found: list[Wake] = []
    began: float | None = None
    most = 0
    for sample in record.samples:
        if sample.replicas > 0 or sample.desired > 0:
            began = sample.at if began is None else began
            most = max(most, sample.replicas)
        elif began is not None:
            found.append(Wake(began, most, sample.at))
            began, most = None, 0
    if began is not None:
        found.append(Wake(began, most, None))
    return found


def idle_to_zero(record: Record) -> list[float]:
    """For each rest that saw zero: seconds from its last request's end to zero replicas."""
    found = []
    for wake in wakes(record):
        ends = [each.ended for each in record.asked if wake.zero and each.ended < wake.zero]
        if wake.zero is not None and ends:
            found.append(wake.zero - max(ends))
    return found


def summary(record: Record) -> Summary:
    """The verdict in one sentence, and a dozen figures."""
    wrong = [*_failures(record), *_left_over(record)]
    asked = len(record.asked)
    if not asked:
        return Summary(False, "Nothing was asked: the load test did not run.", "", ())
    verdict = (
        f"All {asked} requests were answered, and nothing was left over."
        if not wrong
        else f"Something failed: {'; '.join(wrong)} ({asked} requests in all)."
    )
    return Summary(not wrong, verdict, _ways(record), tuple(_figures(record)))


def _ways(record: Record) -> str:
    ways = wakes(record)
    if not ways:
        return "No replica ever ran." if record.samples else ""
    ended, most = sum(way.zero is not None for way in ways), max(way.most for way in ways)
    up, back = _times(len(ways)), _times(ended)
    return f"Up from zero {up}, to at most {most} replica{'s' * (most > 1)}; back to zero {back}."


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _failures(record: Record) -> list[str]:
    reasons = Counter(f"{each.kind}: {each.error}" for each in failed(record))
    return [f"{count} × {reason}" for reason, count in reasons.most_common(3)]


def _left_over(record: Record) -> list[str]:
    """What the plane still had at the end, and cold starts that failed."""
    last = record.samples[-1] if record.samples else None
    found = []
    if last is None:
        return ["the plane was never seen"]
    if last.backlog:
        found.append(f"{last.backlog} events were not delivered")
    if last.dead:
        found.append(f"{last.dead} events became dead letters")
    if last.jobs_waiting or last.jobs_running:
        found.append(f"{last.jobs_waiting + last.jobs_running} jobs were not settled")
    broken = sum(start.outcome == "failed" for start in record.cold_starts)
    return [*found, f"{broken} cold starts failed"] if broken else found


def _figures(record: Record) -> Iterable[Figure]:
    kinds = Counter(each.kind for each in record.asked)
    counts = ", ".join(f"{kinds[kind]} {KIND_NAMES[kind]}" for kind in KINDS if kinds[kind])
    loops = Counter(each.loop for each in record.asked)
    yield Figure("requests", f"{len(record.asked)}", f"{counts}; {loops['open']} open loop")
    yield Figure("failed", f"{len(failed(record))}", _retried(record))
    done = [each.seconds for each in answered(record)]
    yield Figure("whole answer, p50", _s(percentile(done, 50)), "from when it was due")
    yield Figure(
        "whole answer, p95", _s(percentile(done, 95)), f"longest {_s(max(done, default=None))}"
    )
    streamed = [each for each in answered(record) if each.first is not None]
    firsts = [each.first - each.due for each in streamed if each.first is not None]
    note = f"p95 {_s(percentile(firsts, 95))}; cold starts included"
    yield Figure("time to first token, p50", _s(percentile(firsts, 50)), note)
    gaps = [gap / 1000 for each in streamed for gap in each.gaps_ms]
    yield Figure("between tokens, p50", _s(percentile(gaps, 50)), f"p95 {_s(percentile(gaps, 95))}")
    rates = [rate for _, rate in tokens_over_time(record, 5.0)]
    total = sum(each.tokens for each in record.asked)
    yield Figure("tokens a second, most", f"{max(rates):.0f}", f"{total:,} in all; windows of 5 s")
    yield from _scaling(record)
    late = percentile([each.late for each in record.asked if each.loop == "open"], 99)
    if late is not None:
        word = "the generator kept up" if late < LATE_S else "late itself: trust no time below it"
        yield Figure("open loop sent late by, p99", _s(late), word)


def _scaling(record: Record) -> Iterable[Figure]:
    most = max((sample.replicas for sample in record.samples), default=0)
    memory = max((sample.memory_mb for sample in record.samples), default=0)
    note = f"{memory / 1000:.1f} GB with the warm template"
    yield Figure("most replicas", f"{most}", note)
    starts = [s.total_ms / 1000 for s in record.cold_starts if s.total_ms is not None]
    if starts:
        name = "cold start, median"
        yield Figure(
            name, _s(percentile(starts, 50)), f"{len(starts)} starts, longest {_s(max(starts))}"
        )
    if idle := idle_to_zero(record):
        yield Figure(
            "last answer → zero, median",
            _s(percentile(idle, 50)),
            "from the last answer to no replica",
        )
    held = max((sample.held for sample in record.samples), default=0)
    backlog = max((sample.backlog for sample in record.samples), default=0)
    yield Figure("held at once, most", f"{held}", f"{backlog} events waiting or under way at most")


def _retried(record: Record) -> str:
    last = record.samples[-1] if record.samples else None
    cancelled = sum(each.outcome == "cancelled" for each in record.asked)
    retried = last.retried if last else 0
    return f"{retried} deliveries tried again; {cancelled} jobs cancelled on purpose"


def _s(seconds: float | None) -> str:
    """Seconds for people: milliseconds below one, two digits up to ten."""
    if seconds is None:
        return "none"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def by_kind(
    record: Record, value: Callable[[Asked], float | None]
) -> dict[str, list[tuple[float, float]]]:
    """For each kind of request: when it was due, and the value, where it has one."""
    found: dict[str, list[tuple[float, float]]] = {}
    for each in record.asked:
        if (known := value(each)) is not None:
            found.setdefault(each.kind, []).append((each.due, known))
    return found


def errors_over_time(record: Record, width: float) -> dict[str, list[tuple[float, int]]]:
    """Failed requests of each window, by what was wrong; only what happened."""
    reasons = sorted({each.error for each in record.asked if each.error is not None})
    return {
        reason: [
            (at, len(values))
            for at, values in windows(
                [(each.ended, 1.0) for each in record.asked if each.error == reason],
                width,
                record.seconds,
            )
        ]
        for reason in reasons
    }


def tenant_rows(record: Record) -> list[tuple[str, str, str, str, str]]:
    """For each tenant: requests, failed, p50 and p95 of the whole answer."""
    rows = []
    for tenant in sorted({each.tenant for each in record.asked}):
        mine = [each for each in record.asked if each.tenant == tenant]
        times = [each.seconds for each in mine if each.outcome in ("answered", "completed")]
        wrong = sum(each.error is not None for each in mine)
        p50, p95 = _s(percentile(times, 50)), _s(percentile(times, 95))
        rows.append((tenant, f"{len(mine)}", f"{wrong}", p50, p95))
    return rows


def start_rows(starts: Sequence[ColdStart]) -> list[tuple[str, str, str]]:
    """For each cold start: when, of what, and how long it took."""
    return [
        (f"{start.at:.0f} s", f"{start.service}, {start.started}", _s((start.total_ms or 0) / 1000))
        for start in starts
    ]


def stage_bands(record: Record) -> list[tuple[str, float, float, bool]]:
    return bands(record.stages)
