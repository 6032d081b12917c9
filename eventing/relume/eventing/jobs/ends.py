"""How a job ends: with an answer, with the refusal of the predictor, or with neither. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from relume.base.vocabulary import ERROR
from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.decision import DeadLetter
from relume.eventing.delivery.outcome import Answered
from relume.eventing.jobs.state import Settled
from relume.eventing.jobs.transcript import Tokens

_DETAIL_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class End:
    """How a job ends. `result` is the status, the content type and the body of the answer.

    `reply` is the predictor's reply event; its data is the body of the result.
    """

    state: Settled
    reason: str = ""
    detail: str = ""
    result: tuple[int, str, bytes] | None = None
    reply: CloudEvent | None = None


def of_event(status: int, reply: CloudEvent | None) -> End:
    """The end of a job that came as an event and was answered with 2xx."""
    if reply is None:
        return End("completed", result=(status, "application/octet-stream", b""))
    data = reply.data or b""
    result = (status, reply.datacontenttype or "application/json", data)
    if reply.type != ERROR:
        return End("completed", result=result, reply=reply)
    told = _object(data)
    error = told.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    detail = str(message or "")[:_DETAIL_CHARACTERS]
    return End("failed", str(told.get("reason") or "rejected"), detail, result, reply)


def of_refusal(letter: DeadLetter, refused: Answered, content_type: str) -> End:
    """The end of a job whose predictor refused it (`failed`), or failed too often (`dead`)."""
    detail = letter.data[:_DETAIL_CHARACTERS].decode(errors="replace")
    state: Settled = "failed" if letter.reason == "rejected" else "dead"
    # Only where the last attempt was answered: an older answer says nothing about how it ended.
    answered = letter.code == refused.status and refused.status > 0
    result = (refused.status, content_type, refused.body) if answered else None
    return End(state, letter.reason, detail, result)


def tokens_in(body: bytes) -> Tokens:
    """The tokens that the usage in an answer tells, by OpenAI's names or those of other routes."""
    usage = _object(body).get("usage")
    if not isinstance(usage, dict):
        return Tokens()
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Tokens(
        prompt=_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        completion=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cached=_count(usage.get("cache_read_input_tokens") if cached is None else cached),
    )


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(body)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
