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
        self.content_types: list[str] = []
        self.context: list[Header] = []
        self.rest: list[Header] = []
        for header in self:
            name = header[0]
            if name[:3] == "ce-":
                self.context.append(header)
            elif name == "content-type":
                self.content_types.append(header[1].replace("\t", " ").strip(" "))
            else:
                self.rest.append(header)
        self.mode = self._mode()

    def _mode(self) -> Mode | None:
        """The content type decides before any `ce-` header does."""
        for content_type in self.content_types:
            if (mode := mode_of_type(content_type)) is not None:
                return mode
        for name, _ in self.context:
            if name in _REQUIRED:
                return Mode.BINARY
        return None


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
