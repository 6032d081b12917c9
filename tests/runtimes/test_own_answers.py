"""CORS on what our middleware answers, in a server whose routes have vLLM's own headers."""

from argparse import Namespace

import pytest
from event_client import Producer, chat_data
from starlette.datastructures import State
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from stub_vllm import Stub

from relume.runtimes.own_answers import AllowedOrigins
from relume.runtimes.plugin import RelumeEndpoints
from relume.runtimes.settings import ALLOWED_ORIGINS

PAGE = "http://localhost:3000"
ALLOWED = "access-control-allow-origin"


@pytest.fixture
def allowing(stub: Stub) -> Stub:
    """The stub with `--allowed-origins`: vLLM's middleware is inside ours, and inside of all."""
    own = Middleware(CORSMiddleware, allow_origins=[PAGE], allow_methods=["*"])
    stub.app.user_middleware.append(own)
    stub.app.state.relume_cors = {"allow_origins": [PAGE], "allow_credentials": False}
    return stub


@pytest.mark.parametrize("data", [chat_data(), b"not JSON"])
async def test_the_answer_to_an_event_may_be_read_by_the_page(
    allowing: Stub, producer: Producer, data: object
) -> None:
    found = await producer.binary(data, headers={"origin": PAGE})
    assert found.headers["ce-type"].startswith("relume.inference.")
    assert found.headers[ALLOWED] == PAGE
    other = await producer.binary(data, headers={"origin": "http://other"}, id="2")
    assert ALLOWED not in other.headers
    assert other.headers["vary"] == "Origin"
    none = await producer.binary(data, id="3")
    assert "vary" not in none.headers


async def test_a_refusal_while_it_drains_may_be_read(
    allowing: Stub, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relume.runtimes.drain.is_draining", lambda: True)
    found = await producer.http.get("/v1/models", headers={"origin": PAGE})
    assert (found.status_code, found.headers[ALLOWED]) == (503, PAGE)


@pytest.mark.parametrize("origin", [PAGE, "http://other"])
async def test_what_vllm_has_judged_is_left_as_it_is(
    allowing: Stub, producer: Producer, origin: str
) -> None:
    found = await producer.http.get("/health", headers={"origin": origin})
    assert found.headers.get_list("vary") == ["Origin"]
    assert found.headers.get(ALLOWED) == (PAGE if origin == PAGE else None)


async def test_without_the_flag_no_page_is_allowed(producer: Producer) -> None:
    found = await producer.binary(chat_data(), headers={"origin": PAGE})
    assert ALLOWED not in found.headers
    assert "vary" not in found.headers


async def test_the_plugin_keeps_what_the_flags_allow(process: None) -> None:
    state = State()
    args = Namespace(
        served_model_name=["m"], model="m", allowed_origins=[PAGE], allow_credentials=True
    )
    await RelumeEndpoints().init_state(None, state, args)
    assert state.relume_cors == {"allow_origins": [PAGE], "allow_credentials": True}


def test_vllm_finds_it_by_its_name() -> None:
    assert f"{AllowedOrigins.__module__}.{AllowedOrigins.__name__}" == ALLOWED_ORIGINS
