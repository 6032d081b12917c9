"""What a client is shown of an answer: the parts of all attempts as those of one stream.

A predictor's parts go in, the parts to be stored come out. An attempt that goes on from the text
of an earlier one has another id, begins with a role that was shown already, and counts its tokens
from its own prompt: all of that is set right here. The token counts so far are stored in each part
(`relume_tokens`), so that a worker that takes over after a crash knows them.

Pure: no I/O, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from relume.base.errors import RelumeError
from relume.eventing.jobs.assembly import TOKENS, Assembly, Part
from relume.eventing.jobs.continuation import Question, space_at_the_end
from relume.eventing.jobs.store import Chunk

Json = Mapping[str, Any]

# Why vLLM ends an answer that it does not finish: it stops, or its engine has failed.
_NO_ENDS = frozenset({"abort", "error"})


class BrokenPart(RelumeError):
    """The predictor sent something that is no part of an answer."""

    reason = "broken-answer"


class StreamedError(RelumeError):
    """The predictor sent an error in the middle of its stream: a status, and its body."""

    reason = "streamed-error"

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(body[:200].decode(errors="replace"))
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of an answer so far."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


class Transcript:
    """One answer, over all attempts that went on from each other."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._counts = question.may_go_on
        self._wants_running_usage = question.wants_running_usage
        self._held: Part | None = None
        # The last usage that the predictor has told, with the prompt and the completion of then.
        self._told: tuple[Json, int, int] | None = None
        self._begin_anew()

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return self._answer.finished

    @property
    def is_blank(self) -> bool:
        """Whether a reader has seen nothing of it yet."""
        return self._answer.is_blank

    @property
    def first_request(self) -> Part:
        """The request that begins at the beginning."""
        return self._question.first

    @property
    def tokens(self) -> Tokens:
        return Tokens(self._prompt or 0, self._completion, self._cached)

    def restore(self, chunks: Sequence[Chunk]) -> None:
        """Take what is stored: parts that `receive` has made."""
        for chunk in chunks:
            if chunk.kind == "restarted":
                self._begin_anew()
            else:
                part = _parsed(chunk.data)
                self._count_stored(part)
                self._feed(part)

    def going_on(self) -> Part | None:
        """The request that goes on from here; None when the answer must begin again."""
        text = self._answer.text
        if not text or not self._answer.is_plain:
            return None
        return self._question.going_on(text, self._tokens_so_far)

    @property
    def exhausted(self) -> bool:
        """Whether the answer has as many tokens as it may have, and only its end is missing."""
        left = self._question.left(self._tokens_so_far)
        return left is not None and left <= 0 and not self._answer.is_blank

    def begin_again(self) -> None:
        """The next attempt answers from the beginning; nothing that was shown counts."""
        head, shown = self._answer.head, not self._answer.is_blank
        self._begin_anew()
        if not shown:  # then it is still the same answer to its reader
            self._answer.head, self._follows = head, bool(head)

    def go_on(self) -> None:
        """The next attempt goes on from the text so far."""
        text = self._answer.text
        self._follows, self._overlap = True, space_at_the_end(text)
        self._is_first = True
        self._base = self._completion = self._tokens_so_far

    def receive(self, data: bytes) -> list[bytes]:
        """The parts to store for a part of the predictor.

        The end of a choice is held back until the next part or `end`, because the usage comes
        after it. Raises BrokenPart, StreamedError.
        """
        part = _parsed(data)
        if "error" in part:
            raise _streamed(part, data)
        try:
            return self._received(part, _choices_of(part))
        except (AttributeError, KeyError, TypeError) as error:
            raise BrokenPart(f"a part of the stream cannot be read: {error!r}") from None

    def _received(self, part: Part, choices: list[Any]) -> list[bytes]:
        ends = False
        for choice in choices:
            if reason := choice.get("finish_reason"):
                ends = True
                if reason in _NO_ENDS:
                    raise BrokenPart("the predictor has given up the answer")
        if self._follows:
            self._compare_prompt(part)
            part |= {name: value for name, value in self._answer.head.items() if value}
            if choices and self._repeats(choices):
                return []
        usage = part.pop("usage", None)
        if usage:
            self._count(usage)
        elif _has_text(choices):
            self._completion += 1  # the best that can be said of a predictor that does not count
        if not choices and usage:
            return self._take_usage(part, self._usage(usage))
        if usage and self._wants_running_usage:
            part["usage"] = self._usage(usage)
        elif self._counts:
            part[TOKENS] = [self._prompt or 0, self._completion]
        self._feed(part)
        released = self.end() if self._held is not None else []
        if ends:
            self._held = part
        else:
            released.append(orjson.dumps(part))
        return released

    def end(self) -> list[bytes]:
        """What was held back: the stream is at its end, or has broken off."""
        held, self._held = self._held, None
        return [] if held is None else [orjson.dumps(held)]

    def cut_off(self) -> list[bytes]:
        """The end of an answer that has as many tokens as it may have."""
        last: Part = {"index": 0, "finish_reason": "length"}
        if self._question.kind == "chat":
            last["delta"] = {}
        else:
            last["text"] = ""
        kind = "chat.completion.chunk" if self._question.kind == "chat" else "text_completion"
        part = {**self._answer.head, "object": kind, "choices": [last]}
        part[TOKENS] = [self._prompt or 0, self._completion]
        self._feed(part)
        if not self._question.wants_usage:
            return [orjson.dumps(part)]
        self._told = ({}, self._prompt or 0, self._completion)
        usage = {**self._answer.head, "object": kind, "choices": [], "usage": self._usage({})}
        return [orjson.dumps(part), orjson.dumps(usage)]

    def whole(self) -> bytes:
        """The complete answer, as the predictor would have given it without streaming."""
        told = self._usage({}) if self._told is None else self._usage(*self._told)
        usage = self._answer.usage or told
        forced = self._question.forces_tool
        return orjson.dumps(self._answer.whole(usage, forced_tool=forced))

    def _begin_anew(self) -> None:
        question = self._question
        self._answer = Assembly(question.kind, question.choices)
        self._follows = False  # whether the next parts follow those of another attempt
        self._is_first = False
        self._overlap = ""  # white space that the predictor will write again
        self._held = None
        self._prompt: int | None = None
        self._base = 0  # completion tokens of the attempts before
        self._completion = 0
        self._cached = 0
        self._told = None
        self._tokens_so_far: int = 0  # up to the last part that had a text; half a letter has none

    def _feed(self, part: Part) -> None:
        self._answer.feed(part)
        if self._counts:
            for choice in part["choices"]:
                if choice["index"] == 0:
                    if _text_of(choice):
                        self._tokens_so_far = self._completion
                    break

    def _compare_prompt(self, part: Part) -> None:
        """Find out whether the text at the end of the prompt still has its last white space.

        Many chat templates cut it off (Llama's and Gemma's do). Then the predictor writes it again,
        and it is taken away. vLLM says its prompt in the first part; who does not say it has none
        of these templates.
        """
        if not self._is_first:
            return
        self._is_first = False
        prompt = part.pop("prompt_text", None)
        if not isinstance(prompt, str) or prompt.endswith(self._overlap):
            self._overlap = ""

    def _repeats(self, choices: list[Any]) -> bool:
        """Take away what was shown already; whether nothing is left of the part."""
        for choice in choices:
            delta = choice.get("delta", choice)
            delta.pop("role", None)
            key = "content" if "delta" in choice else "text"
            if self._overlap and isinstance(text := delta.get(key), str):
                if text.startswith(self._overlap):
                    delta[key], self._overlap = text.removeprefix(self._overlap), ""
                elif self._overlap.startswith(text):
                    delta[key], self._overlap = "", self._overlap.removeprefix(text)
                else:
                    self._overlap = ""
        return all(
            not any(value for name, value in choice.items() if name not in ("index", "delta"))
            and not any((choice.get("delta") or {}).values())
            for choice in choices
        )

    def _count(self, usage: Json) -> None:
        """Take what the predictor says of this attempt."""
        if self._prompt is None:
            # The prompt of a request that goes on ends with the text so far.
            self._prompt = max(0, (usage.get("prompt_tokens") or 0) - self._base)
        self._completion = self._base + (usage.get("completion_tokens") or 0)
        details = usage.get("prompt_tokens_details") or {}
        self._cached = min(details.get("cached_tokens") or 0, self._prompt)
        self._told = (usage, self._prompt, self._completion)

    def _usage(self, usage: Json, prompt: int | None = None, completion: int | None = None) -> Part:
        """A usage of the predictor with the counts over all attempts: those of now, or these."""
        prompt = (self._prompt or 0) if prompt is None else prompt
        completion = self._completion if completion is None else completion
        return {
            **usage,
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }

    def _take_usage(self, part: Part, usage: Part) -> list[bytes]:
        """The last part, which has the usage and nothing else."""
        if not self._question.wants_usage:
            # A reader that did not ask for it does not expect a part without choices.
            if self._held is None:
                return []
            self._held["usage"] = usage
            beside = {name: value for name, value in part.items() if name not in self._held}
            self._held |= beside
            self._answer.feed({**beside, "choices": [], "usage": usage})
            return self.end()
        part["usage"] = usage
        self._answer.feed(part)
        return [*self.end(), orjson.dumps(part)]

    def _count_stored(self, part: Part) -> None:
        if usage := part.get("usage"):
            self._count(usage)
        elif isinstance(counts := part.get(TOKENS), list):
            prompt, self._completion = counts
            self._prompt = prompt or None  # 0: nobody has said it yet


def stored_tokens(chunks: Sequence[Chunk]) -> Tokens:
    """The tokens of an answer that nobody goes on with, as its stored parts tell them.

    Where none of them has counts, each part with a text stands for one token.
    """
    prompt = completion = cached = 0
    for chunk in chunks:
        if chunk.kind == "restarted":
            prompt = completion = cached = 0
            continue
        part = _parsed(chunk.data)
        if isinstance(usage := part.get("usage"), dict):
            prompt = usage.get("prompt_tokens") or 0
            completion = usage.get("completion_tokens") or 0
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        elif isinstance(counts := part.get(TOKENS), list):
            prompt, completion = counts
        else:
            completion += _has_text(part.get("choices") or [])
    return Tokens(prompt, completion, cached)


def _parsed(data: bytes) -> Part:
    try:
        part = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenPart(f"a part of the stream is no JSON: {error}") from None
    if not isinstance(part, dict):
        raise BrokenPart(f"a part of the stream is no object: {data[:200]!r}")
    return part


def _choices_of(part: Part) -> list[Any]:
    choices = part.get("choices")
    if isinstance(choices, list):
        for each in choices:
            if not isinstance(each, dict):
                break
        else:
            return choices
    raise BrokenPart(f"a part of the stream has no choices; it has {sorted(part)}")


def _streamed(part: Part, data: bytes) -> StreamedError:
    error = part["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return StreamedError(code if type(code) is int and 400 <= code < 600 else 500, data)


def _text_of(choice: Json) -> str:
    delta = choice.get("delta")
    text = choice.get("text") if delta is None else delta.get("content")
    return text or ""


def _has_text(choices: list[Any]) -> bool:
    return any(_text_of(choice) for choice in choices)
