"""Print docs/fields.md: every field of a manifest, and what becomes of it on one machine.

Run by `make pages`; a test compares. The tables are those that `relume up` reads manifests with.
"""

from collections.abc import Iterator

from relume.base.vocabulary import (
    DEPLOYMENT_MODE,
    HANG_AFTER,
    HEARTBEAT,
    MAX_HELD,
    PROGRESS_DEADLINE,
    WARM_AT,
    WARM_TIMEZONE,
    ZERO_MODE,
)
from relume.config import eventing, flows, function_fields, service_fields, sources
from relume.config.autoscaling import AUTOSCALING, DURATIONS, LONGEST, RANGES
from relume.config.autoscaling import NAMES as SCALING
from relume.config.fields import Fields
from relume.config.storage import STORAGE_SCHEMES
from relume.config.waiting import LEAST_HEARTBEAT_S, MOST_HANG_S, MOST_HEARTBEAT_S, MOST_HELD
from relume.config.waiting import NAMES as WAITING

HEAD = f"""\
# Fields that are honoured

`relume up` reads every field of a manifest, and does one of three things with it. It **honours**
the field. It **leaves it out**, where that changes no answer, and lists it at the start as not
honoured here. Or it **refuses** the file by file, line and field, where leaving the field out
would change answers. A field that the API does not have is refused, too. `relume up --check FILE`
says all of this and starts nothing.

On a cluster every field is the cluster's: `relume render` passes it on as it is, and
[`relume doctor`](../cluster/DOCTOR.md) says what the cluster does with it.

`storageUri` takes a local folder, and {", ".join(f"`{each}://`" for each in STORAGE_SCHEMES)};
`pvc://` takes a folder that stands for the claim (`--volume CLAIM=DIR`).

Written by `make pages` from the tables in `config/relume/config`.
"""
SERVICE = {
    "InferenceService: spec": service_fields.SPEC,
    "InferenceService: spec.predictor": service_fields.PREDICTOR,
    "InferenceService: spec.predictor.model": service_fields.MODEL,
    "InferenceService: spec.predictor.model.modelFormat": service_fields.MODEL_FORMAT,
}
EVENTING = {
    "Broker: spec": eventing.BROKER_SPEC,
    "Trigger: spec": eventing.TRIGGER_SPEC,
    "Trigger: spec.filters": eventing.FILTER,
    "Subscribers, sinks, replies": eventing.DESTINATION,
    "delivery": eventing.DELIVERY,
    "Sequence: spec": flows.SEQUENCE_SPEC,
    "Parallel: spec": flows.PARALLEL_SPEC,
    "RequestReply: spec": flows.REQUEST_REPLY_SPEC,
    "PingSource: spec": sources.PING_SPEC,
    "SinkBinding: spec": sources.BINDING_SPEC,
}
FUNCTIONS = {
    "func.yaml": function_fields.FUNCTION,
    "func.yaml: run": function_fields.RUN,
    "func.yaml: deploy": function_fields.DEPLOY,
    "func.yaml: deploy.options.scale": function_fields.SCALE,
    "Service of a function: spec.template.spec": function_fields.REVISION,
    "Service of a function: spec.template.spec.containers": function_fields.CONTAINER,
}
OWN = {
    ZERO_MODE: "what stays in memory at zero: `process`, `template` (the default) or `engine`",
    HEARTBEAT: f'`"true"`, or seconds from {LEAST_HEARTBEAT_S} to {MOST_HEARTBEAT_S}: a client '
    "that streams is told how far the start is",
    MAX_HELD: f"how many requests may wait, from 1 to {MOST_HELD:,}; without it 10,000",
    HANG_AFTER: "seconds without a step of the engine while it has requests, after which it is "
    f"killed, at most {MOST_HANG_S:,}; `0`: never; without it the `timeout` of the service",
    WARM_AT: "a schedule of five or six fields at which the service is started",
    WARM_TIMEZONE: "the time zone of that schedule; without it UTC",
}
NOTES = {
    "InferenceService: spec.predictor.model": "`resources` is read, and its `cpu`, `memory` and "
    "devices are listed as not honoured: a predictor shares this machine, and no device is "
    "claimed on it. `args` are those of vLLM or of KServe's Hugging Face server; each is checked.",
}
READ_BY_OTHERS = {
    DEPLOYMENT_MODE: "`Knative` and `Serverless`; another mode is left out, and it runs as these",
    PROGRESS_DEADLINE: "how long a start may take when nobody waits for it; 600s without it",
}


def table(title: str, fields: Fields) -> Iterator[str]:
    """One table of fields, as lines."""
    yield f"### {title}\n"
    yield f"Honoured: {', '.join(f'`{name}`' for name in sorted(fields.honoured))}.\n"
    if title in NOTES:
        yield f"{NOTES[title]}\n"
    rows = [(why, "left out", name) for name, why in fields.harmless.items()]
    rows += [(why, "refused", name) for name, why in fields.refused.items()]
    if not rows:
        return
    yield "| fields | on one machine | why, or what to do |"
    yield "|---|---|---|"
    together: dict[tuple[str, str], list[str]] = {}
    for why, what, name in rows:
        together.setdefault((what, why), []).append(name)
    for (what, why), names in together.items():
        listed = " ".join(f"`{name}`" for name in names)
        yield f"| {listed} | {what} | {why} |"
    yield ""


def scaling() -> Iterator[str]:
    """The annotations of an InferenceService, as lines."""
    yield "### InferenceService: annotations\n"
    yield "| annotation | value |"
    yield "|---|---|"
    for name in SCALING:
        value = "as in Knative"
        if name in RANGES:
            value = f"{RANGES[name][0]:g} to {RANGES[name][1]:g}"
        elif name in DURATIONS:
            value = f"{DURATIONS[name][0]} to {LONGEST}"
        elif name == "class":
            value = "`kpa.autoscaling.knative.dev` alone; another class is refused"
        elif name == "metric":
            value = "`concurrency` or `rps`; another metric is refused"
        elif name == "metric-aggregation-algorithm":
            value = "`linear`; another algorithm is left out"
        yield f"| `{AUTOSCALING}{name}` | {value} |"
    assert set(WAITING) <= OWN.keys(), "an annotation has no row here"
    for name, value in {**READ_BY_OTHERS, **OWN}.items():
        yield f"| `{name}` | {value} |"
    yield ""


def page() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    yield "## InferenceService\n"
    yield from (line for title, fields in SERVICE.items() for line in table(title, fields))
    yield from scaling()
    yield "## Brokers, Triggers, flows and sources\n"
    yield from (line for title, fields in EVENTING.items() for line in table(title, fields))
    yield "## Functions\n"
    yield from (line for title, fields in FUNCTIONS.items() for line in table(title, fields))


if __name__ == "__main__":
    print("\n".join(page()).rstrip())
