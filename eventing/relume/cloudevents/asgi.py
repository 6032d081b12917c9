"""The headers and the body of an ASGI request, as the HTTP binding reads them."""

from starlette.types import Message, Receive, Scope

from relume.cloudevents.headers import HeaderList
from relume.cloudevents.http import Headers


class BodyTooLarge(Exception):
    """The body of a request is longer than its limit."""


class ClientGone(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


def headers_of(scope: Scope) -> Headers:
    """Header names in lower case, values as latin-1 text."""
    headers = scope["headers"]
    return HeaderList(
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    )


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes.

    Raises BodyTooLarge as soon as more has come, and ClientGone.
    """
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def receive_of(body: bytes, then: Receive) -> Receive:
    """The `receive` of a request whose whole body is `body`; further calls go to `then`."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return await then()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
