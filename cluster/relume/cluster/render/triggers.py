"""Triggers for a cluster: delivery that outlasts a cold start, as the Broker's class needs it."""

from dataclasses import dataclass

from relume.base.vocabulary import DELIVERY_ORDER, PARALLELISM
from relume.cluster.render import rules
from relume.cluster.render.book import Book, Setting
from relume.cluster.render.brokers import EVENTING
from relume.cluster.render.budget import Budget, backoff_s
from relume.cluster.render.draft import Draft, Json
from relume.cluster.render.options import BrokerClass
from relume.cluster.render.originals import BASE, Original
from relume.config import Broker, Delivery, InferenceService, Trigger

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
    broker_original: Original,
    subscriber: Subscriber | None,
    kind: BrokerClass | None,
    book: Book,
) -> None:
    """The Trigger, with delivery that outlasts a cold start where a service is behind it."""
    draft = book.adopt(original.file, original.body())
    if kind == "rabbitmq":
        _use_legacy_filter(draft, original)
    delivery = trigger.delivery or broker.delivery
    if delivery is not None and delivery.retry_after_max_s is not None:
        why = f"Trigger {original.namespace}/{original.name} has delivery.retryAfterMax"
        book.need(Setting(EVENTING, "config-features", "delivery-retryafter", "Enabled", why))
    written = broker_original.body().get("spec")
    inherited = written.get("delivery") if isinstance(written, dict) else None
    if subscriber is not None:
        _deliver(draft, trigger.delivery, broker, inherited, subscriber.budget)
    _say_again(draft, inherited, kind)
    if subscriber is None:
        return
    if kind == "kafka" and draft.get(*_NOTES, DELIVERY_ORDER) is None:
        reason = "in order it is one event of a partition at a time, and vLLM batches nothing"
        draft.set((*_NOTES, DELIVERY_ORDER), "unordered", rules.IN_FLIGHT, reason)
    if kind == "rabbitmq" and draft.get(*_NOTES, PARALLELISM) is None:
        parallelism = str(_parallelism(subscriber.service))
        reason = "what the service's replicas take at once; the default is one event at a time"
        draft.set((*_NOTES, PARALLELISM), parallelism, rules.IN_FLIGHT, reason)


def _deliver(
    draft: Draft, own: Delivery | None, broker: Broker, written: Json, budget: Budget
) -> None:
    """Timeout, retries and backoff.

    A Trigger's delivery hides its Broker's, of which Knative then takes the dead letter sink alone;
    so what else was `written` there is said again.
    """
    given = own or broker.delivery or Delivery()
    retries = _DEFAULT_RETRIES if given.retry is None else given.retry
    policy = given.backoff_policy or "exponential"
    wanted: dict[str, tuple[Json, str]] = {}
    if (given.timeout_s or 0) < budget.delivery_s:
        reason = f"more than the service's own timeout of {budget.timeout_s} s"
        wanted["timeout"] = f"PT{budget.delivery_s}S", reason
    if given.retry is None:
        wanted["retry"] = retries, ""
    if given.backoff_policy is None:
        wanted["backoffPolicy"] = policy, ""
    least = backoff_s(budget.cold_start_s, retries, policy)
    if least is not None and (given.backoff_delay_s or 0) < least:
        reason = f"{retries} retries then outlast a cold start of {budget.cold_start_s} s"
        wanted["backoffDelay"] = f"PT{least}S", reason
    if own is None and isinstance(written, dict):
        reason = "the Broker's, which a delivery of the Trigger's own hides"
        copied = written.keys() - wanted.keys() - {"deadLetterSink"}
        wanted |= {name: (written[name], reason) for name in sorted(copied)}
    for name, (value, reason) in wanted.items():
        draft.set((*_DELIVERY, name), value, rules.DELIVERY, reason)


def _say_again(draft: Draft, written: Json, kind: BrokerClass | None) -> None:
    """What a Trigger does not take from its Broker's delivery, as it was `written` there.

    RabbitMQ's takes nothing beside a delivery of its own, the dead letter sink included (its
    dispatcher acknowledges and publishes to no exchange); NATS's never takes anything.
    Sources: eventing-rabbitmq pkg/reconciler/trigger/trigger.go, eventing-natss
    pkg/broker/{trigger,filter}/reconciler.go.
    """
    given = draft.get(*_DELIVERY) is not None
    if not isinstance(written, dict) or not (kind == "nats" or (kind == "rabbitmq" and given)):
        return
    names = {"deadLetterSink"} if given else set(written)
    for name in sorted(names & written.keys()):
        if draft.get(*_DELIVERY, name) is None:
            reason = "the Broker's, which this class of Broker does not use for a Trigger"
            draft.set((*_DELIVERY, name), written[name], rules.DELIVERY, reason)


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
