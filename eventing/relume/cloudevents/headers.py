"""The headers of an HTTP message, sorted by what they say of an event."""

from collections.abc import Sequence
from typing import NamedTuple

Header = tuple[str, str]


class Sorted(NamedTuple):
    """The values of Content-Type, the `ce-` headers with names in lower case, and the rest."""

    content_types: list[str]
    context: list[Header]
    rest: list[Header]


class HeaderList(list[Header]):
    """Headers that do not change any more, so that they are sorted only once."""

    sorted: Sorted | None = None


def sort(headers: Sequence[Header]) -> Sorted:
    """Look through the headers, unless that was done before."""
    if not isinstance(headers, HeaderList):
        return _sorted(headers)
    if headers.sorted is None:
        headers.sorted = _sorted(headers)
    return headers.sorted


def rest_of(headers: Sequence[Header]) -> Sequence[Header]:
    """The headers that say nothing of an event: neither Content-Type nor a `ce-` header."""
    return sort(headers).rest


def _sorted(headers: Sequence[Header]) -> Sorted:
    content_types: list[str] = []
    context: list[Header] = []
    rest: list[Header] = []
    for name, value in headers:
        name = name.lower()
        if name.startswith("ce-"):
            context.append((name, value))
        elif name == "content-type":
            content_types.append(value.replace("\t", " ").strip(" "))
        else:
            rest.append((name, value))
    return Sorted(content_types, context, rest)
