"""Where the events of settled jobs go: Brokers of this plane, Brokers elsewhere, one fixed URL."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from relume.base.clock import Clock
from relume.base.errors import InvalidInput
from relume.cloudevents.event import CloudEvent
from relume.eventing.envelope import Envelope, coming_in
from relume.eventing.event_log import BrokerKey, EventLog

# A subdomain of DNS (RFC 1123), as names in Kubernetes are.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# For so long a Broker's log that restarts is waited for; then the event is tried again.
_PATIENCE_S = 10.0
# Told of what was stored, and whether it is new: `Ingress.count`.
Stored = Callable[[BrokerKey, Sequence[CloudEvent], Sequence[bool]], None]


class BrokerNotAllowed(InvalidInput):
    """The request names a Broker to which answers do not go from here."""

    reason = "broker-not-allowed"


def _is_name(broker: BrokerKey) -> bool:
    """Whether a cluster could have such a Broker. Nothing else becomes a part of a URL."""
    return all(_NAME.fullmatch(part) for part in (broker.namespace, broker.name))


def _nowhere(_: BrokerKey) -> str | None:
    return None


def _untold(_: BrokerKey, __: Sequence[CloudEvent], ___: Sequence[bool]) -> None: ...


@dataclass(frozen=True, slots=True)
class Sinks:
    """The allowed sinks; a request never names a URL.

    `log` has the Brokers `local`, and `stored` is told of what they take. `url_of` is the ingress
    of any other Broker that may be named (None: it may not). `default` gets the answers of requests
    that name no Broker: a URL (`K_SINK`) or `NAMESPACE/NAME`; None: nobody gets them. `usage` gets
    the usage events, in the same form.
    """

    clock: Clock
    log: EventLog | None = None
    local: Collection[BrokerKey] = field(default_factory=frozenset)
    url_of: Callable[[BrokerKey], str | None] = _nowhere
    default: str | None = None
    usage: str | None = None
    stored: Stored = _untold

    def reply_to(self, broker: BrokerKey | None) -> str | None:
        """What a job keeps as its `reply_to`. Raises BrokerNotAllowed."""
        if broker is None:
            return self.default
        if not _is_name(broker) or self.find(str(broker)) is None:
            raise BrokerNotAllowed(f"broker: answers do not go to Broker {broker} from here")
        return str(broker)

    def find(self, sink: str) -> BrokerKey | str | None:
        """The local Broker or the URL that a kept name means; None: there is none any more."""
        if sink.startswith(("http://", "https://")):
            return sink
        namespace, _, name = sink.partition("/")
        broker = BrokerKey(namespace, name)
        return broker if broker in self.local else self.url_of(broker)

    async def take(self, broker: BrokerKey, event: CloudEvent) -> None:
        """Store an event in a local Broker, once.

        A full Broker takes it too: answers belong to accepted events. Raises TtlExhausted,
        AttributesTooLong, EventTooLarge, StoreUnavailable and DiskFull.
        """
        assert self.log is not None
        envelope = Envelope(coming_in(event, self.clock.now()))
        new = await self.log.append(broker, envelope, _PATIENCE_S)
        self.stored(broker, [envelope.event], [new])
