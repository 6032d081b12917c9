"""Every event that a Broker accepts gets exactly one answer or one error event from a model.

Everything on the way is ours and real but for the model: the door, the courier, the plane's HTTP
server with the activator in it, and an HTTP server with the middleware of the predictor. Between
them are sockets, because what is tried here are the limits of servers and clients.
"""

import asyncio
import json
import string
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from relume.base.clock import SystemClock
from relume.base.limits import ATTRIBUTE_BYTES, ATTRIBUTES, EVENT_BYTES
from relume.base.vocabulary import COPIED_ATTRIBUTES, ERROR, OWN_TYPES, RESPONSE
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import Mode
from relume.config import Delivery, Exact, InferenceService
from relume.eventing.envelope import going_out
from relume.eventing.observer import Record
from relume.plane.addresses import listen, url_of
from relume.plane.server import HttpServer
from relume.runtimes.drain import IN_FLIGHT
from relume.runtimes.middleware import CloudEvents
from relume.runtimes.phases import PROCESS
from relume.serving.plane import ServingPlane
from relume.serving.testing import RunningLauncher
from tests.cloud_events import events
from tests.eventing.stage import BROKER, BrokerStage, trigger

ASKED = b'{"messages": [{"role": "user", "content": "hi"}]}'
ENDS = ("replied", "delivered", "dead-lettered", "dropped")


class Model:
    """Plays vLLM's server under our middleware; counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/health", lambda _: Response()),
            Route("/startup", lambda _: JSONResponse({"phase": "ready", "phases_ms": {}})),
        ]
        self.app = Starlette(routes=routes)
        self.app.add_middleware(CloudEvents)
        self.app.state.relume_model = "model"

    async def _chat(self, request: Request) -> Response:
        await request.body()
        self.asked += 1
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": "hello"}}]})

    async def _embeddings(self, request: Request) -> Response:
        """384 numbers for each text."""
        texts = json.loads(await request.body())["input"]
        self.asked += 1
        vector = [0.0123456789] * 384
        rows = [{"index": n, "embedding": vector} for n in range(len(texts))]
        return JSONResponse({"data": rows})


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The URL at which `app` is served."""
    listening = listen(0, "--port")
    server = HttpServer(app, listening)
    task = asyncio.create_task(server.serve())
    try:
        yield url_of(listening)
    finally:
        server.stop_now()
        await task
        listening.close()


@dataclass
class Way:
    """From the door of a Broker to the model and back."""

    stage: BrokerStage
    model: Model

    async def fate(self, event: CloudEvent, mode: Mode = Mode.STRUCTURED) -> "Fate | None":
        """What became of an event; None: the door refused it."""
        asked = self.model.asked
        response = await self.stage.post(event, mode)
        if response.status_code != 202:
            assert response.status_code in (400, 413)
            assert response.json()["reason"] in ("attributes-too-long", "invalid-event")
            return None
        records: list[Record] = []
        async with asyncio.timeout(60):
            while not records or records[-1].stage not in ENDS:
                records.append(await anext(self.stage.records))
            if records[-1].stage == "replied":
                records.append(await anext(self.stage.records))
        return Fate(records, self.model.asked - asked)


@dataclass(frozen=True)
class Fate:
    """The records of one event, and how often the model ran for it."""

    records: list[Record]
    runs: int

    @property
    def answers(self) -> list[CloudEvent]:
        return [each.event for each in self.records if each.stage == "replied"]

    def is_right_for(self, event: CloudEvent) -> None:
        """Assert that there is one answer after one delivery, with what it takes over."""
        stages = [record.stage for record in self.records]
        assert stages == ["accepted", "delivering", "replied", "accepted"], self.records
        [answer] = self.answers
        assert answer.type in (RESPONSE, ERROR)
        assert answer.attributes["causationid"] == event.id
        for name in COPIED_ATTRIBUTES:
            value = event.attributes.get(name)
            assert answer.attributes.get(name) == (None if value is None else canonical_of(value))
        assert self.runs <= 1


def canonical_of(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@asynccontextmanager
async def way() -> AsyncIterator[Way]:
    """A Broker whose Trigger asks an InferenceService of the same plane."""
    model = Model()
    PROCESS.renew()
    PROCESS.state = "ready"
    service = InferenceService(
        namespace="default", name="m", model_format="vLLM", storage_uri="x", min_replicas=1
    )
    with TemporaryDirectory() as folder:
        async with serving(model.app) as predictor_url:
            plane = ServingPlane(
                [service], RunningLauncher(predictor_url), log_dir=Path(folder) / "logs"
            )
            await plane.start()
            try:
                async with serving(plane.app) as url:
                    # Dead letters stay with the Broker; a retry would show at once.
                    asks = trigger(
                        "ask",
                        f"{url}/serving/default/m/",
                        delivery=Delivery(retry=3, backoff_delay_s=0.0),
                        filters=(Exact({"subscriber": "model"}),),
                    )
                    async with BrokerStage([asks], clock=SystemClock()) as stage:
                        yield Way(stage, model)
            finally:
                await plane.stop(0)
                PROCESS.renew()
    assert IN_FLIGHT.requests == 0


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def whole_way(runner: asyncio.Runner) -> Iterator[Way]:
    """One way for all examples: to build it takes longer than to use it."""
    manager = way()
    yield runner.run(manager.__aenter__())
    runner.run(manager.__aexit__(None, None, None))


CHARACTERS = st.sampled_from("ax/ €é😀\"%\\'~;,\N{NO-BREAK SPACE}\N{CJK UNIFIED IDEOGRAPH-4E00}")
# Around the bound for one value, whatever a character takes as a header, and far beyond it.
LENGTHS = st.one_of(
    st.integers(1, 40),
    *(
        st.integers(ATTRIBUTE_BYTES // each - 40, ATTRIBUTE_BYTES // each + 40)
        for each in (1, 3, 6, 9, 12)
    ),
    st.sampled_from([8_000, 16_000, 32_000, 70_000, 200_000]),
)
LONG = st.builds(lambda piece, length: (piece * length)[:length], CHARACTERS, LENGTHS)
ANY = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=60)
NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
COPIED = st.sampled_from([*COPIED_ATTRIBUTES, "causationid", "replyid", "queuems", "expirytime"])
CONTENT_TYPES = st.sampled_from(
    [
        *("application/json", "text/plain", "application/json; charset=utf-16", "image/png"),
        *("application/cloudevents+json", "application/cloudevents-batch+json"),
        *("application/cloudevents", "APPLICATION/CLOUDEVENTS+JSON; charset=utf-8"),
    ]
)


@st.composite
def hard_events(draw: st.DrawFn) -> CloudEvent:
    """Events with attributes of any length, number and script, most of which ask for a chat."""
    if draw(st.integers(0, 3)) == 0:
        drawn = draw(events())
        attributes, data = dict[str, object](drawn.attributes), drawn.data
    else:
        attributes = {"id": draw(ANY | LONG), "source": "/s", "type": draw(ANY | LONG)}
        data = ASKED
        if draw(st.booleans()):
            attributes["subject"] = draw(ANY | LONG)
        attributes["datacontenttype"] = draw(st.just("application/json") | CONTENT_TYPES)
    attributes |= draw(st.dictionaries(COPIED | NAMES, ANY | LONG, max_size=7))
    if draw(st.integers(0, 9)) == 0:
        count = draw(st.sampled_from([100, ATTRIBUTES - 12, ATTRIBUTES, ATTRIBUTES + 1, 1000]))
        attributes |= {f"many{number}": "x" for number in range(count)}
    attributes.pop("data", None)
    try:
        return CloudEvent.create({**attributes, "subscriber": "model"}, data)
    except InvalidEvent:
        return CloudEvent.create({**EVENT, "subscriber": "model"}, ASKED)


EVENT = {"id": "1", "source": "/s", "type": "t", "datacontenttype": "application/json"}
MOST = "x" * ATTRIBUTE_BYTES
ALL_COPIED = dict.fromkeys(("subject", "partitionkey", "correlationid", "tracestate"), MOST)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example(CloudEvent.create({**EVENT, **ALL_COPIED, "id": MOST, "subscriber": "model"}, ASKED))
@example(CloudEvent.create({**EVENT, "subject": "s" * 70_000, "subscriber": "model"}, ASKED))
@example(CloudEvent.create({**EVENT, "id": "€" * 6_800, "subscriber": "model"}, ASKED))
@given(hard_events())
def test_an_accepted_event_gets_one_answer_or_one_error_event(
    runner: asyncio.Runner, whole_way: Way, event: CloudEvent
) -> None:
    if event.type in OWN_TYPES:
        return
    whole_way.stage.memory._logs[BROKER].known.clear()  # examples may have the same id
    fate = runner.run(whole_way.fate(event))
    if fate is not None:
        fate.is_right_for(event)


def test_an_answer_that_a_broker_cannot_store_is_an_error_event_after_one_try(
    runner: asyncio.Runner, whole_way: Way
) -> None:
    data = json.dumps({"input": ["text"] * 2048}).encode()
    event = CloudEvent.create({**EVENT, "id": "large", "subscriber": "model"}, data)
    fate = runner.run(whole_way.fate(event, Mode.BINARY))
    assert fate is not None
    fate.is_right_for(event)
    assert fate.runs == 1
    [answer] = fate.answers
    assert answer.type == ERROR
    said = json.loads(answer.data or b"")
    assert (said["reason"], said["retryable"]) == ("reply-too-large", False)
    assert f"a reply may have {EVENT_BYTES}" in said["error"]["message"]


def test_a_request_that_reached_the_model_has_what_was_posted(
    runner: asyncio.Runner, whole_way: Way
) -> None:
    event = CloudEvent.create({**EVENT, "id": "simple", "subscriber": "model"}, ASKED)
    fate = runner.run(whole_way.fate(event, Mode.BINARY))
    assert fate is not None
    fate.is_right_for(event)
    assert fate.answers[0].type == RESPONSE
    assert going_out(fate.answers[0]).data is not None
