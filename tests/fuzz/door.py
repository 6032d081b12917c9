"""The real ingress, called as an ASGI server calls it, over a log that checks and forgets."""

import json
import logging
from collections import Counter
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from relume.base.clock import SystemClock
from relume.cloudevents.event import canonical
from relume.cloudevents.http import Mode, decode, encode
from relume.eventing.envelope import Envelope, going_out, identity
from relume.eventing.event_log import BrokerKey, EventLog, EventTooLarge
from relume.eventing.ingress import Ingress
from relume.eventing.observer import Observer
from relume.eventing.settings import EventingSettings

from .messages import Request

BROKER = BrokerKey("default", "b")
MOST_BYTES = 600


class Complaint(AssertionError):
    """The ingress did what it must never do."""


class ForgetfulLog:
    """Takes what a log takes, after it has seen that a subscriber could be sent it."""

    async def admit(self, broker: BrokerKey) -> None:
        pass

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        payload = envelope.pack()
        if len(payload) > 20 * MOST_BYTES:
            raise EventTooLarge("too large for this log")
        back = Envelope.unpack(payload)
        event = going_out(back.event)
        if back.event != envelope.event:
            raise Complaint(f"stored {envelope.event}, found {back.event}")
        strings = {name: canonical(value) for name, value in event.attributes.items()}
        for mode in Mode:
            sent = decode(*encode(event, mode)).event
            if {name: canonical(value) for name, value in sent.attributes.items()} != strings:
                raise Complaint(f"{mode} changes {event} to {sent}")
        for name, value in back.headers.items():
            if not (name + value).isprintable() or not (name + value).isascii():
                raise Complaint(f"the header {name!r}: {value!r} is passed on")
        return len(identity(event)) > 0

    async def append_all(
        self, broker: BrokerKey, envelopes: Sequence[Envelope], patience_s: float
    ) -> Sequence[bool]:
        return [await self.append(broker, each, patience_s) for each in envelopes]


@dataclass(frozen=True, slots=True)
class Answer:
    """None stands for a status that was never sent: the client had gone away."""

    status: int | None
    body: bytes


class Door(logging.Handler):
    """The ingress with a Broker; counts what it answers, and hears what it logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        settings = EventingSettings(
            max_event_bytes=MOST_BYTES, max_batch_bytes=2 * MOST_BYTES, max_batch_events=2
        )
        self.app = Ingress([BROKER], Observer(remember=50), SystemClock(), settings)
        self.app.open(cast(EventLog, ForgetfulLog()))
        self.logged: list[str] = []
        self.seen: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.append(self.format(record))

    async def ask(self, request: Request) -> Answer:
        """Post it. What escapes from the ingress, which a server answers with 500, escapes here."""
        scope = {
            **{"type": "http", "http_version": "1.1", "scheme": "http", "query_string": b""},
            **{"method": request.method, "path": request.path, "headers": request.headers},
        }
        *first, last = request.chunks
        incoming: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": True} for chunk in first
        ]
        if request.goes_away:
            incoming.append({"type": "http.disconnect"})
        else:
            incoming.append({"type": "http.request", "body": last, "more_body": False})
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return incoming.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return Answer(None, b"")
        return Answer(sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:]))

    async def try_out(self, request: Request) -> None:
        """Ask, and raise Complaint unless the answer is one that the ingress may give."""
        answer = await self.ask(request)
        if answer.status is None:
            if not request.goes_away:
                raise Complaint("no answer")
            self.seen["gone"] += 1
            return
        if answer.status not in (200, 202, 400, 404, 405, 413):
            raise Complaint(f"{answer.status}: {answer.body!r}")
        reason = json.loads(answer.body)["reason"] if answer.status >= 400 else ""
        self.seen[f"{answer.status} {reason}".strip()] += 1
        if self.logged:
            raise Complaint(f"logged: {self.logged}")
