"""Triggers for a cluster: delivery that outlasts a cold start, as the Broker's class needs it."""

from dataclasses import dataclass

from relume.config.broker_classes import DELIVERY_ORDER, PARALLELISM
from relume.config.durations import iso8601_duration
from relume.config.eventing import Broker, Delivery, Trigger
from relume.config.render import rules
from relume.config.render.book import Book, Setting
from relume.config.render.brokers import EVENTING
from relume.config.render.budget import Budget, backoff_s
from relume.config.render.draft import Draft, Json
from relume.config.render.options import BrokerClass
from relume.config.render.originals import BASE, Original
from relume.config.services import InferenceService

_NOTES = ("metadata", "annotations")
_DELIVERY = ("spec", "delivery")
_DEFAULT_RETRIES = 5
_MOST_PARALLELISM = 1000
_PARALLELISM = 50  # of a service without a bound; as many as the Kafka broker has in flight


@dataclass(frozen=True, slots=True)
class Subscriber:
    """The service behind a Trigger, and its budget."""

    service: InferenceService
    budget: Budget


def render_trigger(
    trigger: Trigger,
    original: Original,
    broker: Broker,
    subscriber: Subscriber | None,
    kind: BrokerClass | None,
    book: Book,
) -> None:
    """The Trigger, with delivery that outlasts a cold start where a service is behind it."""
    draft = book.adopt(original.file, original.body())
    if kind == "rabbitmq":
        _use_legacy_filter(draft, original)
    if trigger.delivery is not None and trigger.delivery.retry_after_max_s is not None:
        why = f"Trigger {original.namespace}/{original.name} sets delivery.retryAfterMax"
        book.need(Setting(EVENTING, "config-features", "delivery-retryafter", "Enabled", why))
    if subscriber is None:
        return
    _deliver(draft, trigger.delivery, broker.delivery, subscriber.budget)
    if kind == "kafka" and draft.get(*_NOTES, DELIVERY_ORDER) is None:
        reason = "in order it is one event of a partition at a time, and vLLM batches nothing"
        draft.set((*_NOTES, DELIVERY_ORDER), "unordered", rules.IN_FLIGHT, reason)
    if kind == "rabbitmq" and draft.get(*_NOTES, PARALLELISM) is None:
        parallelism = str(_parallelism(subscriber.service))
        reason = "what the service's replicas take at once; the default is one event at a time"
        draft.set((*_NOTES, PARALLELISM), parallelism, rules.IN_FLIGHT, reason)


def _deliver(
    draft: Draft,
    own: Delivery | None,
    inherited: Delivery | None,
    budget: Budget,
) -> None:
    """Timeout, retries and backoff. A Trigger's delivery hides its Broker's, so all of it is said.

    Knative falls back on the Broker's for the dead letter sink alone.
    """
    given = own or inherited or Delivery()
    if (given.timeout_s or 0) < budget.delivery_s:
        reason = f"more than the service's own timeout of {budget.timeout_s} s"
        draft.set((*_DELIVERY, "timeout"), _iso(budget.delivery_s), rules.DELIVERY, reason)
    elif own is None:
        _copy(draft, "timeout", _iso(given.timeout_s or 0))
    retries = _DEFAULT_RETRIES if given.retry is None else given.retry
    if draft.get(*_DELIVERY, "retry") is None:
        draft.set((*_DELIVERY, "retry"), retries, rules.DELIVERY)
    policy = given.backoff_policy or "exponential"
    if draft.get(*_DELIVERY, "backoffPolicy") is None:
        draft.set((*_DELIVERY, "backoffPolicy"), policy, rules.DELIVERY)
    least = backoff_s(budget.cold_start_s, retries, policy)
    if least is not None and (given.backoff_delay_s or 0) < least:
        reason = f"{retries} retries then outlast a cold start of {budget.cold_start_s} s"
        draft.set((*_DELIVERY, "backoffDelay"), _iso(least), rules.DELIVERY, reason)
    elif draft.get(*_DELIVERY, "backoffDelay") is None:
        _copy(draft, "backoffDelay", _iso(given.backoff_delay_s or 1))


def _copy(draft: Draft, name: str, value: str) -> None:
    reason = "the Broker's, which a delivery of the Trigger's own hides"
    draft.set((*_DELIVERY, name), value, rules.DELIVERY, reason)


def _iso(seconds: float) -> str:
    text = f"PT{seconds:g}S"
    assert iso8601_duration(text) == seconds
    return text


def _parallelism(service: InferenceService) -> int:
    at_once = service.container_concurrency * max(1, service.max_replicas)
    return min(at_once or _PARALLELISM, _MOST_PARALLELISM)


def _use_legacy_filter(draft: Draft, original: Original) -> None:
    """`filters` of exact values become `filter.attributes`; nothing else can be said there."""
    node = original.node("spec", "filters")
    if node is None:
        return
    attributes: dict[str, Json] = {}
    for item in node.items():
        table = item.table()
        exact = table.get("exact")
        if exact is None:
            dialect = next(iter(table.entries), "")
            raise item.wrong(
                f"cannot work with --broker rabbitmq, which compares exact values only, not "
                f"{dialect}"
            )
        for name, value in exact.table():
            if attributes.setdefault(name, value.text()) != value.text():
                raise value.wrong(f"no event matches: {name} is {attributes[name]} above")
    draft.remove(("spec", "filters"), rules.LEGACY_FILTER)
    if attributes:
        draft.set(("spec", "filter"), {"attributes": attributes}, rules.LEGACY_FILTER)


def add_addressable(book: Book) -> None:
    """Let Knative resolve a subscriber that is an InferenceService."""
    role = book.begin(
        f"{BASE}/addressable.yaml",
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        "relume-inferenceservices-addressable",
        rules.ADDRESSABLE,
    )
    reason = "Knative adds the rules of every ClusterRole with this label to its resolver's"
    label = ("metadata", "labels", "duck.knative.dev/addressable")
    role.set(label, "true", rules.ADDRESSABLE, reason)
    rule: Json = {
        "apiGroups": ["serving.kserve.io"],
        "resources": ["inferenceservices", "inferenceservices/status"],
        "verbs": ["get", "list", "watch"],
    }
    role.set(("rules",), [rule], rules.ADDRESSABLE)
