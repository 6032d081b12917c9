"""KServe's documented address of an LLM, `http://HOST/openai/v1/…`, on the predictor itself."""

import pytest
from event_client import Producer, Reply, chat_data
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from stub_vllm import Stub

from relume.runtimes.openai_prefix import OpenAIPrefix
from relume.runtimes.settings import (
    ALLOWED_ORIGINS,
    DECODING,
    MIDDLEWARE,
    OPENAI_PREFIX,
    with_defaults,
)


async def test_the_same_route_answers_with_and_without_the_prefix(
    producer: Producer, stub: Stub
) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    for prefix in ("/openai", ""):
        response = await producer.http.post(f"{prefix}/v1/chat/completions", json=body)
        assert response.status_code == 200
    assert [asked.path for asked in stub.asked] == ["/v1/chat/completions"] * 2


async def test_an_event_below_the_prefix_is_answered_as_an_event(producer: Producer) -> None:
    reply = Reply.of(await producer.binary(chat_data(), "/openai/v1/chat/completions"))
    assert reply.attributes["type"] == "relume.inference.response"


async def test_a_redirect_below_the_prefix_stays_there(producer: Producer) -> None:
    response = await producer.http.post("/openai/v1/completions/?x=1", json={})
    assert response.status_code == 307
    assert response.headers["location"] == "http://stub/openai/v1/completions?x=1"
    plain = await producer.http.post("/v1/completions/?x=1", json={})
    assert plain.headers["location"] == "http://stub/v1/completions?x=1"


@pytest.mark.parametrize("path", ["/openai/v1x", "/openai", "/openai/health", "/openai/v2"])
async def test_nothing_else_is_below_the_prefix(producer: Producer, path: str) -> None:
    assert (await producer.http.get(path)).status_code == 404


def test_vllm_puts_it_in_front_of_the_events_and_behind_the_user_s_own() -> None:
    flags = with_defaults(["--middleware", "mine.Middleware"], cpu=False)
    added = [flags[at + 1] for at, flag in enumerate(flags) if flag == "--middleware"]
    assert added == [MIDDLEWARE, DECODING, ALLOWED_ORIGINS, OPENAI_PREFIX, "mine.Middleware"]
    assert f"{OpenAIPrefix.__module__}.{OpenAIPrefix.__name__}" == OPENAI_PREFIX


async def test_a_guard_of_v1_sees_the_route_that_is_asked_for(producer: Producer) -> None:
    """vLLM's `--api-key` guards paths that begin with /v1."""
    seen = []

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["path"], scope["raw_path"]))
        await JSONResponse({}, 401)(scope, receive, send)

    producer.http._transport.app = OpenAIPrefix(guard)  # type: ignore[attr-defined]
    response = await producer.http.get("/openai/v1/models/a%2Fb")
    assert response.status_code == 401
    assert seen == [("/v1/models/a/b", b"/v1/models/a%2Fb")]
