"""The answer of a model becomes a typed domain event, by the JSON Schema in `extract.yaml`.

Three kinds of events come in. A request to the model leaves with the schema as its
`response_format`. An answer that fits the schema leaves as the domain event. An answer that does
not fit leaves as a new request that shows the model its errors, once; then as an error event. No
state is kept: the id of a repair request says what it is, and the model's answer repeats that id
as its `causationid`.
"""

import json
import logging
from typing import Any

from cloudevents.core.v1.event import CloudEvent
from jsonschema import Draft202012Validator

from .events import (
    MODEL_ERROR,
    Answer,
    EventFunction,
    Json,
    Refusal,
    answer_id,
    object_of,
    text_of,
)
from .fitting import misfits
from .settings import load_settings

FIELDS = frozenset(
    {"type", "request_type", "schema", "schema_name", "repair", "instruction", "max_tokens"}
)
REPAIR = "repair-"
INSTRUCTION = "Correct the JSON so that it fits the JSON Schema. Answer with the JSON only."


def new() -> "Extract":
    return Extract()


class Extract(EventFunction):
    name = "extract"

    def start(self, cfg: dict[str, str]) -> None:
        super().start(cfg)
        settings = load_settings(cfg, "extract.yaml", FIELDS)
        self._type = settings.read("type", str)
        self._request_type = settings.read("request_type", str)
        self._schema = settings.schema("schema")
        self._schema_name = settings.read("schema_name", str, "answer")
        self._repair = settings.read("repair", bool, True)
        self._instruction = settings.read("instruction", str, INSTRUCTION)
        self._max_tokens = settings.read("max_tokens", int, 256)
        self._validator = Draft202012Validator(self._schema)
        logging.info("domain events are of type %s, by %s", self._type, settings.file)

    async def answer(self, request: CloudEvent) -> Answer:
        data = object_of(request)
        if request.get_type() == MODEL_ERROR:
            raise Refusal("model-refused", f"the model refused the request: {_refusal(data)}")
        if "choices" in data:
            return self._read(request, data)
        if isinstance(data.get("messages"), list) or "prompt" in data:
            return Answer(self._request_type, {**data, "response_format": self._format()})
        raise Refusal(
            "invalid-data", "the data has none of the fields choices, messages, prompt", "data"
        )

    def _read(self, request: CloudEvent, data: Json) -> Answer:
        text = answered_text(data)
        value, errors = self._parse(text)
        if not errors:
            return Answer(self._type, value)
        repaired = (text_of(request, "causationid") or "").startswith(REPAIR)
        if self._repair and not repaired:
            return self._repair_request(request, text, errors)
        raise Refusal("invalid-answer", "; ".join(errors), errors[0].split(":")[0])

    def _parse(self, text: str) -> tuple[Any, list[str]]:
        try:
            value = json.loads(without_fence(text), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else "is no JSON"
            return None, [f"data: the answer is not JSON: {told}"]
        return value, misfits(value, self._validator)

    def _repair_request(self, request: CloudEvent, text: str, errors: list[str]) -> Answer:
        asked = (
            f"JSON Schema:\n{json.dumps(self._schema, ensure_ascii=False)}\n\n"
            f"Errors:\n{chr(10).join(errors)}\n\nJSON:\n{text}"
        )
        made = {
            "messages": [
                {"role": "system", "content": self._instruction},
                {"role": "user", "content": asked},
            ],
            "max_tokens": self._max_tokens,
            "temperature": 0,
            "response_format": self._format(),
        }
        id_ = REPAIR + answer_id(self.source, request, self._request_type, "repair")
        return Answer(self._request_type, made, attributes={"id": id_})

    def _format(self) -> Json:
        asked = {"name": self._schema_name, "schema": self._schema, "strict": True}
        return {"type": "json_schema", "json_schema": asked}


def answered_text(data: Json) -> str:
    """The text of a chat or completion answer. Raises Refusal where there is none."""
    try:
        choice = data["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise Refusal("no-answer", "the model's answer has no text in choices[0]", "data.choices")
    return text


def without_fence(text: str) -> str:
    """The content of a Markdown code block, where the answer is one; else the answer."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped[stripped.index("\n") : -3]
    return stripped


def _refusal(data: Json) -> str:
    reason, error = data.get("reason"), data.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return f"{reason}: {message}"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
