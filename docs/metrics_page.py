"""Print docs/metrics.md: what a running plane and a predictor tell in figures, and what it means.

Run by `make pages`; a test compares. The fields of the status are those that `relume status` reads.
The page tells vLLM's series in our words, and a test looks up each name in the vLLM that is
installed.
"""

from collections.abc import Iterator, Mapping

from relume.base.vocabulary import ANSWER_PHASE, LAUNCH_PHASES, MEMORY_PHASE
from relume.cli.machine.reports import (
    COLD_START_PHASES,
    BrokerStatus,
    ColdStartReport,
    MemoryStatus,
    NatsStatus,
    PlaneAnswer,
    QueueReport,
    ServiceStatus,
    TriggerStatus,
)

HEAD = """\
# Metrics

Two things tell figures. The **plane** of one machine (`relume up`) never stops while it serves, so
its counters hold from zero to ready and back: `GET /relume/status`, or `relume status -o json`.
A **predictor** is vLLM, and tells vLLM's own series at `GET /metrics` in Prometheus' format while
it runs. At zero there is no predictor and so none of its series. On one machine a GET of
`/serving/NAMESPACE/NAME/metrics` is a request like any other: it wakes the service and counts as
demand, so watch the plane's status there, and scrape predictors on a cluster only, where
`relume render` writes a ServiceMonitor for their pods (`out/monitoring`).

[Operations](operations.md) has alerts on these figures. Written by `make pages`.
"""
STATUS: Mapping[str, tuple[type[PlaneAnswer], str]] = {
    "serving.services[]": (ServiceStatus, "one InferenceService or function"),
    "serving.memory": (MemoryStatus, "the memory that all services share"),
    "eventing.brokers[]": (BrokerStatus, "one Broker, or the log of a flow"),
    "eventing.triggers[]": (TriggerStatus, "one Trigger, or a step of a flow"),
    "eventing.nats": (NatsStatus, "the event store"),
    "jobs.queues[]": (QueueReport, "the queue of one service"),
}
MEANING: Mapping[tuple[type[PlaneAnswer], str], str] = {
    (ServiceStatus, "revision"): "the revision that the next start is of",
    (ServiceStatus, "state"): "`zero`, `starting`, `ready`, `draining` or `failed`",
    (ServiceStatus, "reason"): "why it failed",
    (ServiceStatus, "rollout"): "the revision that follows, and why it does not yet answer",
    (ServiceStatus, "traffic"): "the two revisions that share the requests, each with its percent",
    (ServiceStatus, "phase"): "the phase of the start that is under way",
    (ServiceStatus, "replicas"): "replicas that answer now",
    (ServiceStatus, "desired"): "replicas that the autoscaler wants",
    (ServiceStatus, "ready_in_s"): "predicted seconds until it is ready; null: not known",
    (ServiceStatus, "held"): "requests that wait for a replica now",
    (ServiceStatus, "refused"): "requests refused with 429 since the start, because too many wait",
    (ServiceStatus, "warm_at"): "when it is started next by its schedule",
    (ServiceStatus, "in_flight"): "requests that a replica works on now",
    (ServiceStatus, "url"): "its address",
    (ServiceStatus, "pids"): "the processes of its replicas",
    (ServiceStatus, "cold_starts"): "starts of replicas since the plane started",
    (ServiceStatus, "last_cold_start"): "the last entry of the ledger, below",
    (ServiceStatus, "log_tail"): "the last lines of its log, when it failed",
    (ServiceStatus, "memory"): "what one replica needs, how long it has waited for that, for whom",
    (MemoryStatus, "budget"): "bytes that services may hold together; null: not bounded",
    (MemoryStatus, "used"): "bytes that they hold, or that are set aside for them",
    (MemoryStatus, "kept"): "what of that stays in memory at zero",
    (BrokerStatus, "url"): "its ingress",
    (BrokerStatus, "of"): "the flow or source whose log it is",
    (BrokerStatus, "profile"): "as which kind of Broker it delivers",
    (BrokerStatus, "accepted"): "new events and replies stored since the start",
    (BrokerStatus, "dead_letters"): "dead letters that it keeps now",
    (TriggerStatus, "broker"): "its Broker",
    (TriggerStatus, "subscriber"): "where it delivers to",
    (TriggerStatus, "pending"): "events of which no delivery was tried yet",
    (TriggerStatus, "in_flight"): "events under delivery, or waiting for the next attempt",
    (TriggerStatus, "delivered"): "events that ended well since the start",
    (TriggerStatus, "replied"): "of those, the ones whose answer was an event of its own",
    (TriggerStatus, "retried"): "attempts that were followed by another one",
    (TriggerStatus, "dead_lettered"): "events that were given up",
    (TriggerStatus, "dropped"): "events lost as the class of its Broker loses them on a cluster",
    (NatsStatus, "state"): "`running`, or what it does instead",
    (NatsStatus, "restarts"): "how often it was started again",
    (QueueReport, "service"): "the service",
    (QueueReport, "waiting"): "jobs that wait",
    (QueueReport, "running"): "jobs that run",
    (QueueReport, "paused"): "whether it was paused",
    (QueueReport, "lanes"): "what waits, by tenant and priority",
}
PHASES: Mapping[str, str] = {
    "queue": "from the arrival of the request to the decision to start; nearly always 0",
    "memory": "waiting for room in the memory of the machine",
    "environment": "a function's virtual environment is made",
    "process": "a function's process, from its start until it is ready",
    "fork": "a fork of the template, or a new interpreter; long when the template itself loads",
    "import": "vLLM is imported; 0 in a fork of the template",
    "config": "arguments and configuration",
    "weights": "the model is read into memory",
    "engine": "what is left until the engine answers: KV cache, compilation, graphs",
    "warmup": "first runs, routes, until the server accepts",
    "first_token": "from ready to the first token",
    ANSWER_PHASE: "from the first token to the first byte of the answer, which is no part of the "
    "start: the way back, and the rest of an answer that is not streamed",
}
SERIES: Mapping[str, str] = {
    "vllm:num_requests_running": "requests in the batch now",
    "vllm:num_requests_waiting": "requests that wait inside vLLM for room in the batch or KV cache",
    "vllm:kv_cache_usage_perc": "share of the KV cache in use, 0 to 1; at 1 requests are preempted",
    "vllm:num_preemptions": "requests whose KV cache was taken away and computed again",
    "vllm:time_to_first_token_seconds": "from the arrival at vLLM to the first token, as histogram",
    "vllm:inter_token_latency_seconds": "between two tokens of a request, as histogram",
    "vllm:e2e_request_latency_seconds": "from the arrival at vLLM to the last token, as histogram",
    "vllm:request_queue_time_seconds": "waiting inside vLLM before the first step, as histogram",
    "vllm:request_success": "finished requests, by `finished_reason`",
    "vllm:prompt_tokens": "prompt tokens",
    "vllm:generation_tokens": "generated tokens",
    "vllm:prefix_cache_queries": "prompt tokens that were looked up in the prefix cache",
    "vllm:prefix_cache_hits": "those of them that were found",
}


def fields(where: str, report: type[PlaneAnswer], title: str) -> Iterator[str]:
    """The fields of one object of the status, as lines. Raises KeyError for one without a row."""
    yield f"### `{where}`: {title}\n"
    yield "| field | meaning |"
    yield "|---|---|"
    for name in report.model_fields:
        if name not in ("namespace", "name"):
            yield f"| `{name}` | {MEANING[report, name]} |"
    yield ""


def ledger() -> Iterator[str]:
    """The phases of a cold start, as lines."""
    first, *others = COLD_START_PHASES
    assert "phases" in ColdStartReport.model_fields
    yield "## The ledger of cold starts\n"
    yield "`GET /relume/coldstarts`, the file `coldstarts.jsonl` in the state folder, and in short"
    yield "`relume explain ID`. One entry for each start; times in milliseconds, in this order:\n"
    yield "| phase | what happens |"
    yield "|---|---|"
    for name in (first, MEMORY_PHASE, *LAUNCH_PHASES, *others):
        yield f"| `{name}` | {PHASES[name]} |"
    yield f"| `{ANSWER_PHASE}` | {PHASES[ANSWER_PHASE]} |"
    yield ""
    yield "`ready` is from the decision to start until the process could answer. `total` is from"
    yield "the arrival of the request to the first byte of its answer, so that it holds the whole"
    yield "generation of an answer that is not streamed. `started` is `engine`, `template` or"
    yield "`fresh`."
    yield "A start that failed or was given up has `ended` instead: from the decision to its end.\n"


def page() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    yield "## The status of a plane\n"
    for where, (report, title) in STATUS.items():
        yield from fields(where, report, title)
    yield from ledger()
    yield "## vLLM's series\n"
    yield "Those that say whether a predictor has enough room. Counters end in `_total` when they"
    yield "are scraped. vLLM tells more; its own documentation lists all.\n"
    yield "| series | meaning |"
    yield "|---|---|"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in SERIES.items())


if __name__ == "__main__":
    print("\n".join(page()).rstrip())
