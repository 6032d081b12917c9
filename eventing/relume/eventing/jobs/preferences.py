"""The Prefer header (RFC 7240): does the client want its answer later, and how long does it wait?

A preference that is malformed or unknown is ignored, as §2 asks. Of two with one name the first
counts. `others` is what the header says besides, so that it can go on to the predictor.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

RESPOND_ASYNC, WAIT = "respond-async", "wait"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# A quoted string, other text, or a comma between preferences. A quote without its end takes the
# rest, so that the time for a hostile header stays linear.
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"?|[^",]+|,', re.DOTALL)
_PREFERENCE = re.compile(
    rf'[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|"(?:[^"\\]|\\.)*"))?[ \t]*(?:;.*)?', re.DOTALL
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# Headers of so many characters at most are remembered, and so many of them.
_SHORT, _REMEMBERED = 100, 256
_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class AsyncPreference:
    """The client wants a job. `wait_s` is for how long it waits for the answer (None: not)."""

    wait_s: int | None = None
    others: str = ""


def async_preference(values: Iterable[str]) -> AsyncPreference | None:
    """What all Prefer headers of a request say together; None: nothing about `respond-async`."""
    text = ", ".join(values)
    return _remembered(text) if len(text) <= _SHORT else _read(text)


def _read(text: str) -> AsyncPreference | None:
    found: dict[str, str] = {}
    others = []
    for element in _elements(text):
        match = _PREFERENCE.fullmatch(element)
        name = match[1].lower() if match else ""
        if match and name in (RESPOND_ASYNC, WAIT):
            found.setdefault(name, _word(match[2] or ""))
        else:
            others.append(element.strip(" \t"))
    if RESPOND_ASYNC not in found:
        return None
    wait = found.get(WAIT, "")
    wait_s = int(wait) if _SECONDS.fullmatch(wait) else None
    return AsyncPreference(wait_s, ", ".join(others))


# Most clients send the same few preferences.
_remembered = functools.lru_cache(maxsize=_REMEMBERED)(_read)


def _elements(text: str) -> Iterator[str]:
    """The preferences of a list; empty ones are left out (RFC 9110 §5.6.1.2)."""
    pieces: list[str] = []
    for piece in (*_PIECE.findall(text), ","):
        if piece != ",":
            pieces.append(piece)
            continue
        if whole := "".join(pieces).strip(" \t"):
            yield whole
        pieces = []


def _word(text: str) -> str:
    """A token as it is, a quoted string without its quotes."""
    return _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text
