"""The headers of an HTTP message, sorted by what they say of an event."""

from collections.abc import Iterable, Sequence
from enum import Enum

Header = tuple[str, str]

_REQUIRED = frozenset({"ce-specversion", "ce-id", "ce-source", "ce-type"})


class Mode(Enum):
    """The content modes of HTTP binding §3."""

    BINARY = "binary"
    STRUCTURED = "structured"
    BATCH = "batch"


class HeaderList(list[Header]):
    """Headers with names in lower case that do not change any more, sorted once.

    `content_types` are the values of Content-Type, `context` the `ce-` headers, `rest` all others.
    `mode` is None where the message is plain HTTP.
    """

    __slots__ = ("content_types", "context", "mode", "rest")

    def __init__(self, headers: Iterable[Header]) -> None:
        super().__init__(headers)
        content_types: list[str] = []
        context: list[Header] = []
        rest: list[Header] = []
        mode: Mode | None = None
        for header in self:
            name = header[0]
            if name[:3] == "ce-":
                context.append(header)
                if name in _REQUIRED:
                    mode = Mode.BINARY
            elif name == "content-type":
                content_types.append(header[1].replace("\t", " ").strip(" "))
            else:
                rest.append(header)
        for content_type in content_types:  # they decide before any `ce-` header does
            if (named := mode_of_type(content_type)) is not None:
                mode = named
                break
        self.content_types, self.context, self.rest, self.mode = content_types, context, rest, mode


def sort(headers: Sequence[Header]) -> HeaderList:
    """Look through the headers, unless that was done before."""
    if type(headers) is HeaderList:
        return headers
    return HeaderList([(name.lower(), value) for name, value in headers])


def rest_of(headers: Sequence[Header]) -> Sequence[Header]:
    """The headers that say nothing of an event: neither Content-Type nor a `ce-` header."""
    return sort(headers).rest


def mode_of_type(content_type: str) -> Mode | None:
    """The mode that a media type names; None: the event is not in the body."""
    start = content_type[:29].lower()
    if start == "application/cloudevents-batch":
        return Mode.BATCH
    return Mode.STRUCTURED if start[:23] == "application/cloudevents" else None
