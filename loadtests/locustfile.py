"""Load on a running plane: events to a Broker, and streamed chats through /openai/v1.

Start a plane, then, without a window and for a bounded time,

    relume up config/samples/summarize.yaml
    locust -f loadtests/locustfile.py --headless --users 8 --spawn-rate 4 --run-time 2m

Two thirds of the users post events and wait for the answering event, one third streams chats; name
a class (`EventUser` or `ChatUser`) at the end of the line for one kind alone. `--host` is the
plane's HTTP address (default http://127.0.0.1:8080), `--csv PREFIX` keeps the figures, and
`locust -f loadtests/locustfile.py` alone opens the web page. The exit code is 1 when a request
failed. Every user has one request under way, so users are concurrency.

What is counted: `POST broker` until 202, that is stored; `EVENT answer` from the post until the
answer shows in /relume/events; `POST chat` until the response's head; `SSE first token` and
`SSE whole answer` from the post.
"""

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from uuid import uuid4

import gevent  # type: ignore[import-untyped]
import requests
from gevent.event import AsyncResult  # type: ignore[import-untyped]
from locust import HttpUser, between, events, task
from locust.env import Environment

HOST = "http://127.0.0.1:8080"
ANSWER_WITHIN_S = 300
PROMPTS = (
    "In one sentence: what is a GPU?",
    "Summarize: the ship left the harbour at dawn and came back without its cargo.",
    "Name three uses of copper.",
)

Json = dict[str, object]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: ArgumentParser) -> None:
    """The options of this file, beside locust's own."""
    parser.add_argument("--broker", default="default/summarize", help="Broker, as NAMESPACE/NAME")
    parser.add_argument("--event-type", default="com.example.summarize.request")
    parser.add_argument("--model", default="summarize", help="model of the chats: a service's name")
    parser.add_argument("--tokens", type=int, default=32, help="max_tokens of each request")


class Answers:
    """Who waits for which answer; one reader of the plane's event stream serves all users."""

    def __init__(self) -> None:
        self.broker = ""
        self._waiting: dict[str, AsyncResult[Json]] = {}
        self._reader: gevent.Greenlet | None = None

    def start(self, host: str, broker: str) -> None:
        """Find the Broker's URL and begin to read. Raises SystemExit when either is not there."""
        try:
            status = requests.get(f"{host}/relume/status", timeout=5).json()
            stream = requests.get(f"{host}/relume/events", stream=True, timeout=(5, None))
        except (requests.RequestException, ValueError) as error:
            raise SystemExit(f"no plane at {host}: {error}") from None
        urls = {f"{b['namespace']}/{b['name']}": b["url"] for b in status["eventing"]["brokers"]}
        if broker not in urls:
            raise SystemExit(f"--broker {broker}: no such Broker; there is {', '.join(urls)}")
        self.broker = urls[broker]
        self._reader = gevent.spawn(self._read, stream)

    def stop(self) -> None:
        if self._reader is not None:
            self._reader.kill()

    def expect(self, event_id: str) -> "AsyncResult[Json]":
        """What the answer to this event will be put into; call before the event is posted."""
        self._waiting[event_id] = result = AsyncResult()
        return result

    def forget(self, event_id: str) -> None:
        self._waiting.pop(event_id, None)

    def _read(self, stream: requests.Response) -> None:
        for line in _lines(stream):
            if not line.startswith(b"data:"):
                continue
            event = json.loads(line.removeprefix(b"data:"))["event"]
            is_answer = str(event.get("type", "")).startswith("relume.inference.")
            if is_answer and (waiting := self._waiting.pop(str(event.get("causationid")), None)):
                waiting.set(event)


answers = Answers()


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Environment, **_: object) -> None:
    """Subscribe before the first event is posted."""
    options = _options(environment)
    answers.start((environment.host or HOST).rstrip("/"), options.broker)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def end(environment: Environment, **_: object) -> None:
    """Let go of the event stream."""
    answers.stop()


class PlaneUser(HttpUser):
    """Asks again half a second to a second after the last answer."""

    abstract = True
    host = HOST
    wait_time = between(0.5, 1)

    def data(self, turn: int) -> Json:
        """The body of a chat, the same for events and HTTP."""
        message = {"role": "user", "content": PROMPTS[turn % len(PROMPTS)]}
        tokens = _options(self.environment).tokens
        return {"messages": [message], "max_tokens": tokens, "temperature": 0}

    def tell(self, kind: str, name: str, started: float, error: Exception | None = None) -> None:
        """Add one time, from `started` until now, to the statistics."""
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=(time.monotonic() - started) * 1000,
            response_length=0,
            exception=error,
            context={},
        )


class EventUser(PlaneUser):
    """Posts an event in binary mode and waits for the event that answers it."""

    weight = 2
    turn = 0

    @task
    def event(self) -> None:
        self.turn += 1
        event_id = str(uuid4())
        result = answers.expect(event_id)
        started = time.monotonic()
        response = self.client.post(
            answers.broker,
            name="broker",
            json=self.data(self.turn),
            headers={
                "ce-specversion": "1.0",
                "ce-id": event_id,
                "ce-source": "/relume/loadtests/locust",
                "ce-type": _options(self.environment).event_type,
            },
        )
        if response.status_code != 202:
            answers.forget(event_id)
            return
        try:
            answer = result.get(timeout=ANSWER_WITHIN_S)
        except gevent.Timeout:
            answers.forget(event_id)
            self.tell("EVENT", "answer", started, TimeoutError("no answer"))
            return
        failed = answer["type"] == "relume.inference.error"
        error = RuntimeError(str(answer.get("reason", "error event"))) if failed else None
        self.tell("EVENT", "answer", started, error)


class ChatUser(PlaneUser):
    """Streams a chat; the service may be at zero."""

    weight = 1
    turn = 0

    @task
    def chat(self) -> None:
        self.turn += 1
        model = _options(self.environment).model
        body = {**self.data(self.turn), "model": model, "stream": True}
        started = time.monotonic()
        path = "/openai/v1/chat/completions"
        response = self.client.post(path, name="chat", json=body, stream=True)
        if response.status_code != 200:
            response.close()
            return
        last, begun = b"", False
        for line in _lines(response):
            last = line
            if not begun and b'"content":"' in line and b'"content":""' not in line:
                begun = True
                self.tell("SSE", "first token", started)
        whole = None if last == b"data: [DONE]" else RuntimeError("the stream broke off")
        self.tell("SSE", "whole answer", started, whole)


def _lines(response: requests.Response) -> Iterator[bytes]:
    """The lines that hold something, each as soon as its chunk is there."""
    # chunk_size=None is as the data arrives (documented; the stubs do not know it).
    return filter(None, response.iter_lines(chunk_size=None))  # type: ignore[call-overload]


def _options(environment: Environment) -> Namespace:
    options = environment.parsed_options
    assert isinstance(options, Namespace)
    return options
