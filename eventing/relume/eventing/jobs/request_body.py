"""The body of a request for a job: a small one as a whole, a large one as it comes in.

How slowly it may come in is the business of the server in front (`relume.web.protocol`).
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.types import Receive

from relume.base.errors import InvalidInput
from relume.cloudevents.asgi import ClientGone
from relume.cloudevents.http import Headers
from relume.eventing.jobs.answers import BodyTooLarge

JSON_TYPE = "application/json"


class NotJson(InvalidInput):
    """The body of a request for a JSON route is not JSON."""

    reason = "bad-json"


class RequestBody:
    """Reads an ASGI request once; what was read stays until it is handed out."""

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        self._parts: list[bytes] = []
        self._declared = ""
        for name, value in headers:
            if name == "content-length":
                self._declared = value
                break
        self.size = 0
        self.complete = False

    @property
    def expected(self) -> int:
        """How many bytes it has, as far as that is known: announced, or else read so far."""
        announced = len(self._declared) <= 18 and self._declared.isdecimal()
        return max(self.size, int(self._declared) if announced else 0)

    async def read(self, limit: int) -> None:
        """Read until all has come, or more than `limit` bytes have. Raises ClientGone."""
        while not self.complete and self.size <= limit:
            self._parts.append(await self._part())

    async def read_all(self, limit: int) -> None:
        """Read all of it. Raises BodyTooLarge as soon as that is known, and ClientGone."""
        self.check(limit)
        await self.read(limit)
        if self.size > limit:
            raise _too_large(limit)

    def check(self, limit: int) -> None:
        """Raise BodyTooLarge when the request announces more than `limit` bytes."""
        # int() refuses very long digit strings.
        if self._declared.isdecimal() and (len(self._declared) > 18 or int(self._declared) > limit):
            raise _too_large(limit)

    def whole(self) -> bytes:
        """What was read so far."""
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    async def stream(self, limit: int, receive: Receive) -> AsyncIterator[bytes]:
        """All of the body, the rest as it comes in, by `receive`: no more than a part is held.

        Raises BodyTooLarge and ClientGone.
        """
        self._receive = receive
        parts, self._parts = self._parts, []
        for part in parts:
            yield part
        while not self.complete:
            part = await self._part()
            if self.size > limit:
                raise _too_large(limit)
            yield part

    async def _part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        self.size += len(part)
        self.complete = not message.get("more_body", False)
        return part


def is_json(content_type: str) -> bool:
    """Whether a body of this type must be JSON. A form with fields is left to the predictor."""
    if content_type == JSON_TYPE:
        return True
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON_TYPE or kind.endswith("+json")


def parsed(body: bytes) -> Any:
    """The JSON value, read as the predictor reads it. Raises NotJson.

    Python's reader takes what orjson refuses: other encodings than UTF-8, a byte order mark, NaN.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise NotJson(f"the request body is not JSON: {error}") from None


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body of this request may have {limit} bytes")
