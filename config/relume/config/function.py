"""A Knative Function as a type: what its func.yaml says, with every default filled in.

A function is a Knative Service (serving.knative.dev/v1) of the same name and namespace. The
defaults are those of a Knative Service, and so is the name of its revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relume.base.vocabulary import JsonValue
from relume.config.resources import Autoscaling, Origin

ObjectKind = Literal["Secret", "ConfigMap"]
Invoke = Literal["http", "cloudevent"]


@dataclass(frozen=True, slots=True)
class FromObject:
    """A value of a Secret or a ConfigMap of the function's namespace; key None: all of them."""

    kind: ObjectKind
    name: str
    key: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the environment; name "" where an object's keys are the names."""

    name: str
    value: str | FromObject
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ObjectMount:
    """A folder of files at `path`: one file for each key of an object, or none (emptyDir)."""

    path: str
    source: FromObject | None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class BrokerSubscription:
    """Events of a Broker of the namespace whose attributes have these values."""

    broker: str
    attributes: Mapping[str, str]
    origin: Origin | None = field(default=None, compare=False)


DEFAULT_TIMEOUT_S = 300.0  # Knative's revision-timeout-seconds


@dataclass(frozen=True, slots=True)
class Function:
    """One function; `folder` is where its func.yaml and its pyproject.toml are.

    0 means no bound in `max_replicas`, `container_concurrency` and `idle_timeout_s`. `resources`
    are requests and limits as they were written, `image` what was built of it (None: not named).
    """

    namespace: str
    name: str
    folder: Path
    invoke: Invoke = "http"
    image: str | None = None
    variables: tuple[Variable, ...] = ()
    mounts: tuple[ObjectMount, ...] = ()
    subscriptions: tuple[BrokerSubscription, ...] = ()
    resources: Mapping[str, JsonValue] = field(default_factory=dict)
    memory_bytes: int | None = None
    liveness: str = "/health/liveness"
    readiness: str = "/health/readiness"
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str | None = None
    pull_secret: str | None = None
    container_concurrency: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S
    response_start_timeout_s: float = DEFAULT_TIMEOUT_S
    idle_timeout_s: float = 0.0
    progress_deadline_s: float = 600.0
    autoscaling: Autoscaling = field(default_factory=Autoscaling)
    annotations: Mapping[str, str] = field(default_factory=dict)
    generation: int = 1
    origin: Origin | None = field(default=None, compare=False)

    @property
    def min_replicas(self) -> int:
        return self.autoscaling.min_scale

    @property
    def max_replicas(self) -> int:
        return self.autoscaling.max_scale

    @property
    def revision(self) -> str:
        """The name that Knative gives the revision of this generation."""
        return f"{self.name}-{self.generation:05d}"

    @property
    def args(self) -> tuple[str, ...]:
        """None: a function has no arguments of vLLM."""
        return ()

    @property
    def canary_percent(self) -> int | None:
        """None: a function has one revision at a time."""
        return None

    @property
    def is_model(self) -> bool:
        """Whether it is called through OpenAI's API."""
        return False


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """A Knative Service document: what it sets of the function of its name, None where nothing.

    `image_origin` is where its container names an image, or its container where it names none.
    """

    namespace: str
    name: str
    annotations: Mapping[str, str]
    autoscaling: Autoscaling | None
    variables: tuple[Variable, ...]
    container_concurrency: int | None
    timeout_s: float | None
    response_start_timeout_s: float | None
    idle_timeout_s: float | None
    resources: Mapping[str, JsonValue] | None
    memory_bytes: int | None
    image_origin: Origin


@dataclass(frozen=True, slots=True)
class ConfigObject:
    """A Secret or a ConfigMap: its keys and their bytes."""

    kind: ObjectKind
    namespace: str
    name: str
    data: Mapping[str, bytes] = field(repr=False)
    origin: Origin | None = field(default=None, compare=False)


Objects = Mapping[tuple[str, str, str], ConfigObject]  # by kind, namespace, name
