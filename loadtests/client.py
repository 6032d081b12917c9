"""The client's side of a measurement: streamed chats over HTTP, and events with their answers.

Light on purpose, because it runs on the cores of what it measures: chunks are timed as they come
and only the last ones, which carry the usage, are parsed.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from uuid import uuid4

import aiohttp
from processes import MeasurementFailed, Server
from servers import Plane

from relume.cli.errors import NoPlane
from relume.cli.machine.story import is_answer, is_error, sentence
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode

EVENT_TYPE = "com.example.summarize.request"
PROMPT = "In one sentence: what is a GPU?"
ANSWER_WITHIN_S = 300.0
RETRY_S = 0.05  # the interval at which Relume's activator looks whether a predictor is ready

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Stream:
    """One streamed chat that has ended: monotonic seconds, and the tokens that were generated."""

    started: float
    first_token: float
    ended: float
    tokens: int


def session() -> aiohttp.ClientSession:
    """A client that makes a connection for each request.

    A kept one may be about to be closed by a server that was stopped in between.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
    )


def chat(model: str, prompt: str, tokens: int) -> Json:
    """The body of a deterministic streamed chat of exactly `tokens` output tokens."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def stream(http: aiohttp.ClientSession, url: str, body: Json) -> Stream:
    """Stream one chat to its end. Raises MeasurementFailed for all that is not a whole answer."""
    started = time.monotonic()
    first: float | None = None
    tail = b""
    try:
        async with http.post(f"{url}/v1/chat/completions", json=body) as response:
            if response.status != 200:
                text = (await response.text())[:300]
                raise MeasurementFailed(f"{url} answers a chat with {response.status}: {text}")
            async for chunk in response.content.iter_any():
                if first is None and has_token(chunk):
                    first = time.monotonic()
                tail = (tail + chunk)[-4096:]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise MeasurementFailed(f"{url}: a chat broke off: {str(error) or 'timeout'}") from None
    if first is None:
        raise MeasurementFailed(f"{url}: a stream without a token: {tail[:300]!r}")
    return Stream(started, first, time.monotonic(), completion_tokens(tail))


def has_token(chunk: bytes) -> bool:
    """Whether server-sent chat chunks hold text: vLLM's first chunk has only the role."""
    deltas = chunk.split(b'"content":"')[1:]
    return any(not delta.startswith(b'"') for delta in deltas)


def completion_tokens(tail: bytes) -> int:
    """The usage that the last chunk before `[DONE]` tells. Raises MeasurementFailed."""
    for line in reversed(tail.split(b"\n")):
        if line.startswith(b"data: {"):
            usage = json.loads(line.removeprefix(b"data: ")).get("usage") or {}
            if "completion_tokens" in usage:
                return int(usage["completion_tokens"])
    raise MeasurementFailed(f"a stream that does not end with its usage: {tail[-300:]!r}")


async def first_token(
    http: aiohttp.ClientSession, url: str, model: str, server: Server, within_s: float
) -> float:
    """The moment of the first token from a server that may still be starting.

    Tried every 50 ms while it refuses connections or says 503.
    """
    body = chat(model, PROMPT, tokens=4)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        server.check_alive()
        if await _answers(http, url):
            return (await stream(http, url, body)).first_token
        await asyncio.sleep(RETRY_S)
    raise MeasurementFailed(f"{server.name}: no token within {within_s:g} s")


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(f"{url}/health") as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def event_to_answer_s(plane: Plane) -> float:
    """Post an event that asks for one token; seconds until its answer shows in /relume/events.

    The answer of one token is the first token, plus its way back through the Broker: a bound from
    above for the time to the first token.
    """
    event = _event(plane.service)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S), plane.client.events() as records:
            started = time.monotonic()
            headers, body = encode(event, Mode.BINARY)
            response = await plane.client.post_event(plane.broker_url, headers, body)
            if response.status_code != 202:
                raise MeasurementFailed(f"{plane.broker_url} answers {response.status_code}")
            async for record in records:
                if record.causation == event.id and is_answer(record.event):
                    return _checked(record.event, time.monotonic() - started)
                if record.id == event.id and record.stage == "dead-lettered":
                    raise MeasurementFailed(f"the event became a dead letter: {record.detail}")
    except TimeoutError:
        raise MeasurementFailed(f"no answer to the event in {ANSWER_WITHIN_S:g} s") from None
    except NoPlane as error:
        raise MeasurementFailed(str(error)) from None
    raise MeasurementFailed("the plane ended before it answered the event")


def _event(model: str) -> CloudEvent:
    data = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 1,
        "temperature": 0,
    }
    attributes = {"id": str(uuid4()), "source": "/relume/loadtests", "type": EVENT_TYPE}
    return CloudEvent.create(
        {**attributes, "datacontenttype": "application/json"}, json.dumps(data).encode()
    )


def _checked(answer: Json, seconds: float) -> float:
    if is_error(answer):
        raise MeasurementFailed(f"the event was answered with an error: {sentence(answer)}")
    return seconds


async def http_to_first_token_s(http: aiohttp.ClientSession, plane: Plane) -> float:
    """Stream a chat from a plane at zero; seconds until its first token."""
    one = await stream(http, plane.openai_url, chat(plane.service, PROMPT, tokens=4))
    return one.first_token - one.started


async def together(http: aiohttp.ClientSession, url: str, bodies: list[Json]) -> list[Stream]:
    """Stream all chats at once; returns when all have ended."""
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(stream(http, url, body)) for body in bodies]
    return [task.result() for task in streams]
