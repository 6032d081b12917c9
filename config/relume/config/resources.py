"""What manifests mean, as types: services, Brokers, Triggers, flows and sources.

Every duration is in seconds. An InferenceService has every default filled in. In a Broker, Trigger
or delivery (eventing.knative.dev/v1) None means that the manifest does not set the field: the kind
of Broker decides which default applies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a field was written; lines count from 1."""

    file: Path
    line: int
    field: str


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """What the Knative Pod Autoscaler works with, for one revision.

    Defaults are those of Knative Serving's config-autoscaler. The fields up to
    `target_burst_capacity` have an `autoscaling.knative.dev/*` annotation; the others are set for a
    whole cluster. `min_scale` and `max_scale` (0: no bound) equal the service's replicas.
    """

    metric: Literal["concurrency", "rps"] = "concurrency"
    target: float | None = None  # None: containerConcurrency, or 100 (concurrency), 200 (rps)
    target_utilization: float = 0.70  # share of the target that is aimed for
    window_s: float = 60.0
    panic_window_percentage: float = 10.0  # of the window
    panic_threshold_percentage: float = 200.0  # of the target
    min_scale: int = 0
    max_scale: int = 0
    initial_scale: int = 1
    activation_scale: int = 1
    scale_down_delay_s: float = 0.0
    scale_to_zero_pod_retention_s: float = 0.0
    target_burst_capacity: float = 211.0  # -1: no bound
    scale_to_zero_grace_s: float = 30.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0


MODELS_FOLDER = "/mnt/models"  # where KServe puts what storageUri names


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder that `path` stands for in arguments and variables.

    It is what `uri` (a URI or a path) names. Where `uri` is "", it is one that the plane writes:
    `files` by name, of which `path` is `only` that one if it is not "".
    """

    path: str
    uri: str = ""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    only: str = ""


#: What is kept while a service is at zero: nothing; a process that has imported vLLM, which all
#: services share; or one that holds the loaded engine of this service.
ZeroMode = Literal["process", "template", "engine"]


@dataclass(frozen=True, slots=True)
class InferenceService:
    """One model behind one name (serving.kserve.io/v1beta1).

    0 means no bound in `max_replicas` and `container_concurrency`, and off in `idle_timeout_s`.
    `response_start_timeout_s` equals `timeout_s`, as KServe sets both from `timeout`. `annotations`
    are those of the service and its predictor together, as they reach the revision. `args` are for
    vLLM; `folder` is the one in the model's files that is served, "" for all of them.
    `canary_percent` is the share of the requests that the newest revision gets beside the one
    before it; None and 100 give it all of them. `zero` is what stays in memory at zero; None leaves
    it to the machine.
    """

    namespace: str
    name: str
    model_format: str
    storage_uri: str
    runtime: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # a Secret's values too
    folder: str = ""
    mounts: tuple[Mount, ...] = ()
    min_replicas: int = 1
    max_replicas: int = 0
    container_concurrency: int = 0
    timeout_s: float = 300.0
    response_start_timeout_s: float = 300.0
    idle_timeout_s: float = 0.0
    progress_deadline_s: float = 600.0
    autoscaling: Autoscaling = Autoscaling()
    annotations: Mapping[str, str] = field(default_factory=dict)
    canary_percent: int | None = None
    zero: ZeroMode | None = None
    generation: int = 1
    origin: Origin | None = field(default=None, compare=False)
    storage_uri_origin: Origin | None = field(default=None, compare=False)
    min_replicas_origin: Origin | None = field(default=None, compare=False)

    @property
    def revision(self) -> str:
        """The name that Knative gives the revision of this generation."""
        return f"{self.name}-predictor-{self.generation:05d}"

    @property
    def is_model(self) -> bool:
        """Whether it is called through OpenAI's API."""
        return True

    @property
    def source(self) -> str:
        """The `source` attribute of every event that this service sends."""
        return f"/namespaces/{self.namespace}/inferenceservices/{self.name}"


@dataclass(frozen=True, slots=True)
class Ref:
    """Another resource in the same files; its namespace is always filled in."""

    kind: str
    namespace: str
    name: str
    api_version: str


@dataclass(frozen=True, slots=True)
class Destination:
    """A `ref`, with `uri` a path on it that starts with /, or `uri` alone: an http(s) URL."""

    ref: Ref | None = None
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How often, how fast and how long to try, and where to put what cannot be delivered.

    `retry` counts the attempts after the first; `timeout_s` bounds each attempt;
    `retry_after_max_s` bounds what a Retry-After header may ask for (0: the header is ignored).
    """

    retry: int | None = None
    backoff_policy: Literal["linear", "exponential"] | None = None
    backoff_delay_s: float | None = None
    timeout_s: float | None = None
    dead_letter_sink: Destination | None = None
    retry_after_max_s: float | None = None


@dataclass(frozen=True, slots=True)
class Exact:
    """Each attribute is there and equals its value."""

    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Each attribute is there and starts with its value."""

    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Suffix:
    """Each attribute is there and ends with its value."""

    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class All:
    """Every one of at least one filter matches."""

    filters: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Any_:  # noqa: N801 - the API calls it "any"; typing has taken the name
    """One of at least one filter matches."""

    filters: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Negation:
    """The filter does not match."""

    filter: "Filter"


@dataclass(frozen=True, slots=True)
class Cesql:
    """The CESQL expression, which `relume.cesql.parser` can parse, is true."""

    expression: str


Filter = Exact | Prefix | Suffix | All | Any_ | Negation | Cesql


@dataclass(frozen=True, slots=True)
class Broker:
    """Where events of one kind of work come in. `broker_class` is what its annotation names."""

    namespace: str
    name: str
    broker_class: str | None = None
    delivery: Delivery | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Trigger:
    """Which of a Broker's events go to whom.

    `filters`, all of which must match, override `legacy_attributes` (`spec.filter.attributes`, in
    which an empty value means that the attribute is there and not empty). Both None: every event.
    `ordered`: events with the same partition key one after the other. `parallelism`: so many at
    once. Both are annotations that only some Brokers read.
    """

    namespace: str
    name: str
    broker: str
    subscriber: Destination
    filters: tuple[Filter, ...] | None = None
    legacy_attributes: Mapping[str, str] | None = None
    delivery: Delivery | None = None
    ordered: bool = False
    parallelism: int | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One subscriber of a Sequence, and how events are delivered to it."""

    subscriber: Destination
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class SequenceFlow:
    """flows.knative.dev/v1 Sequence: each step gets what the step before it answered.

    `reply` gets what the last step answers (None: nobody does). `channel_delivery` is the delivery
    of the channel template, which counts for a step that has none.
    """

    namespace: str
    name: str
    steps: tuple[Step, ...]
    reply: Destination | None = None
    channel_delivery: Delivery | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Branch:
    """One way through a Parallel.

    `filter` is a subscriber: the event that it answers with goes on to `subscriber`, and without an
    answer nothing does (None: every event goes on). `reply` is None where the Parallel's counts.
    """

    subscriber: Destination
    filter: Destination | None = None
    reply: Destination | None = None
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class ParallelFlow:
    """flows.knative.dev/v1 Parallel: every branch gets every event."""

    namespace: str
    name: str
    branches: tuple[Branch, ...]
    reply: Destination | None = None
    channel_delivery: Delivery | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RequestReply:
    """eventing.knative.dev/v1alpha1 RequestReply: an HTTP request waits for an event's answer.

    The event goes into `broker` with its correlation in `correlation_attribute`; an event of the
    Broker that has the same value in `reply_attribute` is the answer.
    """

    namespace: str
    name: str
    broker: str
    correlation_attribute: str = "correlationid"
    reply_attribute: str = "replyid"
    timeout_s: float = 30.0
    delivery: Delivery | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PingSource:
    """sources.knative.dev/v1 PingSource: the same event at every time of a schedule.

    `timezone` None is the machine's own. `extensions` are those of `ceOverrides`.
    """

    namespace: str
    name: str
    sink: Destination
    schedule: str = "* * * * *"
    timezone: str | None = None
    content_type: str | None = None
    data: bytes | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SinkBinding:
    """sources.knative.dev/v1 SinkBinding: the address of `sink` in the environment of `subject`.

    `extensions` are those of `ceOverrides`, None where the manifest has no overrides.
    """

    namespace: str
    name: str
    sink: Destination
    subject: Ref
    extensions: Mapping[str, str] | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NotHonoured:
    """A field that this machine leaves out without changing an answer, and why it can.

    `field` is written as Kubernetes writes it; `kind` and `name` are the resource's.
    """

    file: Path
    line: int
    field: str
    kind: str
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class CannotRun:
    """Something that this machine cannot do for a resource; a cluster may well.

    `kind` and `name` are the resource's, and `why` says what to write instead.
    """

    origin: Origin
    kind: str
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class OtherDocument:
    """A document of a kind that is not run itself; `api_version` is "" where none is written."""

    api_version: str
    kind: str
    namespace: str
    name: str
    origin: Origin = field(compare=False)
