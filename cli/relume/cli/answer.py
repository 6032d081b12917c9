"""What an answering event says, in words and as a list of its attributes."""

import json
from collections.abc import Mapping, Sequence

RESPONSE = "relume.inference.response"
ERROR = "relume.inference.error"

_FIRST = ("type", "id", "source", "subject", "causationid")
_UNSAID = {"specversion", "data", "data_base64"}


def is_answer(event: Mapping[str, object]) -> bool:
    """Whether the event's type is one that a predictor answers with."""
    return event.get("type") in (RESPONSE, ERROR)


def is_error(event: Mapping[str, object]) -> bool:
    return event.get("type") == ERROR


def attributes(event: Mapping[str, object]) -> list[tuple[str, str]]:
    """The context attributes of a structured event, the most telling first."""
    names = [name for name in _FIRST if name in event]
    names += sorted(set(event) - set(_FIRST) - _UNSAID)
    return [(name, _plain(event[name])) for name in names]


def sentence(event: Mapping[str, object]) -> str:
    """What the model said, for a reader: the text, or a description of what is not text."""
    data = event.get("data")
    if not isinstance(data, Mapping):
        return data if isinstance(data, str) else _plain(data)
    for reader in (_error, _choices, _embeddings):
        if words := reader(data):
            return words
    return json.dumps(data, ensure_ascii=False, indent=2)


def _error(data: Mapping[str, object]) -> str | None:
    error = data.get("error")
    if isinstance(error, Mapping) and error.get("message"):
        return str(error["message"])
    return str(error) if isinstance(error, str) else None


def _choices(data: Mapping[str, object]) -> str | None:
    choice = _first(data.get("choices"))
    if choice is None:
        return None
    message = choice.get("message")
    words = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    return str(words).strip() if words else None


def _embeddings(data: Mapping[str, object]) -> str | None:
    entry = _first(data.get("data"))
    vector = entry.get("embedding") if entry is not None else None
    if not isinstance(vector, list):
        return None
    start = ", ".join(f"{number:.4f}" for number in vector[:4])
    return f"an embedding of {len(vector)} numbers: {start}, …"


def _first(value: object) -> Mapping[str, object] | None:
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        return value[0]
    return None


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
