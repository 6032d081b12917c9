"""A predictor without a model, for the page: it tells the phases of a start and streams answers.

Run as `python stub_model.py PORT`. STUB_PHASES_MS: how long each phase of its start takes, as JSON;
STUB_TOKEN_S: seconds between two words of an answer. An event or a chat whose text contains `fail`
is answered with 500 and quotes it, as a careless model would; one with `slow` takes a minute.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

STARTED = time.monotonic()
PHASES: dict[str, float] = json.loads(os.environ.get("STUB_PHASES_MS", '{"weights": 500}'))
TOKEN_S = float(os.environ.get("STUB_TOKEN_S", "0.02"))
WORDS = ["A model sleeps", "at zero,", "wakes", "for an event,", "and sleeps", "again."]
answered: list[float] = []


def told() -> tuple[str, dict[str, float]]:
    """The phase that runs and those that are over, as the script says for this moment."""
    left, over = (time.monotonic() - STARTED) * 1000, dict[str, float]()
    for name, ms in PHASES.items():
        if left < ms:
            return name, over
        over[name] = ms
        left -= ms
    return "", over


async def health(_: Request) -> Response:
    return Response(status_code=503 if told()[0] else 200)


async def startup(_: Request) -> Response:
    phase, over = told()
    if answered:
        over["first_token"] = answered[0]
    state = "loading" if phase else "ready"
    return JSONResponse({"state": state, "phase": phase or "warmup", "phases_ms": over})


def text_of(body: dict[str, object]) -> str:
    return json.dumps(body.get("messages") or body)


async def chat(request: Request) -> Response:
    body = await request.json()
    text = text_of(body)
    if "fail" in text:
        return JSONResponse({"error": {"message": f"cannot answer {text}"}}, 500)
    await asyncio.sleep(60 if "slow" in text else 0.05)
    answered.append(50.0)
    if body.get("stream"):
        return StreamingResponse(chunks(), media_type="text/event-stream")
    said = {"role": "assistant", "content": " ".join(WORDS)}
    usage = {"prompt_tokens": 9, "completion_tokens": len(WORDS), "total_tokens": 9 + len(WORDS)}
    answer = {"object": "chat.completion", "choices": [{"index": 0, "message": said}]}
    headers = {}
    if (cause := request.headers.get("ce-id")) is not None:
        headers = {
            "ce-specversion": "1.0",
            "ce-id": f"answer-to-{cause}",
            "ce-source": "/namespaces/default/inferenceservices/stub",
            "ce-type": "relume.inference.response",
            "ce-causationid": cause,
        }
    return JSONResponse({**answer, "usage": usage}, headers=headers)


async def chunks() -> AsyncIterator[str]:
    for word in WORDS:
        part = {"choices": [{"index": 0, "delta": {"content": f"{word} "}}]}
        yield f"data: {json.dumps(part)}\n\n"
        await asyncio.sleep(TOKEN_S)
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield f"data: {json.dumps(end)}\n\n"
    yield "data: [DONE]\n\n"


routes = [
    Route("/health", health),
    Route("/startup", startup),
    Route("/v1/chat/completions", chat, methods=["POST"]),
    Route("/", chat, methods=["POST"]),
]

if __name__ == "__main__":
    port = int(sys.argv[1])
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")
