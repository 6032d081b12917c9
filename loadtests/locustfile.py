"""Load on a running plane: events, streamed chats and jobs of several tenants.

Start a plane, then, without a window and for a bounded time,

    relume up config/samples/summarize.yaml
    locust -f loadtests/locustfile.py --headless --users 8 --spawn-rate 4 --run-time 2m
    locust -f loadtests/locustfile.py --headless --shape bursts --trace code --minutes 4

`make load` starts a plane, runs the second form and draws a report (`load.py --help`).

Closed loop: `EventUser` posts an event and waits for the event that answers it, `ChatUser` streams
a chat, `JobUser` submits a job, follows its stream, and cancels one in four. Each has one request
under way, so users are concurrency; name a class at the end of the line for one kind alone.

Open loop, with `--shape`: `EventArrivals` and `ChatArrivals` send what the plan says when it says
so, whatever was answered. `--shape` is the course of the load (bursts with rests down to zero, a
week of the trace, steady), `--trace` gives lengths and bursts (see `azure_traces.py`). A time runs
from the moment at which the request was due, so that a generator that is late, or that waits for a
slow server, does not leave out the worst times (coordinated omission).

`--host` is the plane's HTTP address (default http://127.0.0.1:8080), `--record FILE` keeps a line
of JSON for each request, `--csv PREFIX` locust's own figures, and locust without `--headless` opens
its web page. The exit code is 1 when a request failed.

What locust shows: `whole answer` from when the request was due to the last token, the answering
event, or the end of the job; `first token` and `between tokens` of what streams. Three tenants
share the load; a tenant is the source of an event, the `user` of a chat, and the priority of a job.
`--key TENANT=KEY` sends an API key as well.
"""

import json
import time
from argparse import ArgumentParser, Namespace
from contextlib import closing
from itertools import count
from uuid import uuid4

import gevent  # type: ignore[import-untyped]
import requests
from azure_traces import TRACES, scale_to
from gevent.pool import Group  # type: ignore[import-untyped]
from load_clients import (
    ANSWER_WITHIN_S,
    Answers,
    Json,
    Recorder,
    Timed,
    answer_of,
    read_chat,
    read_job,
    text_of,
)
from load_plan import (
    CLOSED_USERS_PER_SPAWN_S,
    DEFAULT_LONGEST,
    DEFAULT_MINUTES,
    DEFAULT_RATE,
    DEFAULT_USERS,
    SHAPES,
    TENANTS,
    Plan,
    Request,
    plan_of,
    tenant_of,
)
from locust import HttpUser, LoadTestShape, between, constant, events, task
from locust.env import Environment

HOST = "http://127.0.0.1:8080"
CHAT_PATH = "/openai/v1/chat/completions"
CANCEL_EVERY = 4
WAKE_S = 0.25  # how soon a user of the open loop notices that the test ends
DRAIN_S = 60

answers, recorder, numbers = Answers(), Recorder(), count(1)
by_name = {tenant.name: tenant for tenant in TENANTS}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: ArgumentParser) -> None:
    """The options of this file, beside locust's own."""
    parser.add_argument("--broker", default="default/summarize", help="Broker, as NAMESPACE/NAME")
    parser.add_argument("--event-type", default="com.example.summarize.request")
    parser.add_argument("--model", default="summarize", help="model of the chats: a service's name")
    parser.add_argument("--shape", choices=SHAPES, help="course of the load; none: --users")
    parser.add_argument("--trace", choices=sorted(TRACES), default="conversation")
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help="of a --shape")
    parser.add_argument("--rate", type=float, default=DEFAULT_RATE, help="open loop, requests/s")
    parser.add_argument("--closed-users", type=int, default=DEFAULT_USERS, help="of a --shape")
    parser.add_argument("--longest", type=int, default=DEFAULT_LONGEST, help="tokens of a request")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", metavar="FILE", help="one line of JSON for each request")
    parser.add_argument("--key", action="append", default=[], metavar="TENANT=KEY")


@events.init.add_listener  # type: ignore[untyped-decorator]
def choose_users(environment: Environment, **_: object) -> None:
    """With --shape the plan leads; without, the users of the closed loop do as locust says."""
    if _options(environment).shape:
        environment.shape_class = PlanShape(_plan(environment))
    else:
        closed = [kind for kind in environment.user_classes if not issubclass(kind, Arrivals)]
        environment.user_classes = closed


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Environment, **_: object) -> None:
    """Subscribe before the first event is posted."""
    options = _options(environment)
    answers.start((environment.host or HOST).rstrip("/"), options.broker)
    recorder.start(environment, options.record)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def end(environment: Environment, **_: object) -> None:
    """Let go of the event stream, and close the record."""
    answers.stop()
    recorder.stop()


class PlanShape(LoadTestShape):
    """The users of the plan's stages; set by `choose_users`, so that `--users` works without it."""

    abstract = True

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def tick(self) -> tuple[int, float] | None:
        """How many users there are to be now; None at the end of the plan."""
        stage = self._plan.stage_at(time.monotonic() - recorder.origin)
        if stage is None:
            return None
        return len((EventArrivals, ChatArrivals)) + stage.users, CLOSED_USERS_PER_SPAWN_S


class PlaneUser(HttpUser):
    """One tenant's requests, of any kind; each is timed, recorded, and told to locust."""

    abstract = True
    host = HOST
    wait_time = between(0.5, 1)

    def on_start(self) -> None:
        self.number = next(numbers)
        self.tenant = tenant_of((self.number * 0.618) % 1)
        self.asked = 0
        options = _options(self.environment)
        self._keys = dict(pair.split("=", 1) for pair in options.key)

    def next(self) -> Timed:
        """A request of the closed loop, due now."""
        self.asked += 1
        return Timed(_kind_of(self), "closed", self.tenant.name, due=time.monotonic())

    def lengths(self) -> tuple[int, int]:
        """Tokens of a prompt and an answer of the closed loop: the medians of the trace."""
        options = _options(self.environment)
        trace = TRACES[options.trace]
        factor = scale_to(trace, options.longest).factor
        return round(trace.prompt.at(0.5) * factor) or 1, round(trace.answer.at(0.5) * factor) or 1

    def data(self, tenant: str, prompt: int, answer: int) -> Json:
        """The body of a chat of about these tokens, the same for events and HTTP."""
        return {
            "messages": [{"role": "user", "content": text_of(prompt, next(numbers))}],
            "max_tokens": answer,
            "ignore_eos": True,
            "temperature": 0,
            "user": tenant,
        }

    def send_event(self, request: Timed, prompt: int, answer: int) -> None:
        """Post an event in binary mode and wait for the event that answers it."""
        event_id = str(uuid4())
        result = answers.expect(event_id)
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": f"/relume/loadtests/{request.tenant}",
            "ce-type": _options(self.environment).event_type,
        }
        request.sent = time.monotonic()
        body = self.data(request.tenant, prompt, answer)
        try:
            posted = self._post(answers.broker, "event", request.tenant, body, headers)
            if wrong := _refusal(posted, 202):
                return recorder.ended(request, wrong)
            posted.close()
            recorder.ended(request, answer_of(request, result.get(timeout=ANSWER_WITHIN_S)))
        except requests.RequestException as error:
            recorder.ended(request, type(error).__name__)
        except gevent.Timeout:
            recorder.ended(request, f"no answer in {ANSWER_WITHIN_S} s")
        finally:
            answers.forget(event_id)

    def send_chat(self, request: Timed, prompt: int, answer: int) -> None:
        """Stream a chat; the service may be at zero."""
        body = self._chat(request, prompt, answer)
        request.sent = time.monotonic()
        try:
            response = self._post(CHAT_PATH, "chat", request.tenant, body, {})
            with closing(response):
                wrong = _refusal(response, 200) or read_chat(request, response)
            recorder.ended(request, wrong)
        except requests.RequestException as error:
            recorder.ended(request, type(error).__name__)

    def send_job(self, request: Timed, prompt: int, answer: int, *, cancel: bool) -> None:
        """Submit a chat as a job and follow it to its end; cancel it after its first token."""
        priority = by_name[request.tenant].priority
        headers = {"Prefer": "respond-async", "Relume-Priority": priority}
        request.sent = time.monotonic()
        try:
            body = self._chat(request, prompt, answer)
            posted = self._post(CHAT_PATH, "job", request.tenant, body, headers)
            if wrong := _refusal(posted, 202):
                return recorder.ended(request, wrong)
            path = posted.headers["location"]
            followed = self.client.get(
                f"{path}/events", name="job events", stream=True, headers=self._auth(request.tenant)
            )
            with closing(followed):
                stop = (lambda: self._cancel(path, request.tenant)) if cancel else None
                wrong = _refusal(followed, 200) or read_job(request, followed, stop)
            recorder.ended(request, wrong)
        except requests.RequestException as error:
            recorder.ended(request, type(error).__name__)

    def _cancel(self, path: str, tenant: str) -> None:
        response = self.client.post(f"{path}/cancel", name="cancel", headers=self._auth(tenant))
        response.close()

    def _chat(self, request: Timed, prompt: int, answer: int) -> Json:
        streamed: Json = {"stream": True, "stream_options": {"include_usage": True}}
        model: Json = {"model": _options(self.environment).model}
        return {**self.data(request.tenant, prompt, answer), **model, **streamed}

    def _post(
        self, url: str, name: str, tenant: str, body: Json, headers: dict[str, str]
    ) -> requests.Response:
        kind = {"Content-Type": "application/json"}
        sent = {**kind, **headers, **self._auth(tenant)}
        data = json.dumps(body)
        response: requests.Response = self.client.post(
            url, name=name, data=data, headers=sent, stream=True
        )
        return response

    def _auth(self, tenant: str) -> dict[str, str]:
        key = self._keys.get(tenant)
        return {} if key is None else {"Authorization": f"Bearer {key}"}


class EventUser(PlaneUser):
    """Posts an event and waits for its answer, in a closed loop."""

    weight = 2

    @task
    def event(self) -> None:
        self.send_event(self.next(), *self.lengths())


class ChatUser(PlaneUser):
    """Streams a chat, in a closed loop."""

    weight = 2

    @task
    def chat(self) -> None:
        self.send_chat(self.next(), *self.lengths())


class JobUser(PlaneUser):
    """Submits jobs, follows each, and cancels one in four after its first token."""

    weight = 1

    @task
    def job(self) -> None:
        request = self.next()
        prompt, answer = self.lengths()
        # A job that is to be cancelled is long enough that there is something to cancel.
        cancel = self.asked % CANCEL_EVERY == 0
        self.send_job(request, prompt, answer * 4 if cancel else answer, cancel=cancel)


class Arrivals(PlaneUser):
    """The open loop: sends the plan's requests of one kind when they are due.

    One user does it, with a greenlet for each request, so that no request waits for another.
    """

    abstract = True
    fixed_count = 1
    wait_time = constant(0)

    def on_start(self) -> None:
        super().on_start()
        kind = _kind_of(self)
        self._due = [r for r in reversed(_plan(self.environment).requests()) if r.kind == kind]
        self._sent = Group()

    @task
    def arrival(self) -> None:
        """Wait for the next moment, for a short time, so that the end of the test is noticed."""
        left = WAKE_S
        if self._due:
            left = min(self._due[-1].due + recorder.origin - time.monotonic(), WAKE_S)
        if left > 0:
            gevent.sleep(left)
        else:
            self._sent.spawn(self._send, self._due.pop())

    def on_stop(self) -> None:
        """Wait for what is under way."""
        self._sent.join(timeout=DRAIN_S)

    def _send(self, request: Request) -> None:
        due = recorder.origin + request.due
        timed = Timed(request.kind, "open", request.tenant, due)
        send = self.send_event if request.kind == "event" else self.send_chat
        send(timed, request.prompt_tokens, request.answer_tokens)


class EventArrivals(Arrivals):
    """Events of the plan, open loop."""


class ChatArrivals(Arrivals):
    """Streamed chats of the plan, open loop."""


def _kind_of(user: PlaneUser) -> str:
    return type(user).__name__.removesuffix("Arrivals").removesuffix("User").lower()


def _refusal(response: requests.Response, wanted: int) -> str | None:
    """What the answer says where its status is not the one wanted; locust's 0 is no answer."""
    if response.status_code == wanted:
        return None
    if response.status_code == 0:
        return f"no answer: {type(getattr(response, 'error', None)).__name__}"
    return f"{response.status_code}: {_said(response.text)[:120]}"


def _said(text: str) -> str:
    """The sentence in the body of a refusal: of OpenAI's error shape or ours, else the body."""
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, LookupError, TypeError):
        return text


def _plan(environment: Environment) -> Plan:
    options = _options(environment)
    return plan_of(
        options.shape,
        options.trace,
        minutes=options.minutes,
        rate=options.rate,
        users=options.closed_users,
        longest=options.longest,
        seed=options.seed,
    )


def _options(environment: Environment) -> Namespace:
    options = environment.parsed_options
    assert isinstance(options, Namespace)
    return options
