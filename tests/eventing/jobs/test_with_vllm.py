"""Answers put together from parts, and answers that go on, against what the real vLLM says."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relume.eventing.jobs.continuation import question_of
from relume.eventing.jobs.sse import EventParser
from relume.eventing.jobs.store import Chunk
from relume.eventing.jobs.transcript import Transcript

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes"))

import predictors

from relume.runtimes.spawn import FreshLauncher

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
SAY = [{"role": "user", "content": "Tell me in three short paragraphs what a harbour is."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
NAMED = {"type": "function", "function": {"name": "weather"}}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
}
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": SAY, "max_tokens": 24}),
    (CHAT, {"messages": SAY, "max_completion_tokens": 12, "stop": ["harbo"]}),
    (CHAT, {"messages": SAY, "max_tokens": 12, "stop": ["a"], "include_stop_str_in_output": True}),
    (CHAT, {"messages": SAY, "max_tokens": 5, "logprobs": True, "top_logprobs": 2}),
    (CHAT, {"messages": SAY, "max_tokens": 5, "return_token_ids": True}),
    (CHAT, {"messages": SAY, "max_tokens": 6, "n": 2, "temperature": 0.7, "seed": 7}),
    (
        CHAT,
        {
            "messages": SAY,
            "max_tokens": 40,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "c", "schema": CITY},
            },
        },
    ),
    (CHAT, {"messages": SAY, "max_tokens": 40, "tools": [TOOL], "tool_choice": NAMED}),
    (COMPLETION, {"prompt": "The capital of France is", "max_tokens": 12}),
    (COMPLETION, {"prompt": "The capital of France is"}),
    (COMPLETION, {"prompt": "One two three", "max_tokens": 5, "logprobs": 2}),
    (COMPLETION, {"prompt": "One two three", "max_tokens": 5, "echo": True}),
    (COMPLETION, {"prompt": ["One two three", "A b c"], "max_tokens": 5}),
    (COMPLETION, {"prompt": "One two three", "max_tokens": 5, "return_token_ids": True}),
]


async def streamed(client: Any, route: str, body: Any) -> AsyncIterator[bytes]:
    parser = EventParser(2**20)
    async with client.stream("POST", route, json=body) as response:
        assert response.status_code == 200, await response.aread()
        async for piece in response.aiter_raw():
            for data in parser.feed(piece):
                if data == b"[DONE]":
                    return
                yield data


def transcript_of(route: str, asked: object) -> Transcript:
    question = question_of(route, "application/json", json.dumps(asked).encode())
    assert question is not None
    return Transcript(question)


def comparable(value: Any) -> Any:
    """The value without what differs from request to request, and without what is null."""
    if isinstance(value, dict):
        left_out = ("id", "created", "kv_transfer_params")
        pairs = {name: comparable(each) for name, each in value.items() if name not in left_out}
        return {name: each for name, each in pairs.items() if each not in (None, [])}
    return [comparable(each) for each in value] if isinstance(value, list) else value


async def whole(client: Any, route: str, asked: dict[str, Any]) -> dict[str, Any]:
    transcript = transcript_of(route, asked)
    async for data in streamed(client, route, transcript.first_request):
        transcript.receive(data)
    transcript.end()
    assert transcript.finished
    body: dict[str, Any] = json.loads(transcript.whole())
    return body


async def continued(client: Any, route: str, asked: dict[str, Any], cut: int) -> tuple[Any, bool]:
    """The answer of which `cut` parts came from one worker, and the rest from the next."""
    stored: list[bytes] = []
    first = transcript_of(route, asked)
    async for data in streamed(client, route, first.first_request):
        stored += first.receive(data)
        if len(stored) >= cut:
            break
    second = transcript_of(route, asked)
    second.restore([Chunk(n, "data", data, 1) for n, data in enumerate(stored[:cut], 1)])
    if second.exhausted:
        second.cut_off()
        return json.loads(second.whole()), True
    request = second.going_on()
    if request is not None:
        second.go_on()
    else:
        second.begin_again()
        request = second.first_request
    async for data in streamed(client, route, request):
        second.receive(data)
    second.end()
    return json.loads(second.whole()), "continue_final_message" in request


async def test_answers_are_those_that_vllm_gives_without_streaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In bfloat16 the same text has other roundings when it is read than when it is written.
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--dtype", "float32"]
    monkeypatch.setattr(predictors, "LIMITS", [*predictors.LIMITS, *tools])
    async with predictors.predictor(FreshLauncher(), tmp_path / "log") as it:
        await it.until_ready()
        different = []
        for route, question in QUESTIONS:
            asked = {"temperature": 0, **question}
            direct = (await it.client.post(route, json=asked)).json()
            put_together = await whole(it.client, route, asked)
            if comparable(put_together) != comparable(direct):
                different.append((route, question, direct, put_together))
        assert not different, json.dumps(different, indent=1)

        for route, asked in [
            (CHAT, {"messages": SAY, "max_tokens": 40, "temperature": 0}),
            (COMPLETION, {"prompt": "One two three", "max_tokens": 30, "temperature": 0}),
            (CHAT, {"messages": SAY, "max_tokens": 40, "temperature": 0, "stop": ["shore\n"]}),
        ]:
            uncut = await whole(it.client, route, asked)
            for cut in (1, 3, 20, 30):
                answer, _ = await continued(it.client, route, asked, cut)
                if comparable(answer) != comparable(uncut):
                    different.append((route, cut, answer, uncut))
        assert not different, json.dumps(different, indent=1)
