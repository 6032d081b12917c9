"""An event that the page sends: it gets an id here, and goes in by the door of the Brokers.

The Brokers have a port of their own, which a page of this one may not ask.
"""

import uuid
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relume.base.errors import InvalidInput
from relume.cloudevents.asgi import receive_of
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode

#: Where the page gets the id of what it has sent.
EVENT_ID = b"relume-event-id"
SOURCE = "/relume/page"


class NoEvent(InvalidInput):
    """The body is not an event as the page writes it."""

    reason = "no-event"


def event_of(body: bytes) -> CloudEvent:
    """The event that the page has written: JSON with `type`, `data` and perhaps `source`.

    It always gets an id of its own, so that a page can follow nobody else's event. Raises NoEvent
    and InvalidEvent.
    """
    try:
        written: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NoEvent(f"the event is not JSON: {error}") from None
    if not isinstance(written, dict) or not isinstance(written.get("type"), str):
        raise NoEvent("write an object with a type, such as com.example.summarize.request")
    data = written.get("data")
    attributes = {
        "id": uuid.uuid4().hex,
        "source": written.get("source") or SOURCE,
        "type": written["type"],
        "datacontenttype": "application/json",
    }
    return CloudEvent.create(attributes, None if data is None else orjson.dumps(data))


class Passed(Response):
    """What the door of the Brokers answers to an event, with the event's id in a header."""

    def __init__(self, ingress: ASGIApp, path: str, event: CloudEvent) -> None:
        super().__init__()
        self._ingress = ingress
        self._path = path
        self._event = event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named, data = encode(self._event, Mode.BINARY)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named]
        to_broker = {
            **scope,
            "method": "POST",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "headers": headers,
        }

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = (EVENT_ID, self._event.id.encode())
                message = {**message, "headers": [*message.get("headers", ()), told]}
            await send(message)

        await self._ingress(to_broker, receive_of(data, receive), answered)
