"""Whole answers from parts, on the shapes that vLLM 0.32 sends."""

from typing import Any

import pytest

from relume.eventing.jobs.assembly import Assembly

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
USAGE = {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}


def chat(*choices: dict[str, Any], n: int = 1, forced: bool = False) -> dict[str, Any]:
    answer = Assembly("chat", n)
    for choice in choices:
        answer.feed({**HEAD, "choices": [{"index": 0, "finish_reason": None, **choice}]})
    return answer.whole(USAGE, forced_tool=forced)


def delta(**fields: Any) -> dict[str, Any]:
    return {"delta": fields}


ROLE = delta(role="assistant", content="")
STOP = {"delta": {}, "finish_reason": "stop", "stop_reason": None}


def test_a_chat_is_what_vllm_answers_without_streaming() -> None:
    whole = chat(ROLE, delta(content="Hel"), delta(content="lo"), STOP)
    assert whole == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "token_ids": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": {"prompt_tokens_details": None, **USAGE},
    }


def call(index: int, **fields: Any) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, **fields}])


def test_tool_calls_are_merged_by_their_index() -> None:
    whole = chat(
        ROLE,
        call(0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call(1, id="b", type="function", function={"name": "g", "arguments": '{"x"'}),
        call(0, function={"arguments": '{"y": 1}'}),
        call(1, function={"arguments": ": 2}"}),
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    message = whole["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"y": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x": 2}'}},
    ]
    assert message["content"] is None
    assert whole["choices"][0]["finish_reason"] == "tool_calls"


def test_a_tool_that_was_required_leaves_an_empty_content() -> None:
    parts = (ROLE, call(0, id="a", function={"name": "f", "arguments": "{}"}), STOP)
    assert chat(*parts, forced=True)["choices"][0]["message"]["content"] == ""


def test_reasoning_and_log_probabilities_are_joined() -> None:
    whole = chat(
        ROLE,
        {**delta(reasoning="Hm"), "logprobs": {"content": [{"token": "Hm"}]}},
        {**delta(reasoning="m."), "logprobs": {"content": [{"token": "m."}]}},
        {**STOP, "token_ids": [4]},
    )
    choice = whole["choices"][0]
    assert choice["message"]["reasoning"] == "Hmm."
    assert choice["message"]["content"] is None
    assert choice["logprobs"] == {"content": [{"token": "Hm"}, {"token": "m."}]}
    assert choice["token_ids"] == [4]


def test_choices_are_told_apart_and_all_must_end() -> None:
    answer = Assembly("chat", 2)
    for index, text, reason in [(0, "a", None), (1, "b", "stop"), (0, "c", "length")]:
        assert not answer.finished
        choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
        answer.feed({**HEAD, "choices": [choice]})
    assert answer.finished
    choices = answer.whole(USAGE)["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["ac", "b"]
    assert [choice["finish_reason"] for choice in choices] == ["length", "stop"]


def test_a_completion_with_its_log_probabilities() -> None:
    answer = Assembly("completion")
    for text, offset, reason in [(" two", 0, None), (" three", 4, "stop")]:
        logprobs = {"tokens": [text], "text_offset": [offset], "token_logprobs": [-0.5]}
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason}
        answer.feed({"id": "cmpl-1", "created": 5, "model": "m", "choices": [choice]})
    whole = answer.whole(USAGE)
    assert whole["object"] == "text_completion"
    [choice] = whole["choices"]
    assert choice["text"] == " two three"
    assert choice["logprobs"] == {
        "tokens": [" two", " three"],
        "text_offset": [0, 4],
        "token_logprobs": [-0.5, -0.5],
    }
    assert choice["finish_reason"] == "stop"


def test_fields_that_only_some_releases_have_are_kept() -> None:
    answer = Assembly("chat")
    answer.feed({**HEAD, "choices": [{"index": 0, **STOP, "stop_reason": "END"}]})
    answer.feed({**HEAD, "choices": [], "system_fingerprint": "f", "metrics": {"ttft": 1}})
    whole = answer.whole(USAGE)
    assert (whole["system_fingerprint"], whole["metrics"]) == ("f", {"ttft": 1})
    assert whole["choices"][0]["stop_reason"] == "END"


@pytest.mark.parametrize("part", [{}, {"choices": [{}]}, {"choices": [{"index": 0, "delta": 1}]}])
def test_what_is_no_part_raises(part: dict[str, Any]) -> None:
    with pytest.raises((KeyError, AttributeError, TypeError)):
        Assembly("chat").feed(part)
