"""Which requests are streamed, and which of them can go on from the text that is stored.

A request goes on when the predictor, given the text so far, writes what it would have written next.
For a chat this is `continue_final_message` (the text so far is the last message, left open), for a
completion it is the prompt with the text so far. Whatever else looks back at what was generated
(tools, constraints, log probabilities, penalties) would not see the first part, so such a request
begins again. The fields are those of vLLM 0.32 (entrypoints/openai/*/protocol.py). Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from relume.eventing.jobs.assembly import Kind, Part

# Fields with which a request cannot go on: each constrains, counts or returns the answer as one.
_BIND_THE_WHOLE = (
    "tools",
    "functions",
    "response_format",
    "structured_outputs",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "logprob_token_ids",
    "echo",
    "suffix",
    "presence_penalty",
    "frequency_penalty",
    "bad_words",
    "repetition_detection",
    "thinking_token_budget",
    "reasoning_effort",
    "truncate_prompt_tokens",
    "return_token_ids",
    "return_prompt_text",
    "prompt_embeds",
    "kv_transfer_params",
    "ec_transfer_params",
    "use_beam_search",
)
# Fields with which vLLM answers only at once, or says more at once than in a stream.
_AT_ONCE = ("use_beam_search", "kv_transfer_params", "ec_transfer_params")
# A chat template may cut such text out of a message, and nobody would be told.
_THOUGHTS = ("<think>", "</think>")
_ROUTES: Mapping[str, Kind] = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}
# What vLLM takes for the length of a completion that does not say it.
_COMPLETION_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is streamed: what its client asked, and of which kind."""

    kind: Kind
    asked: Mapping[str, Any]

    @property
    def choices(self) -> int:
        """How many choices the answer has."""
        prompt = self.asked.get("prompt")
        many = isinstance(prompt, list) and not all(isinstance(each, int) for each in prompt)
        return (self.asked.get("n") or 1) * (len(prompt) if many and prompt else 1)

    @property
    def may_go_on(self) -> bool:
        """Whether the kind of the request lets it go on from its text."""
        asked = self.asked
        if self.choices != 1 or any(asked.get(each) for each in _BIND_THE_WHOLE):
            return False
        if self._holds_back:
            return False
        if self.kind == "completion":
            return isinstance(_only(asked.get("prompt")), str)
        opens = asked.get("add_generation_prompt", True)
        return bool(opens) != bool(asked.get("continue_final_message"))

    @property
    def wants_usage(self) -> bool:
        """Whether the client reads a stream and asked for a last part with the usage."""
        return bool(self._stream_options.get("include_usage"))

    @property
    def wants_running_usage(self) -> bool:
        """Whether the client asked for the usage in every part."""
        return self.wants_usage and bool(self._stream_options.get("continuous_usage_stats"))

    @property
    def forces_tool(self) -> bool:
        choice = self.asked.get("tool_choice")
        return choice == "required" or isinstance(choice, dict)

    @property
    def first(self) -> Part:
        """The request from its beginning, streamed and with its usage."""
        # Running usage says how many tokens a text has that another request goes on from.
        options = {"include_usage": True, "continuous_usage_stats": self.may_go_on}
        if self.wants_running_usage:
            options["continuous_usage_stats"] = True
        return {
            **self.asked,
            "stream": True,
            "stream_options": {**self._stream_options, **options},
        }

    def left(self, tokens: int) -> int | None:
        """How many tokens may follow when the answer has so many; None: the model's limit."""
        return None if (limit := self._limit) is None else limit[1] - tokens

    def going_on(self, text: str, tokens: int) -> Part | None:
        """The request that goes on from `text`; None when this one can only begin again.

        `tokens` is how many tokens the text has.
        """
        if not self.may_go_on or self._ends_in_half_a_stop(text):
            return None
        body = self.first
        if self.kind == "completion":
            body["prompt"] = str(_only(body["prompt"])) + text
        elif (messages := self._messages_with(text)) is not None:
            changes = {"continue_final_message": True, "add_generation_prompt": False}
            body |= {"messages": messages, **changes}
            if space_at_the_end(text):
                body["return_prompt_text"] = True  # it tells whether the template has kept it
        else:
            return None
        if (limit := self._limit) is not None:
            body[limit[0]] = limit[1] - tokens
        if minimum := body.get("min_tokens"):
            body["min_tokens"] = max(0, minimum - tokens)
        return body

    @property
    def _stream_options(self) -> Mapping[str, Any]:
        options = self.asked.get("stream_options") if self.asked.get("stream") else None
        return options if isinstance(options, dict) else {}

    @property
    def _stops(self) -> Sequence[str]:
        stop = self.asked.get("stop") or ()
        return [stop] if isinstance(stop, str) else [each for each in stop if each]

    @property
    def _limit(self) -> tuple[str, int] | None:
        """The field that bounds the length of the answer, and its value."""
        names = ["max_tokens"]
        if self.kind == "chat":  # where both are there, this one counts
            names.insert(0, "max_completion_tokens")
        for name in names:
            if (value := self.asked.get(name)) is not None:
                return name, value
        by_default = self.kind == "completion" and "max_tokens" not in self.asked
        return ("max_tokens", _COMPLETION_TOKENS) if by_default else None

    @property
    def _holds_back(self) -> bool:
        """Whether vLLM holds back the last letters while they may begin a stop string.

        Then the text that is stored may end within a token, and a model goes on from half a token
        with another word.
        """
        kept = self.asked.get("include_stop_str_in_output")
        return not kept and any(len(stop) > 1 for stop in self._stops)

    def _messages_with(self, text: str) -> list[Any] | None:
        """The messages with the text so far as the end of the last one; None: it cannot be."""
        if any(each in text for each in _THOUGHTS) or not text:
            return None
        messages = self.asked.get("messages")
        if not isinstance(messages, list) or not messages:
            return None
        if not self.asked.get("continue_final_message"):
            return [*messages, {"role": "assistant", "content": text}]
        last = messages[-1]
        if not isinstance(last, dict) or not isinstance(last.get("content"), str):
            return None
        return [*messages[:-1], {**last, "content": last["content"] + text}]

    def _ends_in_half_a_stop(self, text: str) -> bool:
        """Whether what follows could complete a stop string that begins in the text."""
        return any(
            text.endswith(stop[:length]) for stop in self._stops for length in range(1, len(stop))
        )


def space_at_the_end(text: str) -> str:
    """The white space at the end of a text."""
    return text[len(text.rstrip()) :]


def question_of(route: str, content_type: str, body: bytes) -> Question | None:
    """The question in a request; None for one that is sent as it is and answered at once."""
    path = route.partition("?")[0].rstrip("/")
    kind = next((kind for end, kind in _ROUTES.items() if path.endswith(end)), None)
    if kind is None or "json" not in content_type.lower():
        return None
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None  # the predictor says what is wrong with it
    if not isinstance(asked, dict) or any(asked.get(each) for each in _AT_ONCE):
        return None
    if asked.get("prompt_logprobs") is not None:
        return None
    return Question(kind, asked) if _is_sound(asked) else None


def _is_sound(asked: Mapping[str, Any]) -> bool:
    """Whether the fields that are read here have values that an answer can be counted with."""
    numbers = ("n", "max_tokens", "max_completion_tokens", "min_tokens")
    counts = (asked.get(name) for name in numbers)
    stop = asked.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    return all(each is None or (type(each) is int and each >= 0) for each in counts) and all(
        each is None or isinstance(each, str) for each in stops
    )


def _only(prompt: object) -> object:
    """A prompt, or the only one of a list."""
    return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
