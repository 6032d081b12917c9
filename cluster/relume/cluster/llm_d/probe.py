"""Ask a model server what the router of an InferencePool would ask it, idle and under load."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from relume.base.errors import InvalidInput, RelumeError
from relume.cluster.llm_d.clauses import RUNNING, WAITING
from relume.cluster.llm_d.observed import Answer, Observed, Scrape, scrape

_SETTLE_TRIES = 20
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
#: What a router sends with a request (llm-d-router docs, request headers).
ROUTER_HEADERS = {
    "x-llm-d-inference-objective": "relume-probe",
    "x-llm-d-inference-fairness-id": "relume-probe",
    "x-llm-d-slo-ttft-ms": "200",
    "x-llm-d-slo-tpot-ms": "50",
    "prefer": "if-available",
}


class NoAnswer(RelumeError):
    """Nothing answers at the address, so there is nothing to judge."""

    reason = "no-answer"
    retryable = True


class NoModel(InvalidInput):
    """The server lists no model, and the caller named none."""

    reason = "no-model"


@dataclass(frozen=True, slots=True)
class _Request:
    """One request that is made once; `body` gets the name of the model."""

    method: str
    path: str
    body: Callable[[str], Mapping[str, object]] | None = None
    headers: Mapping[str, str] | None = None


def _chat(model: str, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "Count from one to five."}]
    return {"model": model, "messages": messages, "max_tokens": 8, **more}


REQUESTS: Mapping[str, _Request] = {
    "health": _Request("GET", "/health"),
    "models": _Request("GET", "/v1/models"),
    "chat": _Request("POST", "/v1/chat/completions", _chat),
    "chat stream": _Request("POST", "/v1/chat/completions", lambda m: _chat(m, stream=True)),
    "completions": _Request(
        "POST", "/v1/completions", lambda m: {"model": m, "prompt": "One, two,", "max_tokens": 4}
    ),
    "messages": _Request("POST", "/v1/messages", _chat),
    "count tokens": _Request("POST", "/v1/messages/count_tokens", _chat),
    "unknown model": _Request(
        "POST", "/v1/chat/completions", lambda _: _chat("relume-probe-no-such-model")
    ),
    "router headers": _Request("POST", "/v1/chat/completions", _chat, ROUTER_HEADERS),
}


async def observe(
    url: str,
    *,
    model: str | None = None,
    streams: int = 16,
    tokens: int = 64,
    every_s: float = 0.1,
    told: Callable[[str], None] = lambda _: None,
) -> Observed:
    """Ask the server at `url`; about `streams` × `tokens` tokens are generated.

    /metrics is read every `every_s` seconds under load. `told` is called with each step, for
    people. Raises NoAnswer, and NoModel where `model` is None and the server lists none.
    """
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url.rstrip("/"), timeout=_TIMEOUT, limits=limits, trust_env=False
    ) as http:
        told("reading /metrics")
        first = await _scrape(http)
        models = await _ask(http, REQUESTS["models"], "")
        if first.answer.status == 0 and models.status == 0:
            raise NoAnswer(f"{url} does not answer: {models.error}")
        name = model or _first_model(models, url)
        answers = {"models": models}
        for key, request in REQUESTS.items():
            if key not in answers:
                told(f"{request.method} {request.path}")
                answers[key] = await _ask(http, request, name)
        told(f"{streams} streams of {tokens} tokens")
        busy, errors = await _under_load(http, name, streams, tokens, every_s)
        last = await _when_idle(http, every_s)
    return Observed(name, streams, first, busy, last, errors, answers)


def _first_model(models: Answer, url: str) -> str:
    try:
        return str(models.body["data"][0]["id"])  # type: ignore[index]
    except (TypeError, LookupError):
        raise NoModel(f"{url}/v1/models lists no model: name one with --model") from None


async def _ask(http: httpx.AsyncClient, request: _Request, model: str) -> Answer:
    body = request.body(model) if request.body is not None else None
    try:
        answer = await http.request(
            request.method, request.path, json=body, headers=request.headers
        )
    except httpx.HTTPError as error:
        return Answer(0, error=str(error) or type(error).__name__)
    return _read(answer)


def _read(answer: httpx.Response) -> Answer:
    kind = answer.headers.get("content-type", "")
    body: object = answer.text
    if "json" in kind:
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
    return Answer(answer.status_code, body, content_type=kind)


async def _scrape(http: httpx.AsyncClient) -> Scrape:
    started = time.perf_counter()
    answer = await _ask(http, _Request("GET", "/metrics"), "")
    return scrape(answer, (time.perf_counter() - started) * 1000)


async def _under_load(
    http: httpx.AsyncClient, model: str, streams: int, tokens: int, every_s: float
) -> tuple[list[Scrape], list[str]]:
    """Read /metrics for as long as the streams run; returns the readings and what failed."""
    running = [asyncio.create_task(_one_stream(http, model, tokens, n)) for n in range(streams)]
    readings: list[Scrape] = []
    try:
        while not all(task.done() for task in running):
            await asyncio.sleep(every_s)
            reading = await _scrape(http)
            if not all(task.done() for task in running):
                readings.append(reading)
    finally:
        for task in running:
            task.cancel()
    found = await asyncio.gather(*running, return_exceptions=True)
    return readings, [str(each) for each in found if each is not None]


async def _one_stream(http: httpx.AsyncClient, model: str, tokens: int, number: int) -> str | None:
    """Read one stream to its end; returns what went wrong."""
    text = f"Tell the long story of traveller number {number}, from the beginning."
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "stream": True,
    }
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                return f"status {answer.status_code}"
            async for _ in answer.aiter_raw():
                pass
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    return None


async def _when_idle(http: httpx.AsyncClient, every_s: float) -> Scrape:
    """The first reading that counts no request, or the last of twenty."""
    reading = await _scrape(http)
    for _ in range(_SETTLE_TRIES):
        if reading.total(RUNNING) + reading.total(WAITING) == 0:
            break
        await asyncio.sleep(every_s)
        reading = await _scrape(http)
    return reading
