"""Which requests are streamed and which go on from their text; the fields of those that go on."""

from typing import Any

import orjson
import pytest

from relume.eventing.jobs.continuation import Question, question_of

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def question(asked: object, route: str = CHAT) -> Question:
    found = question_of(route, "application/json", orjson.dumps(asked))
    assert found is not None
    return found


@pytest.mark.parametrize("route", [CHAT, f"/openai{CHAT}", f"{CHAT}?a=b", f"{CHAT}/"])
def test_a_chat_is_streamed_whether_its_client_asked_for_it_or_not(route: str) -> None:
    for stream in (False, True):
        asked = question({**ASK, "stream": stream}, route)
        assert asked.first["stream"] is True
        assert asked.first["stream_options"]["include_usage"] is True
        assert asked.first["messages"] == ASK["messages"]


@pytest.mark.parametrize(
    "route, content_type, body",
    [
        ("/v1/embeddings", "application/json", b'{"input": "x"}'),
        ("/v1/responses", "application/json", b'{"input": "x"}'),
        ("/v1/messages", "application/json", b'{"messages": []}'),
        ("/v1/chat/completions/render", "application/json", b'{"messages": []}'),
        (CHAT, "text/plain", b"{}"),
        (CHAT, "application/json", b"{"),
        (CHAT, "application/json", b"[]"),
        (CHAT, "application/json", b'{"max_tokens": "many"}'),
        (CHAT, "application/json", b'{"stop": [1]}'),
        (CHAT, "application/json", b'{"n": -1}'),
        (CHAT, "application/json", b'{"max_tokens": -5}'),
        (CHAT, "application/json", b'{"prompt_logprobs": 0}'),
        (COMPLETION, "application/json", b'{"prompt": "x", "use_beam_search": true, "n": 2}'),
    ],
)
def test_all_else_is_sent_as_it_is(route: str, content_type: str, body: bytes) -> None:
    assert question_of(route, content_type, body) is None


def test_a_chat_goes_on_with_its_text_as_the_last_message_left_open() -> None:
    asked = question({**ASK, "max_tokens": 10, "min_tokens": 4, "seed": 5, "temperature": 1})
    assert asked.going_on("So far", 3) == {
        **asked.first,
        "messages": [*ASK["messages"], {"role": "assistant", "content": "So far"}],
        "continue_final_message": True,
        "add_generation_prompt": False,
        "max_tokens": 7,
        "min_tokens": 1,
        "seed": 5,
    }


def test_a_chat_that_continues_a_message_goes_on_in_that_message() -> None:
    begun = [*ASK["messages"], {"role": "assistant", "content": "Dear "}]
    continues = {"continue_final_message": True, "add_generation_prompt": False}
    going_on = question({"messages": begun, **continues}).going_on("friend", 1)
    assert going_on is not None
    assert going_on["messages"] == [
        *ASK["messages"],
        {"role": "assistant", "content": "Dear friend"},
    ]


def test_max_completion_tokens_counts_before_max_tokens() -> None:
    going_on = question({**ASK, "max_completion_tokens": 9, "max_tokens": 99}).going_on("x", 4)
    assert going_on is not None
    assert (going_on["max_completion_tokens"], going_on["max_tokens"]) == (5, 99)


def test_without_a_limit_none_is_set() -> None:
    going_on = question(ASK).going_on("x", 4)
    assert going_on is not None
    assert "max_tokens" not in going_on


@pytest.mark.parametrize("prompt", ["One", ["One"]])
def test_a_completion_goes_on_behind_its_prompt(prompt: object) -> None:
    going_on = question({"prompt": prompt}, COMPLETION).going_on(" two", 1)
    assert going_on is not None
    assert going_on["prompt"] == "One two"
    assert going_on["max_tokens"] == 15  # vLLM takes 16 where nothing is said


@pytest.mark.parametrize(
    "field",
    [
        {"n": 2},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a"}},
        {"logprobs": True},
        {"echo": True},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"bad_words": ["x"]},
        {"thinking_token_budget": 10},
        {"reasoning_effort": "low"},
        {"return_token_ids": True},
        {"truncate_prompt_tokens": 10},
        {"add_generation_prompt": False},
    ],
    ids=lambda field: next(iter(field)),
)
def test_what_binds_the_whole_answer_begins_again(field: dict[str, object]) -> None:
    assert question({**ASK, **field}).going_on("so far", 2) is None
    assert question({**ASK, **field}).first["stream_options"]["continuous_usage_stats"] is False


@pytest.mark.parametrize("prompt", [[1, 2, 3], ["a", "b"], [[1], [2]]])
def test_prompts_that_are_no_single_text_begin_again(prompt: object) -> None:
    assert question({"prompt": prompt}, COMPLETION).going_on("so far", 2) is None


@pytest.mark.parametrize(
    "stop, text, goes_on",
    [
        ("END", "the E", False),
        (["x", "STOP"], "a STO", False),
        ("END", "the END of", True),
        ("END", "thE ", True),
        ("x", "text", True),
        ("", "text", True),
    ],
)
def test_a_text_that_may_be_half_a_stop_string_begins_again(
    stop: object, text: str, goes_on: bool
) -> None:
    asked = question({**ASK, "stop": stop, "include_stop_str_in_output": True})
    assert (asked.going_on(text, 2) is not None) is goes_on


@pytest.mark.parametrize("stop, goes_on", [("END", False), (["x", "END"], False), ("\n", True)])
def test_a_text_whose_last_letters_are_held_back_begins_again(stop: object, goes_on: bool) -> None:
    assert (question({**ASK, "stop": stop}).going_on("so far", 2) is not None) is goes_on


@pytest.mark.parametrize("text", ["<think>so", "so</think>", ""])
def test_a_text_that_a_template_would_cut_begins_again(text: str) -> None:
    assert question(ASK).going_on(text, 2) is None


def test_the_prompt_is_asked_for_only_where_white_space_may_be_cut_off() -> None:
    assert "return_prompt_text" not in (question(ASK).going_on("a b", 2) or {})
    assert (question(ASK).going_on("a b\n", 2) or {})["return_prompt_text"] is True
