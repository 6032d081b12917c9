"""Texts and their vectors in a file, and the parts that are nearest to a question.

    a part (of split-join)      is kept; out goes the request for its vector
    a question                  is kept; out goes the request for its vector
    a vector                    completes the part or answers the question that it is for

A model copies `correlationid` from the request into its answer, which says what a vector is for.
"""

import hashlib
import json
import logging
import math
import re
from pathlib import Path
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from .events import (
    COPIED,
    MODEL_ERROR,
    MODEL_RESPONSE,
    Answer,
    EventFunction,
    Json,
    Refusal,
    object_of,
    text_of,
)
from .table import Table, WrongDimension

#: How split-join names a part; only those of the document itself are kept, not its summaries.
_PART = re.compile(r"sj\.([0-9a-f]{24})\.(\d+)\.(\d+)")
_QUESTION = re.compile(r"vq\.[0-9a-f]{32}")


def new() -> "VectorStore":
    return VectorStore()


class VectorStore(EventFunction):
    name = "vector-store"

    def start(self, cfg: dict[str, str]) -> None:
        """Read the variables and open the file. Raises ValueError or apsw.Error."""
        super().start(cfg)
        if not cfg.get("STORE_FILE"):
            raise ValueError("STORE_FILE is not set; it names the file of the parts and vectors")
        self._part_type = cfg.get("STORE_PART_TYPE") or "com.example.document.part"
        self._question_type = cfg.get("STORE_QUESTION_TYPE") or "com.example.document.asked"
        self._request_type = cfg.get("STORE_REQUEST_TYPE") or "com.example.document.embed"
        self._found_type = cfg.get("STORE_FOUND_TYPE") or "com.example.document.found"
        self._table = Table(Path(cfg["STORE_FILE"]).expanduser())
        logging.info("parts are kept in %s", cfg["STORE_FILE"])

    async def answer(self, request: CloudEvent) -> Answer | None:
        type_, data = request.get_type(), object_of(request)
        name = text_of(request, "correlationid") or ""
        if type_ == self._question_type:
            return self._asked(request, data)
        if type_ == self._part_type:
            return self._part(request, name, data)
        if type_ == MODEL_ERROR and (_QUESTION.fullmatch(name) or self._table.has(name)):
            raise Refusal("model-refused", f"the model gave no vector: {data.get('reason')}")
        if type_ == MODEL_RESPONSE and _QUESTION.fullmatch(name):
            return self._found(name, vector_of(data))
        if type_ == MODEL_RESPONSE and self._table.has(name):
            try:
                self._table.set_vector(name, vector_of(data))
            except WrongDimension as error:
                raise Refusal("wrong-dimension", str(error), "data") from None
        return None

    def _part(self, request: CloudEvent, name: str, data: Json) -> Answer | None:
        found = _PART.fullmatch(name)
        if found is None:
            raise Refusal("unknown-part", "the correlationid is none of split-join")
        if int(found[2]) > 0:
            return None
        text = part_text(data)
        self._table.add(name, found[1], int(found[3]), text_of(request, "subject"), text)
        return Answer(self._request_type, {"input": [text]})

    def _asked(self, request: CloudEvent, data: Json) -> Answer:
        text, most = data.get("question"), data.get("most", 3)
        if not isinstance(text, str) or not text.strip():
            raise Refusal("invalid-data", "the data must have a field question", "data.question")
        if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= 100:
            raise Refusal("invalid-data", "most must be a number from 1 to 100", "data.most")
        told = json.dumps([request.get_source(), request.get_id()])
        name = "vq." + hashlib.sha256(told.encode()).hexdigest()[:32]
        copied = {key: value for key in COPIED if (value := text_of(request, key))}
        asked = copied | {"causationid": request.get_id()}
        self._table.ask(name, text, most, json.dumps(asked))
        attributes = {"correlationid": name}
        return Answer(self._request_type, {"input": [text]}, attributes=attributes)

    def _found(self, name: str, vector: list[float]) -> Answer:
        question = self._table.question(name)
        if question is None:
            raise Refusal("unknown-question", "the question of this vector is not in the file")
        text, most, asked = question
        try:
            near = self._table.nearest(vector, most)
        except WrongDimension as error:
            raise Refusal("wrong-dimension", str(error), "data") from None
        found = [
            {
                "document": part.document,
                "subject": part.subject,
                "part": part.number,
                "distance": round(part.distance, 6),
                "text": part.text,
            }
            for part in near
        ]
        # Copies what the question had: the vector's own correlationid is only between us.
        attributes = {"correlationid": name} | json.loads(asked)
        return Answer(self._found_type, {"question": text, "found": found}, attributes=attributes)


def part_text(data: Json) -> str:
    """The text of a part: the last message of a chat, or the one input. Raises Refusal."""
    try:
        value: Any = data["messages"][-1]["content"] if "messages" in data else data["input"][0]
    except (LookupError, TypeError):
        value = None
    if not isinstance(value, str) or not value:
        raise Refusal("invalid-data", "the data has neither messages nor input with a text", "data")
    return value


def vector_of(data: Json) -> list[float]:
    """The vector of an embedding answer. Raises Refusal."""
    try:
        vector = [float(number) for number in data["data"][0]["embedding"]]
    except (LookupError, TypeError, ValueError):
        vector = []
    if not vector or not all(map(math.isfinite, vector)):
        raise Refusal("no-vector", "the model's answer has no vector in data[0].embedding", "data")
    return vector
