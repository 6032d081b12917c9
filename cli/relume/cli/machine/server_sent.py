"""Server-sent events as they come from a server (https://html.spec.whatwg.org/ §9.2.6).

Lines end with a line feed or a carriage return and a line feed, and with nothing else: the text of
a model may hold other characters that some libraries take for the end of a line.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

_LONGEST_LINE = 64 << 20  # bytes; an answer is one line


class TooLong(Exception):
    """The server sends a line without end."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One event, or a comment (`event` is then the empty text)."""

    event: str
    data: str
    id: str | None = None


async def sent_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Sent]:
    """Events and comments, in order; what is not complete when the stream ends is dropped.

    Raises TooLong.
    """
    event, data, last_id = "message", list[str](), None
    async for line in _lines(chunks):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Sent(event, "\n".join(data), last_id)
            event, data = "message", []
        elif not field:
            yield Sent("", value)
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    begun = bytearray()
    async for chunk in chunks:
        begun += chunk
        if len(begun) > _LONGEST_LINE:
            raise TooLong(f"one line of the stream is longer than {_LONGEST_LINE >> 20} MiB")
        if b"\n" not in chunk:
            continue
        *whole, rest = begun.split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
        begun = bytearray(rest)
