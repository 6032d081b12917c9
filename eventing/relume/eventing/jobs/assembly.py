"""Puts a complete answer together from the parts of its stream, as vLLM gives it without streaming.

Follows `chat_completion_full_generator` and `request_output_to_completion_response` of vLLM 0.32
(vllm/entrypoints/openai): the same fields in the same order. A field that only some requests or
some releases have is there when a part had it. Pure: no I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["chat", "completion"]
Part = dict[str, Any]

#: Beside `usage`, a part of ours may have this: prompt and completion tokens up to this part.
TOKENS = "relume_tokens"

# Nearly all parts have these fields alone, and one look at all of them tells it.
_HEAD = frozenset({"id", "object", "created", "model", "choices", "usage", TOKENS})
_CHOICE = frozenset({"index", "delta", "text", "logprobs", "finish_reason", "token_ids"})
_DELTA = frozenset({"role", "content", "reasoning", "tool_calls"})

_MANY = 500


@dataclass(slots=True)
class _ToolCall:
    id: str | None = None
    type: str = "function"
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def feed(self, delta: Mapping[str, Any]) -> None:
        self.id = delta.get("id") or self.id
        self.type = delta.get("type") or self.type
        function = delta.get("function") or {}
        # vLLM sends a name once and whole; OpenAI's own clients also take it for whole.
        self.name = function.get("name") or self.name
        if arguments := function.get("arguments"):
            _grow(self.arguments, arguments)

    def whole(self) -> Part:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": self.type, "function": function}


@dataclass(slots=True)
class _Choice:
    role: str = "assistant"
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: dict[int, _ToolCall] = field(default_factory=dict)
    logprobs: dict[str, list[Any]] | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    beside: Part = field(default_factory=dict)  # what else its parts said
    message: Part = field(default_factory=dict)  # what else its deltas said

    def feed(self, part: Mapping[str, Any]) -> None:
        delta = part.get("delta")
        if delta is None:
            delta = {"content": part.get("text")}
        self.role = delta.get("role") or self.role
        if content := delta.get("content"):
            _grow(self.text, content)
        if reasoning := delta.get("reasoning"):
            _grow(self.reasoning, reasoning)
        for call in delta.get("tool_calls") or ():
            self.tool_calls.setdefault(call.get("index", 0), _ToolCall()).feed(call)
        if not delta.keys() <= _DELTA:
            for name, value in delta.items():
                if name not in _DELTA and value is not None:
                    self.message[name] = _joined(self.message.get(name), value)
        if logprobs := part.get("logprobs"):
            self.logprobs = self.logprobs or {}
            for name, values in logprobs.items():
                self.logprobs.setdefault(name, []).extend(values or ())
        if (token_ids := part.get("token_ids")) is not None:
            self.token_ids = self.token_ids or []
            self.token_ids.extend(token_ids)
        self.finish_reason = part.get("finish_reason") or self.finish_reason
        _keep_others(self.beside, part, _CHOICE)

    @property
    def is_plain(self) -> bool:
        beside = (self.reasoning, self.tool_calls, self.logprobs, self.token_ids, self.message)
        return not any(beside)

    def as_chat(self, index: int, *, forced: bool) -> Part:
        content: str | None = "".join(self.text)
        reasoning = "".join(self.reasoning) or None
        if not content and not forced and (self.tool_calls or reasoning):
            content = None
        message: Part = {
            "role": self.role,
            "content": content,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": reasoning,
            **self.message,
        }
        if self.tool_calls:
            calls = sorted(self.tool_calls.items())
            message["tool_calls"] = [call.whole() for _, call in calls]
        return {"index": index, "message": message, **self._rest("stop")}

    def as_completion(self, index: int) -> Part:
        rest = {"prompt_logprobs": None, "prompt_token_ids": None} | self._rest(None)
        if self.token_ids is None:
            rest["prompt_token_ids"] = None  # a stream that repeats the prompt has them unasked
        return {"index": index, "text": "".join(self.text), **rest}

    def _rest(self, unfinished: str | None) -> Part:
        return {
            "logprobs": self.logprobs,
            "finish_reason": self.finish_reason or unfinished,
            "stop_reason": None,
            "token_ids": self.token_ids,
            **self.beside,
        }


class Assembly:
    """One answer as far as it has come. `choices` is how many it will have."""

    def __init__(self, kind: Kind, choices: int = 1) -> None:
        self._kind = kind
        self._expected = choices
        self._choices: dict[int, _Choice] = {}
        self._beside: Part = {}
        #: `id`, `created` and `model` of the first part.
        self.head: Part = {}
        #: The last usage that a part had.
        self.usage: Part | None = None

    def feed(self, part: Mapping[str, Any]) -> None:
        """Take the next part. Raises AttributeError, TypeError or KeyError for what is none."""
        if not self.head:
            self.head = {name: part.get(name) for name in ("id", "created", "model")}
        for choice in part["choices"]:
            if (known := self._choices.get(choice["index"])) is None:
                known = self._choices[choice["index"]] = _Choice()
            known.feed(choice)
        if (usage := part.get("usage")) is not None:
            self.usage = usage
        _keep_others(self._beside, part, _HEAD)

    @property
    def finished(self) -> bool:
        """Whether every choice has ended."""
        ended = sum(choice.finish_reason is not None for choice in self._choices.values())
        return ended >= self._expected

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return "".join(self._choices[0].text) if 0 in self._choices else ""

    @property
    def is_plain(self) -> bool:
        """Whether nothing has come but text."""
        return all(choice.is_plain for choice in self._choices.values())

    @property
    def is_blank(self) -> bool:
        """Whether nothing has come that a reader would miss: at most the roles."""
        return self.is_plain and not any(choice.text for choice in self._choices.values())

    def whole(self, usage: Mapping[str, Any], *, forced_tool: bool = False) -> Part:
        """The complete answer. `forced_tool`: the request named the tool or required one."""
        chosen = sorted(self._choices.items())
        if self._kind == "chat":
            kind = "chat.completion"
            choices = [each.as_chat(index, forced=forced_tool) for index, each in chosen]
        else:
            kind = "text_completion"
            choices = [each.as_completion(index) for index, each in chosen]
        return {
            "id": self.head.get("id"),
            "object": kind,
            "created": self.head.get("created"),
            "model": self.head.get("model"),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {"prompt_tokens_details": None, **usage},
            **self._beside,
        }


def _keep_others(kept: Part, part: Mapping[str, Any], known: frozenset[str]) -> None:
    """Keep the fields of a part that are not among the known ones."""
    if not part.keys() <= known:
        kept |= {
            name: each for name, each in part.items() if name not in known and each is not None
        }


def _grow(texts: list[str], text: str) -> None:
    """Add a text; many small ones are made one, which needs a tenth of the memory."""
    texts.append(text)
    if len(texts) > _MANY:
        texts[:] = ["".join(texts)]


def _joined(before: Any, value: Any) -> Any:
    """A field of a message that comes in deltas: texts and lists grow, all else is replaced."""
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    if isinstance(before, list) and isinstance(value, list):
        return before + value
    return value
