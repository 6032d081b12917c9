"""A packing as an SVG picture: a bar for each card, a box for each service on it."""

from collections.abc import Iterator
from html import escape

from relume.cluster.claims.packing import Card, Packing, left_lines, parts

_LEFT, _WIDTH, _HEIGHT, _GAP, _TOP = 210, 640, 30, 12, 44
# Colours that people with red-green blindness tell apart (Okabe and Ito, 2008), in light tones.
_COLOURS = ("#8fc9ee", "#f2cf8a", "#8fd6bf", "#e9b8d2", "#f0e99a", "#e8a98a", "#9db8e0")


def svg(packing: Packing) -> str:
    """The picture; it names no other file, and the text in it can be selected."""
    shown = packing.shown
    lines = left_lines(packing)
    height = _TOP + len(shown) * (_HEIGHT + _GAP) + 18 * len(lines) + 16
    width = _LEFT + _WIDTH + 110
    body = [*_cards(shown), *_left(lines, _TOP + len(shown) * (_HEIGHT + _GAP) + 14)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            '<text x="12" y="24" font-size="15">What the services hold beside each other</text>',
            *body,
            "</svg>\n",
        )
    )


def _cards(shown: tuple[Card, ...]) -> Iterator[str]:
    for number, card in enumerate(shown):
        top = _TOP + number * (_HEIGHT + _GAP)
        middle = top + _HEIGHT / 2 + 4
        yield f'<text x="12" y="{middle:g}">{escape(_cut(f"{card.node} {card.name}", 30))}</text>'
        yield (
            f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="#eeeeee" '
            'stroke="#777777"/>'
        )
        yield from _boxes(card, top)
        if card.memory:
            text = f"{card.memory / 2**30:,.1f} GiB"
            yield f'<text x="{_LEFT + _WIDTH + 10}" y="{middle:g}">{text}</text>'


def _boxes(card: Card, top: int) -> Iterator[str]:
    left = float(_LEFT)
    for number, (slot, part) in enumerate(parts(card)):
        width = min(part * _WIDTH, _LEFT + _WIDTH - left)
        if width <= 0:
            continue
        colour = _COLOURS[number % len(_COLOURS)]
        yield (
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_HEIGHT}" '
            f'fill="{colour}" stroke="#777777"><title>{escape(f"{slot.holder}: {slot.kind}")}'
            "</title></rect>"
        )
        text = _cut(slot.holder, int(width / 7))
        if text:
            x, y = left + 4, top + _HEIGHT / 2 + 4
            yield f'<text x="{x:.1f}" y="{y:g}">{escape(text)}</text>'
        left += width


def _left(lines: list[str], top: int) -> Iterator[str]:
    for number, line in enumerate(lines):
        text = escape(_cut(line, 140))
        yield f'<text x="12" y="{top + 18 * number}" fill="#a00000">{text}</text>'


def _cut(text: str, most: int) -> str:
    """The text, shortened where it is too long; nothing where there is no room for a word."""
    if len(text) <= most:
        return text
    return f"{text[: most - 1]}…" if most > 3 else ""
