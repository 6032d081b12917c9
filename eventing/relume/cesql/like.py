"""The LIKE operator of CESQL (spec §3.4.3): `%` is any text, `_` any one character."""

import re
from collections.abc import Callable

Test = Callable[[str], bool]

_PIECE = re.compile(r"\\([%_])|(%)|(_)|([^%_\\]+|\\)")
_ONE = None  # `_` in a segment


def like(pattern: str) -> Test:
    r"""The test of a pattern, in which `\%` and `\_` are the signs themselves.

    The time of a test is linear in the text, and at most its length times that of the pattern:
    what stands between two `%` is taken where it occurs first, and is never looked for again.
    """
    segments = _segments(pattern)
    if len(segments) <= 2 and not any(_ONE in segment for segment in segments):
        return _of_text(["".join(filter(None, segment)) for segment in segments])
    first, *others = map(_expression, segments)
    # An atomic group gives nothing back once it has matched: no backtracking into it.
    middle = "".join(f"(?>.*?{segment})" for segment in others[:-1])
    last = f".*{others[-1]}" if others else ""
    matches = re.compile(first + middle + last, re.DOTALL).fullmatch
    return lambda text: matches(text) is not None


def _segments(pattern: str) -> list[list[str | None]]:
    """What stands before, between and after the `%` signs."""
    segments: list[list[str | None]] = [[]]
    for escaped, anything, one, literal in _PIECE.findall(pattern):
        if anything:
            segments.append([])
        else:
            segments[-1].append(_ONE if one else escaped or literal)
    return segments


def _expression(segment: list[str | None]) -> str:
    return "".join("." if piece is _ONE else re.escape(piece) for piece in segment)


def _of_text(segments: list[str]) -> Test:
    """The test of text with at most one `%`, without a regular expression."""
    if len(segments) == 1:
        return segments[0].__eq__
    first, last = segments
    if not last:
        return lambda text: text.startswith(first)
    if not first:
        return lambda text: text.endswith(last)
    least = len(first) + len(last)
    return lambda text: len(text) >= least and text.startswith(first) and text.endswith(last)
