"""Events in and out of a function: what an answer copies, error events, and the guard around both.

Every function of this folder that takes events holds the same copy of this file, because each is
built and deployed alone. A test of the project compares the copies.
"""

import hashlib
import json
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.v1.event import CloudEvent

#: The type of an error event, whichever function made it.
ERROR = "relume.function.error"
#: What a model that Relume serves answers with.
MODEL_RESPONSE, MODEL_ERROR = "relume.inference.response", "relume.inference.error"
#: Attributes that an answer copies from its request. Models served by Relume copy the same ones.
COPIED = ("subject", "traceparent", "tracestate", "partitionkey", "correlationid")

#: More than any Broker delivers.
MOST_BYTES = 16 * 1024 * 1024

Json = dict[str, Any]


class Refusal(Exception):
    """The event can never succeed as it is. It becomes an error event with this `reason`."""

    def __init__(self, reason: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.param = reason, message, param


class HttpAnswer(Exception):
    """Answer with a status and no event, so that the Broker retries or makes a dead letter."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Answer:
    """An event to be. `part` tells apart several answers to one request; `attributes` win."""

    type: str
    data: object
    content_type: str = "application/json"
    part: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def text_of(request: CloudEvent, name: str) -> str | None:
    """An attribute that is set and is text, else None."""
    value = request.get_attributes().get(name)
    return _encodable(value) if isinstance(value, str) and value else None


def object_of(request: CloudEvent) -> Json:
    """The data, which must be a JSON object. Raises Refusal with reason `invalid-data`."""
    data = request.get_data()
    if isinstance(data, bytes | str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            raise Refusal("invalid-data", "the data is not JSON", "data") from None
    if not isinstance(data, dict):
        raise Refusal("invalid-data", "the data must be a JSON object", "data")
    return data


def answer_id(source: str, request: CloudEvent, kind: str, part: str = "") -> str:
    """The same for every delivery of the same request, so that a Broker stores the answer once."""
    told = json.dumps([source, request.get_source(), request.get_id(), kind, part])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def event_for(request: CloudEvent, answer: Answer, source: str) -> CloudEvent:
    """The event that answers `request`; its data is bytes, which every codec writes unchanged."""
    copied = {name: value for name in COPIED if (value := text_of(request, name))}
    attributes: Json = {
        **copied,
        "id": answer_id(source, request, answer.type, answer.part),
        "source": source,
        "type": answer.type,
        "datacontenttype": answer.content_type,
        "causationid": _encodable(request.get_id()),
        **answer.attributes,
    }
    data = answer.data
    if not isinstance(data, bytes):
        text = data if isinstance(data, str) else json.dumps(data)
        data = _encodable(text).encode()
    return CloudEvent(attributes, data)


def _encodable(text: str) -> str:
    """JSON may hold halves of surrogate pairs, which no UTF-8 can say; they become `?`."""
    return text.encode("utf-8", "replace").decode()


def error_answer(refusal: Refusal) -> Answer:
    """Shaped like a model's error event, so that one consumer reads both."""
    error = {
        "message": refusal.message,
        "type": "invalid_request_error",
        "param": refusal.param,
        "code": 422,
    }
    return Answer(ERROR, {"error": error, "reason": refusal.reason, "retryable": False})


class EventFunction:
    """func-python's handler around `answer`, which subclasses write.

    What the function itself emitted is answered with 200 and no event, so that a Trigger without a
    filter makes no loop; so are error events, unless `takes_errors` says that they are wanted.
    """

    name = ""
    takes_errors = False
    source = ""

    def start(self, cfg: dict[str, str]) -> None:
        """Read the configuration. A failure ends the process, with the reason in its log."""
        name = cfg.get("K_SERVICE") or self.name
        self.source = cfg.get("FUNCTION_SOURCE") or f"/functions/{name}"

    def alive(self) -> tuple[bool, str]:
        return True, "Alive"

    def ready(self) -> tuple[bool, str]:
        return True, "Ready"

    async def answer(self, request: CloudEvent) -> Answer | None:
        """The event that answers `request`, or None. Raises Refusal or HttpAnswer."""
        raise NotImplementedError

    async def handle(self, scope: Json, receive: Any, send: Any) -> None:
        """One HTTP request of func-python's server: decode the event, answer it."""
        try:
            request = await _decoded(scope, receive)
        except NotAnEvent as error:
            outcome = Outcome(400, body={"error": str(error), "reason": "invalid-event"})
        else:
            outcome = await self.outcome(request)
        await _send(send, outcome)

    async def outcome(self, request: CloudEvent) -> "Outcome":
        """What becomes of an event. Raises nothing that an event can cause."""
        unwanted = request.get_type() == ERROR and not self.takes_errors
        if unwanted or request.get_source() == self.source:
            return Outcome(200)
        try:
            answer = await self.answer(request)
            return Outcome(
                200, event=None if answer is None else event_for(request, answer, self.source)
            )
        except HttpAnswer as told:
            logging.warning("answered %d: %s: %s", told.status, told.reason, told.message)
            body = {"error": told.message, "reason": told.reason}
            return Outcome(told.status, body=body, retry_after_s=told.retry_after_s)
        except Refusal as refusal:
            refused = refusal
        except Exception as error:
            # Where, but not the text of the error, which may hold what the event holds.
            where = "".join(traceback.format_tb(error.__traceback__))
            name = type(error).__name__
            logging.error("failed with event %s: %s\n%s", request.get_id(), name, where)
            refused = Refusal("internal", "the function failed; its log says why")
        return Outcome(200, event=event_for(request, error_answer(refused), self.source))


@dataclass(frozen=True)
class Outcome:
    """An HTTP answer to be, with an event or without."""

    status: int
    event: CloudEvent | None = None
    body: Json | None = None
    retry_after_s: int | None = None


class NotAnEvent(Exception):
    """The request holds no single CloudEvent that can be read."""


async def _decoded(scope: Json, receive: Any) -> CloudEvent:
    """The event of a request, in binary or structured mode. Raises NotAnEvent.

    Here and not in `func_python.cloudevent`, which answers a batch and deeply nested JSON with a
    500 (0.8.1), and a Broker tries a 500 again.
    """
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            raise NotAnEvent(f"an event has at most {MOST_BYTES} bytes")
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
    if headers.get("content-type", "").startswith("application/cloudevents-batch"):
        raise NotAnEvent("send one event at a time, not a batch")
    try:
        event = from_http_event(HTTPMessage(headers, body))
    except (BaseCloudEventException, ValueError, TypeError, AttributeError, KeyError) as error:
        raise NotAnEvent(f"no CloudEvent can be read: {type(error).__name__}") from None
    except RecursionError:
        raise NotAnEvent("the JSON is nested too deeply") from None
    if not isinstance(event, CloudEvent):
        raise NotAnEvent("the specversion must be 1.0")
    return event


async def _send(send: Any, outcome: Outcome) -> None:
    headers: dict[str, str] = {}
    data = b""
    if outcome.event is not None:
        message = to_binary_event(outcome.event)
        headers, data = dict(message.headers), message.body
    elif outcome.body is not None:
        headers, data = {"content-type": "application/json"}, json.dumps(outcome.body).encode()
    if outcome.retry_after_s is not None:
        headers["retry-after"] = str(outcome.retry_after_s)
    headers["content-length"] = str(len(data))
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    start = {"type": "http.response.start", "status": outcome.status, "headers": encoded}
    await send(start)
    await send({"type": "http.response.body", "body": data})
