"""What the users of the locust file share: times of one request, streams, and answers to events.

A request's time runs from when it was *due*. In the open loop that is the moment that the plan
says, not the moment at which it was sent: a load generator that is held up, or waits for a slow
server, would otherwise leave out exactly the worst times ("coordinated omission").
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Literal

import gevent  # type: ignore[import-untyped]
import requests
from client import has_token
from gevent.event import AsyncResult  # type: ignore[import-untyped]
from locust.env import Environment

Json = dict[str, object]
ANSWER_WITHIN_S = 300
ANSWER_PREFIX, ERROR_TYPE = "relume.inference.", "relume.inference.error"

# Common words that are one token each with the usual vocabularies.
WORDS = (
    "the ship left harbour at dawn and came back without its cargo while people on shore asked "
    "what had been lost in storm that night nobody could say how far they were from land when"
)


def text_of(tokens: int, number: int) -> str:
    """About so many tokens of text that begins with the number, so that no two prompts share a
    beginning that the engine has in its cache."""
    words = WORDS.split()
    chosen = (words[(number + i * 7) % len(words)] for i in range(max(tokens - 2, 1)))
    return f"{number} {' '.join(chosen)}"


@dataclass(slots=True)
class Timed:
    """One request and its times in seconds of the monotonic clock; `kind` is event, chat or job."""

    kind: str
    loop: Literal["open", "closed"]
    tenant: str
    due: float
    sent: float = 0.0
    first: float | None = None
    """When its first token was there; None where it does not stream."""
    parts: list[float] = field(default_factory=list)
    """When each part of the stream that has text was there."""
    tokens: int = 0
    """Tokens of the answer, as the usage tells."""
    ended: float = 0.0
    outcome: str = "answered"
    error: str | None = None

    def part(self) -> None:
        """A part of the answer came."""
        now = time.monotonic()
        if self.first is None:
            self.first = now
        self.parts.append(now)


class Recorder:
    """Writes one line of JSON for each request that has ended, and tells locust its times."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._environment: Environment | None = None
        self.origin = time.monotonic()

    def start(self, environment: Environment, path: str | None) -> None:
        """Begin the test: its moment zero is now."""
        self._environment = environment
        self.origin = time.monotonic()
        if path:
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 (closed by `stop`)
            self._write({"origin": self.origin})

    def stop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def ended(self, request: Timed, error: str | None = None) -> None:
        """Keep the request, which ends now, with its error if it failed."""
        request.ended, request.error = time.monotonic(), error
        if error is not None:
            request.outcome = "failed"
        self._write(asdict(request))
        self._tell(request, "whole answer", request.ended - request.due, error)
        if request.first is not None:
            self._tell(request, "first token", request.first - request.due)
        for before, after in pairwise(request.parts):
            self._tell(request, "between tokens", after - before)

    def _write(self, line: Json) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def _tell(self, request: Timed, name: str, seconds: float, error: str | None = None) -> None:
        if self._environment is None:
            return
        self._environment.events.request.fire(
            request_type=request.kind.upper(),
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=None if error is None else RuntimeError(error),
            context={"tenant": request.tenant},
        )


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
        for line in lines(stream):
            if not line.startswith(b"data:"):
                continue
            event = json.loads(line.removeprefix(b"data:"))["event"]
            is_answer = str(event.get("type", "")).startswith(ANSWER_PREFIX)
            if is_answer and (waiting := self._waiting.pop(str(event.get("causationid")), None)):
                waiting.set(event)


def lines(response: requests.Response) -> Iterator[bytes]:
    """The lines that hold something, each as soon as its chunk is there."""
    # chunk_size=None is as the data arrives (documented; the stubs do not know it).
    return filter(None, response.iter_lines(chunk_size=None))  # type: ignore[call-overload]


def read_chat(request: Timed, response: requests.Response) -> str | None:
    """Follow a streamed chat to its end; what was wrong with it, or None."""
    last = b""
    for line in lines(response):
        last = line
        if has_token(line):
            request.part()
        elif b'"usage":{' in line:
            usage = json.loads(line.removeprefix(b"data:"))["usage"]
            request.tokens = int(usage["completion_tokens"])
    return None if last == b"data: [DONE]" else "the stream broke off"


def read_job(
    request: Timed, response: requests.Response, after_first: Callable[[], None] | None = None
) -> str | None:
    """Follow the stream of a job to its end; what was wrong, or None.

    `after_first` is called once, when the first token is there.
    """
    event, ends = "", ""
    for line in lines(response):
        if line.startswith(b"event:"):
            event = line.removeprefix(b"event:").strip().decode()
        elif line.startswith(b"data:") and event and event != "restarted":
            ends = event
            usage = json.loads(line.removeprefix(b"data:")).get("usage") or {}
            request.tokens = int(usage.get("completion_tokens") or 0)
        elif line.startswith(b"data:"):
            event = ""
            if has_token(line):
                request.part()
                if after_first is not None:
                    after_first()
                    after_first = None
    request.outcome = ends or "failed"
    if ends in ("completed", "cancelled"):
        return None
    return f"the job ended as {ends}" if ends else "the job's stream broke off"


def answer_of(request: Timed, answer: Json) -> str | None:
    """Take the tokens from an answering event; what was wrong, or None."""
    request.tokens = int(str(answer.get("completiontokens") or 0))
    if answer.get("type") == ERROR_TYPE:
        return str(answer.get("reason") or "error event")
    return None
