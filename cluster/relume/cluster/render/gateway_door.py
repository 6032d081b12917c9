"""Triggers that deliver to the jobs gateway instead of to a model, and where replies go.

A Broker holds the connection of a delivery until the model has answered, a cold start included. The
gateway stores the event and answers 202 at once, and posts the reply event to the Broker when the
job is settled. Where each class of Broker takes events in: knative/eventing,
eventing-kafka-broker, eventing-rabbitmq and eventing-natss (pkg/broker/controller).
"""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from relume.base.vocabulary import JsonValue
from relume.cluster.admission.judge import content
from relume.cluster.render import rules
from relume.cluster.render.draft import Book, Draft
from relume.cluster.render.options import BrokerClass, Options
from relume.cluster.render.originals import Original
from relume.cluster.render.runtimes import GATEWAY_IMAGE
from relume.config import Broker, Delivery, Trigger

#: Where the delivery of a Broker or Trigger is, and why what it inherits is written again.
DELIVERY = ("spec", "delivery")
HIDDEN = "the Broker's, which a delivery of the Trigger's own hides"
_SHARED = "http://{service}.knative-eventing.svc.cluster.local/{{namespace}}/{{name}}"
_BROKER_URLS: Mapping[BrokerClass, str] = {
    "kafka": _SHARED.format(service="kafka-broker-ingress"),
    "mt": _SHARED.format(service="broker-ingress"),
    "nats": _SHARED.format(service="nats-broker-ingress"),
    "rabbitmq": "http://{name}-broker-ingress.{namespace}.svc.cluster.local",
}
# The gateway waits up to 10 s for a NATS that elects a leader before it answers 503.
_TIMEOUT_S, _SHORTEST_S, _LONGEST_S = 30, 15, 60
# With waits of 1, 2, 4, … 512 s: a quarter of an hour without NATS, or without a gateway.
_RETRIES, _POLICY, _DELAY = 10, "exponential", "PT1S"


class Door:
    """Which Triggers deliver to the gateway, and which class of Broker gets its replies.

    One gateway posts to Brokers of one class, because each class has its ingress elsewhere. The
    first Trigger that is turned decides it.
    """

    def __init__(self, options: Options, served: Collection[tuple[str, str]]) -> None:
        self._options = options
        self._served = served
        self._url = None if options.gateway is None else options.gateway.broker_url
        #: The namespace and the class of the Broker of each Trigger that was turned.
        self.turned: list[tuple[str, str]] = []

    @property
    def broker_url(self) -> str:
        """The template of the Brokers' ingress."""
        return self._url or _BROKER_URLS["mt"]

    def takes(
        self,
        trigger: Trigger,
        original: Original,
        broker: Broker,
        kind: BrokerClass | None,
        book: Book,
    ) -> bool:
        """Whether the Trigger is to deliver to the gateway; a note says why one is not."""
        ref = trigger.subscriber.ref
        if self._options.gateway is None or ref is None or ref.kind != "InferenceService":
            return False
        if (ref.namespace, ref.name) not in self._served:
            return False
        if broker.namespace not in {namespace for namespace, _ in self._served}:
            book.note(
                original.at("spec", "subscriber"),
                "stays as it is: the jobs gateway posts replies to Brokers in the namespaces of "
                f"its services, and none of them is in {broker.namespace}",
            )
            return False
        if self._options.gateway.broker_url is None:
            url = _BROKER_URLS[kind or "mt"]
            if self._url is not None and url != self._url:
                book.note(
                    original.at("spec", "broker"),
                    "stays as it is: the jobs gateway posts replies to Brokers of one class, and "
                    "another Trigger has decided which; --broker gives all Brokers one class",
                )
                return False
            self._url = url
            if kind is None:
                book.note(
                    original.at("spec", "broker"),
                    "the cluster chooses the Broker's class, and the jobs gateway posts replies "
                    f"to {url}: write --broker or --broker-url where it is another one",
                )
        self.turned.append((original.namespace, kind or ""))
        return True

    def turn(
        self,
        draft: Draft,
        trigger: Trigger,
        original: Original,
        broker: Broker,
        written: JsonValue,
    ) -> None:
        """Let the Trigger deliver to the gateway.

        `written` is the Broker's delivery as it was written, None where there is none.
        """
        gateway, ref = self._options.gateway, trigger.subscriber.ref
        assert gateway is not None and ref is not None
        route = urlsplit(content(original.node("spec", "subscriber", "uri")))
        query = f"{route.query}&" if route.query else ""
        path = f"/events/{ref.namespace}/{ref.name}/{route.path.lstrip('/')}"
        there: dict[str, JsonValue] = {
            "apiVersion": "v1",
            "kind": "Service",
            "name": GATEWAY_IMAGE,
            "namespace": gateway.namespace,
        }
        subscriber: dict[str, JsonValue] = {
            "ref": there,
            "uri": f"{path}?{query}broker={broker.namespace}/{broker.name}",
        }
        draft.set(("spec", "subscriber"), subscriber, rules.GATEWAY_DOOR)
        _deliver(draft, trigger.delivery, broker.delivery, written)


def _deliver(
    draft: Draft, own: Delivery | None, inherited: Delivery | None, written: JsonValue
) -> None:
    """A delivery for a door that answers at once, and for an event that must not be lost there."""
    given = own or inherited or Delivery()
    wanted: dict[str, tuple[JsonValue, str]] = {}
    if not _SHORTEST_S <= (given.timeout_s or 0) <= _LONGEST_S:
        reason = "202 comes when the event is stored; the model's time is the job's, not this one"
        wanted["timeout"] = f"PT{_TIMEOUT_S}S", reason
    if given.retry is None or given.retry < _RETRIES:
        reason = (
            "the retries outlast a quarter of an hour without NATS or without a gateway; the "
            "job's own attempts at the model are counted by the gateway"
        )
        wanted["retry"] = _RETRIES, reason
    if given.backoff_policy is None:
        wanted["backoffPolicy"] = _POLICY, "each wait is twice the one before"
    if given.backoff_delay_s is None:
        wanted["backoffDelay"] = _DELAY, "the first wait"
    if own is None and isinstance(written, dict):
        copied = written.keys() - wanted.keys() - {"deadLetterSink"}
        wanted |= {name: (written[name], HIDDEN) for name in sorted(copied)}
    for name, (value, reason) in wanted.items():
        draft.set((*DELIVERY, name), value, rules.GATEWAY_DOOR, reason)
