"""What an InferencePool asks of a model server, clause by clause. Pure.

The clauses are those of llm-d's router in November 2026: `docs/plugin-metric-protocol.md`, the
READMEs of its extractors and parsers, and `docs/operations.md` in llm-d/llm-d-router. A metric is
needed only by the plugins that read it; the ones that the default configuration loads are required
here, the others are optional.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from relume.cluster.llm_d.observed import Observed, Scrape

Outcome = Literal["pass", "fail", "absent"]

WAITING = "vllm:num_requests_waiting"
RUNNING = "vllm:num_requests_running"
KV_CACHE = "vllm:kv_cache_usage_perc"
CACHE_CONFIG = "vllm:cache_config_info"
LORA = "vllm:lora_requests_info"
_LORA_LABELS = frozenset({"max_lora", "running_lora_adapters", "waiting_lora_adapters"})

#: The router reads metrics every 50 ms, and stops to send where they are old.
SCRAPE_MS = 50.0
#: How many of the readings under load must be that quick.
QUICK_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was seen, and what to do about it where it is not right."""

    outcome: Outcome
    saw: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Clause:
    """One demand. An optional one may be absent, but not wrong."""

    name: str
    demands: str
    judge: Callable[[Observed], Judgement]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """One clause, judged."""

    clause: Clause
    judgement: Judgement

    @property
    def holds(self) -> bool:
        outcome = self.judgement.outcome
        return outcome == "pass" or (outcome == "absent" and self.clause.optional)


def judge(observed: Observed) -> list[Verdict]:
    """Judge every clause, in the order of `CLAUSES`."""
    return [Verdict(clause, clause.judge(observed)) for clause in CLAUSES]


def _passed(saw: str) -> Judgement:
    return Judgement("pass", saw)


def _failed(saw: str, fix: str) -> Judgement:
    return Judgement("fail", saw, fix)


def _metrics(seen: Observed) -> Judgement:
    first = seen.first
    if first.answer.status != 200:
        fix = "serve Prometheus' text format at /metrics on the port of the pool, without a key"
        return _failed(f"GET /metrics: {first.answer.said}", fix)
    if first.unreadable:
        return _failed(first.unreadable, "write Prometheus' text format 0.0.4")
    return _passed(f"{len(first.series)} series")


def _gauge(name: str, most: float | None = None) -> Callable[[Observed], Judgement]:
    def found(seen: Observed) -> Judgement:
        for when, read in (("before the first request", seen.first), ("at the end", seen.last)):
            values = read.series.get(name)
            if not values:
                fix = f"export {name} from the start, with 0, or map another name in engineConfigs"
                return _failed(f"no such series {when}", fix)
            if min(values) < 0 or (most is not None and max(values) > most):
                bound = "" if most is None else f" and at most {most:g}"
                return _failed(f"{max(values):g} {when}", f"export a value of 0 or more{bound}")
        return _passed(f"{seen.first.total(name):g} at first")

    return found


def _running_moves(seen: Observed) -> Judgement:
    if seen.stream_errors:
        failed = len(seen.stream_errors)
        saw = f"{failed} of {seen.streams} streams failed: {seen.stream_errors[0]}"
        return _failed(saw, "answer streams of /v1/chat/completions to their end")
    most = max((each.total(RUNNING) + each.total(WAITING) for each in seen.busy), default=0.0)
    last = seen.last.total(RUNNING) + seen.last.total(WAITING)
    saw = f"{most:g} running or waiting under {seen.streams} streams, {last:g} afterwards"
    if most < 1:
        return _failed(saw, f"count running requests in {RUNNING} while they run")
    if last > 0:
        return _failed(saw, f"count a request out of {RUNNING} when it ends")
    return _passed(saw)


def _scrape_under_load(seen: Observed) -> Judgement:
    times = sorted(each.took_ms for each in seen.busy if each.answer.status == 200)
    if not times or len(times) < len(seen.busy):
        saw = f"{len(seen.busy) - len(times)} of {len(seen.busy)} readings failed under load"
        return _failed(saw, "answer /metrics while requests run")
    quick = sum(took <= SCRAPE_MS for took in times) / len(times)
    middle, worst = times[len(times) // 2], times[-1]
    saw = f"{len(times)} readings, median {middle:.0f} ms, {worst:.0f} ms at most"
    if quick < QUICK_SHARE:
        fix = f"answer {QUICK_SHARE:.0%} within {SCRAPE_MS:g} ms, or scrape a port of its own"
        return _failed(saw, fix)
    return _passed(saw)


def _labelled(name: str, labels: frozenset[str]) -> Callable[[Observed], Judgement]:
    def found(seen: Observed) -> Judgement:
        scrape = _richest(seen, name)
        if scrape is None:
            return Judgement("absent", "no such series")
        missing = sorted(labels - scrape.labels[name])
        if missing:
            return _failed(f"no label {', '.join(missing)}", f"label {name} with {missing[0]}")
        return _passed(f"labels {', '.join(sorted(labels))}")

    return found


def _richest(seen: Observed, name: str) -> Scrape | None:
    return next((each for each in (seen.last, seen.first) if name in each.series), None)


def _answered(name: str, *, optional: bool = False) -> Callable[[Observed], Judgement]:
    def found(seen: Observed) -> Judgement:
        answer = seen.answers[name]
        if answer.status == 200:
            return _passed("200")
        if optional and answer.status in (404, 405, 501):
            return Judgement("absent", answer.said)
        return _failed(answer.said, "answer it with 200")

    return found


def _models(seen: Observed) -> Judgement:
    answer = seen.answers["models"]
    body = answer.body
    data = body.get("data") if isinstance(body, dict) else None
    if answer.status != 200 or not isinstance(data, list) or not data:
        return _failed(answer.said, "list the models in `data` of GET /v1/models")
    for entry in data:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            return _failed(f"an entry without id: {entry!r:.80}", "give each entry its id")
        if "parent" not in entry:
            return _failed(f"{entry['id']} has no parent", "write parent: null for a base model")
    return _passed(", ".join(entry["id"] for entry in data))


def _unknown_model(seen: Observed) -> Judgement:
    answer = seen.answers["unknown model"]
    body = answer.body
    error = body.get("error") if isinstance(body, dict) else None
    if answer.status == 404 and error is not None:
        return _passed("404 with an error body")
    return _failed(answer.said, 'answer 404 and {"error": {…}} for a model that is not served')


def _stream(seen: Observed) -> Judgement:
    answer = seen.answers["chat stream"]
    if answer.status != 200 or not answer.content_type.startswith("text/event-stream"):
        saw = f"{answer.said} {answer.content_type}".strip()
        return _failed(saw, "answer stream: true with text/event-stream")
    if not isinstance(answer.body, str) or "data: [DONE]" not in answer.body:
        return _failed("the stream has no end", "end a stream with data: [DONE]")
    return _passed("text/event-stream, to its [DONE]")


CLAUSES: Sequence[Clause] = (
    Clause("metrics", "/metrics is Prometheus text", _metrics),
    Clause("metric-waiting", f"{WAITING} from the first reading on", _gauge(WAITING)),
    Clause("metric-running", f"{RUNNING} from the first reading on", _gauge(RUNNING)),
    Clause("metric-kv-cache", f"{KV_CACHE}, 0 to 1", _gauge(KV_CACHE, 1.0)),
    Clause("metric-moves", "running and waiting follow the requests", _running_moves),
    Clause("metric-speed", f"/metrics in {SCRAPE_MS:g} ms under load", _scrape_under_load),
    Clause(
        "metric-cache-config",
        f"{CACHE_CONFIG} says block_size and num_gpu_blocks",
        _labelled(CACHE_CONFIG, frozenset({"block_size", "num_gpu_blocks"})),
        optional=True,
    ),
    Clause("metric-lora", f"{LORA} names adapters", _labelled(LORA, _LORA_LABELS), optional=True),
    Clause("health", "GET /health", _answered("health")),
    Clause("models", "/v1/models has id and parent of each", _models),
    Clause("chat", "POST /v1/chat/completions", _answered("chat")),
    Clause("chat-stream", "the same as a stream", _stream),
    Clause("completions", "POST /v1/completions", _answered("completions")),
    Clause("messages", "POST /v1/messages (Anthropic)", _answered("messages")),
    Clause(
        "count-tokens",
        "POST /v1/messages/count_tokens",
        _answered("count tokens", optional=True),
        optional=True,
    ),
    Clause("unknown-model", "404 for a model that is not served", _unknown_model),
    Clause(
        "router-headers",
        "the router's own headers and Prefer change nothing",
        _answered("router headers"),
    ),
)
