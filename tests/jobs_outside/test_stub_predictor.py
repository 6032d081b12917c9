"""The stub predictor goes on from a beginning, dies and refuses as its script says."""

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.jobs_outside.checker import part_of, sse
from tests.jobs_outside.client import request_of
from tests.jobs_outside.programs import Program, stub_predictor
from tests.jobs_outside.script import Script


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Program]:
    program = stub_predictor(tmp_path)
    program.start()
    try:
        await program.ready()
        yield program
    finally:
        program.kill()


def journal(folder: Path) -> Counter[str]:
    lines = (folder / "predictor.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["what"] for line in lines)


async def streamed(stub: Program, path: str, body: dict[str, object]) -> str:
    """The text up to the end of the stream, or of the connection."""
    text = ""
    async with (
        httpx.AsyncClient(base_url=stub.url, timeout=60) as http,
        http.stream("POST", path, json=body) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        try:
            async for line in answer.aiter_lines():
                text += part_of(line.removeprefix("data: "))
        except httpx.RemoteProtocolError:
            pass
    return text


async def test_a_chat_that_died_goes_on_in_another_process(stub: Program, tmp_path: Path) -> None:
    script = Script("j1", tokens=12, die=5)
    body = request_of(script, chat=True, stream=True)
    shown = await streamed(stub, "/v1/chat/completions", body)
    assert shown == script.text(5)
    await stub.restart()
    body["messages"].append({"role": "assistant", "content": shown})
    body |= {"continue_final_message": True, "add_generation_prompt": False}
    shown += await streamed(stub, "/v1/chat/completions", body)
    assert shown == script.text()
    assert journal(tmp_path) == {"begin": 2, "died": 1, "end": 1}


async def test_a_completion_goes_on_after_its_text(stub: Program) -> None:
    script = Script("j2", tokens=9)
    body = request_of(script, chat=False, stream=True) | {"max_tokens": 4}
    shown = await streamed(stub, "/v1/completions", body)
    assert shown == script.text(4)
    body |= {"prompt": body["prompt"] + shown, "max_tokens": 5}
    assert shown + await streamed(stub, "/v1/completions", body) == script.text()


async def test_a_beginning_that_was_never_generated_is_refused(
    stub: Program, tmp_path: Path
) -> None:
    script = Script("j3")
    body = request_of(script, chat=False, stream=False)
    for damaged in (script.text(2) + script.token(1), script.text() + "x", script.text(2)[:-2]):
        prompt = body["prompt"] + damaged
        answer = httpx.post(f"{stub.url}/v1/completions", json=body | {"prompt": prompt})
        assert answer.status_code == 400
    assert journal(tmp_path)["wrong"] == 3


async def test_busy_as_often_as_asked_then_an_answer_with_usage(stub: Program) -> None:
    script = Script("j4", busy=2)
    body = request_of(script, chat=True, stream=True)
    url = f"{stub.url}/v1/chat/completions"
    assert [httpx.post(url, json=body).status_code for _ in range(3)] == [429, 429, 200]
    told = list(sse(httpx.post(url, json=body).text))
    assert told[-1][2] == "[DONE]"
    assert json.loads(told[-2][2])["usage"]["completion_tokens"] == script.tokens


async def test_a_client_that_goes_away_is_noticed(stub: Program, tmp_path: Path) -> None:
    script = Script("j5", tokens=5000, pace=5)
    body = request_of(script, chat=True, stream=True)
    async with (
        httpx.AsyncClient(base_url=stub.url, timeout=60) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        await anext(answer.aiter_lines())
    while not journal(tmp_path)["aborted"]:
        os.sched_yield()
    assert not journal(tmp_path)["end"]
