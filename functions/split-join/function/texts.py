"""Cutting a text into parts, and putting answers together for the next round. Pure."""

import re

#: Where a text is cut, best first: between pages, paragraphs, lines, sentences, words.
_BREAKS = ("\f", r"\n\s*\n", "\n", r"(?<=[.!?])\s", r"\s")


def split(text: str, most_chars: int) -> list[str]:
    """Parts of at most `most_chars`, in order, that together are the text but for white space."""
    parts: list[str] = []
    rest = text.strip()
    while len(rest) > most_chars:
        at = _cut(rest, most_chars)
        parts.append(rest[:at].strip())
        rest = rest[at:].strip()
    return [part for part in (*parts, rest) if part]


def _cut(text: str, most_chars: int) -> int:
    """Where to cut: at the last of the best breaks in the second half of what fits."""
    window = text[: most_chars + 1]
    for pattern in _BREAKS:
        ends = [found.end() for found in re.finditer(pattern, window)]
        if fitting := [end for end in ends if most_chars // 2 < end <= most_chars]:
            return fitting[-1]
    return most_chars


def group(answers: list[str], most_chars: int) -> list[str]:
    """Answers in order, as many together as fit; each is cut so that at least two fit.

    So every round has at most half as many parts as the one before, rounded up.
    """
    each = max(1, (most_chars - 2) // 2)
    groups: list[str] = []
    for answer in (answer[:each] for answer in answers):
        if groups and len(groups[-1]) + 2 + len(answer) <= most_chars:
            groups[-1] += "\n\n" + answer
        else:
            groups.append(answer)
    return groups
