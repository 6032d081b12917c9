"""A stand-in for a plane: the real control API over canned state, and a Broker that answers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import decode
from relume.eventing.envelope import Envelope, identity
from relume.eventing.event_log import BrokerKey
from relume.eventing.observer import Record
from relume.plane.addresses import listen, url_of
from relume.plane.control import Control
from relume.plane.server import HttpServer
from tests.cli.plane_thread import PlaneThread

COLD_START = {
    "at": "2026-01-01T00:00:00.000+00:00",
    "namespace": "default",
    "service": "summarizer",
    "revision": "summarizer-predictor-00001",
    "started": "template",
    "triggered_by": "event-1",
    "queue": 4.0,
    "fork": 20.0,
    "import": None,
    "config": 250.0,
    "weights": 300.0,
    "engine": 900.0,
    "warmup": 100.0,
    "first_token": 700.0,
    "ready": 1596.0,
    "total": 2300.0,
    "outcome": "ready",
    "reason": None,
}
SERVICE: dict[str, object] = {
    "namespace": "default",
    "name": "summarizer",
    "revision": "summarizer-predictor-00001",
    "state": "ready",
    "reason": None,
    "phase": None,
    "replicas": 1,
    "desired": 1,
    "held": 0,
    "in_flight": 2,
    "url": "http://127.0.0.1:8080/serving/default/summarizer",
    "pids": [4711],
    "cold_starts": 3,
    "last_cold_start": COLD_START,
    "log_tail": [],
}


LONG_ANSWER = {"choices": [{"text": "On and on. " * 9000 + "The end."}]}


class StandIn(PlaneThread):
    """A plane in a thread. The type of an event decides what becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.services: list[dict[str, object]] = [SERVICE]
        self.brokers = ["inbox"]
        self.seen: list[tuple[dict[str, str], CloudEvent]] = []
        self.stored: dict[str, CloudEvent] = {}
        self._ingress = listen(0, "--broker-port")
        self.ingress = url_of(self._ingress)

    async def _run(self) -> None:
        control = Control(
            status=self._shown,
            cold_starts=lambda: [COLD_START],
            observer=self.observer,
            recall=self._recall,
        )
        await self._serve(control, HttpServer(self._receive, self._ingress))

    async def _recall(self, broker: BrokerKey, key: str) -> Envelope | None:
        event = self.stored.get(f"{broker} {key}")
        return None if event is None else Envelope(event)

    def _shown(self) -> Mapping[str, object]:
        brokers = [
            {
                "namespace": "default",
                "name": name,
                "url": f"{self.ingress}/default/{name}",
                "dead_letters": 0,
            }
            for name in self.brokers
        ]
        return self._status(
            broker=self.ingress,
            serving={"services": self.services},
            eventing={"brokers": brokers, "triggers": []},
            template={"state": "ready", "pid": 99, "rss_mb": 612.0},
            of_a_newer_plane=True,
        )

    async def _receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        headers = list(request.headers.items())
        try:
            event = decode(headers, await request.body()).event
        except InvalidEvent as error:
            await Response(str(error), status_code=400)(scope, receive, send)
            return
        self.seen.append((dict(headers), event))
        if event.type == "refuse":
            await Response("the store is away", status_code=503)(scope, receive, send)
            return
        self._tell("accepted", event)
        await Response(status_code=202)(scope, receive, send)
        self._deliver(event)

    def _deliver(self, event: CloudEvent) -> None:
        if event.type == "ask":
            self._answer(event, "relume.inference.response", {"choices": [{"text": "It sleeps."}]})
        elif event.type == "ask-wrongly":
            self._answer(event, "relume.inference.error", {"error": {"message": "no messages"}})
        elif event.type == "ask-at-length":
            self._answer(event, "relume.inference.response", LONG_ANSWER)
        elif event.type == "die":
            self._tell("dead-lettered", event, trigger="summarize", status=500, detail="exhausted")
        elif event.type == "vanish":
            self._tell("dropped", event, trigger="summarize", status=400, detail="lost")
        elif event.type == "again":
            self._tell("duplicate", event)

    def _answer(self, event: CloudEvent, type_: str, data: object) -> None:
        answer = CloudEvent.create(
            {
                "id": f"answer-to-{event.id}",
                "source": "/namespaces/default/inferenceservices/summarizer",
                "type": type_,
                "datacontenttype": "application/json",
                "causationid": event.id,
                "prompttokens": 12,
            },
            json.dumps(data).encode(),
        )
        self._tell("delivered", event, trigger="summarize", attempt=1, status=200, ms=2300.0)
        self.stored[f"default/inbox {identity(answer, 'summarize')}"] = answer
        self._tell("replied", answer, trigger="summarize", via="summarize")

    def _tell(self, stage: str, event: CloudEvent, **more: object) -> None:
        at = f"2026-01-01T00:00:0{min(len(self.seen), 9)}.000Z"
        record = Record(at=at, stage=stage, broker="default/inbox", event=event, **more)  # type: ignore[arg-type]
        self.observer.publish(record)


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A plane that `relume` finds by RELUME_URL."""
    monkeypatch.setenv("RELUME_STATE", str(tmp_path / "state"))
    with StandIn() as stand_in:
        monkeypatch.setenv("RELUME_URL", stand_in.url)
        yield stand_in
