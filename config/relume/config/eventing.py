"""Brokers, Triggers and deliveries (eventing.knative.dev/v1), every duration in seconds.

None means that the manifest says nothing: which default then applies is the Broker's matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relume.config.services import Origin


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
class Not:
    """The filter does not match."""

    filter: "Filter"


@dataclass(frozen=True, slots=True)
class Cesql:
    """The CESQL expression, which `relume.cesql.parser` can parse, is true."""

    expression: str


Filter = Exact | Prefix | Suffix | All | Any_ | Not | Cesql


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
