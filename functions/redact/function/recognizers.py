"""Where a text holds personal data. Rules only: no model, no network.

What has a check digit is checked (python-stdnum), telephone numbers are those that exist in the
numbering plans of the regions (phonenumbers), addresses are parsed. Names are found where they are
introduced or signed with, and wherever a field that is known to hold a name says them.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import phonenumbers
from stdnum import iban, luhn
from stdnum.us import ssn


@dataclass(frozen=True)
class Span:
    """`text[start:end]` is of `kind`."""

    start: int
    end: int
    kind: str


Recognizer = Callable[[str], Iterable[Span]]

# Placeholders that were in the text before, so that they come back as they were.
PLACEHOLDER = re.compile(r"\[[A-Z]+_\d+\]")

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@"
    r"(?:[\w-]+\.)+[^\W\d_]{2,63}(?![\w@])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}", re.IGNORECASE)
_CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d])")
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_WORD = r"[^\W\d_a-z][^\W\d_]*(?:[-'’][^\W\d_]+)*"
_NAMES = rf"({_WORD}(?:[ ](?:van|von|de|der|den|la|{_WORD})){{0,3}})"
_INTRODUCED = re.compile(
    r"\b(?:[Mm]y name is|[Ii] am called|[Mm]ein Name ist|[Ii]ch heiße|[Jj]e m'appelle"
    r"|Mrs?\.|Ms\.|Dr\.|Frau|Herrn?|Mme|M\.)[ ]" + _NAMES
)
_SIGNED = re.compile(
    r"(?:[Rr]egards|[Tt]hanks|[Tt]hank you|[Cc]heers|[Ss]incerely|[Yy]ours|Grüßen?|[Cc]ordialement)"
    rf"[,.!]?[ ]*\n+[ ]*{_NAMES}[ .]*(?:\n|$)"
)


def emails(text: str) -> Iterator[Span]:
    return (Span(*found.span(), "EMAIL") for found in _EMAIL.finditer(text))


def ibans(text: str) -> Iterator[Span]:
    """The longest prefix of each candidate that its check digits confirm; words may follow it."""
    for found in _IBAN.finditer(text):
        for end in range(found.end(), found.start() + 14, -1):
            if text[end - 1].isalnum() and iban.is_valid(text[found.start() : end].upper()):
                yield Span(found.start(), end, "IBAN")
                break


def cards(text: str) -> Iterator[Span]:
    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if digits[0] in "23456" and luhn.is_valid(digits):
            yield Span(*found.span(), "CARD")


def social_security(text: str) -> Iterator[Span]:
    return (Span(*f.span(), "SSN") for f in _SSN.finditer(text) if ssn.is_valid(f[0]))


def ip_addresses(text: str) -> Iterator[Span]:
    for pattern in (_IPV4, _IPV6):
        for found in pattern.finditer(text):
            try:
                ipaddress.ip_address(found[0])
            except ValueError:
                continue
            if found[0] != "::":
                yield Span(*found.span(), "IP")


def names(text: str) -> Iterator[Span]:
    for pattern in (_INTRODUCED, _SIGNED):
        yield from (Span(*found.span(1), "NAME") for found in pattern.finditer(text))


def phones(regions: Iterable[str]) -> Recognizer:
    """Numbers with a country code, and those that are dialled inside one of `regions`."""
    chosen = tuple(regions) or ("ZZ",)

    def recognize(text: str) -> Iterator[Span]:
        if sum(map(str.isdigit, text)) < 6:
            return
        for region in chosen:
            for match in phonenumbers.PhoneNumberMatcher(text, region):
                before = text[match.start - 1 : match.start]
                if not before.isalnum() and before != "-":  # the end of an invoice's number
                    yield Span(match.start, match.end, "PHONE")

    return recognize


def known_values(values: Mapping[str, str]) -> Recognizer:
    """The values of fields that are known to be personal, and the words of names, everywhere."""
    kinds: dict[str, str] = {}
    for value, kind in values.items():
        kinds[value] = kind
        if kind == "NAME":
            kinds |= {word: kind for word in value.split() if len(word) > 2}
    longest_first = sorted((v for v in kinds if v.strip()), key=len, reverse=True)
    pattern = re.compile(
        "|".join(rf"(?<!\w){re.escape(v)}(?!\w)" for v in longest_first) or r"(?!)"
    )

    def recognize(text: str) -> Iterator[Span]:
        return (Span(*found.span(), kinds[found[0]]) for found in pattern.finditer(text))

    return recognize


def written(pattern: re.Pattern[str], kind: str) -> Recognizer:
    """A rule of the configuration; an empty match is none."""
    return lambda text: (Span(*f.span(), kind) for f in pattern.finditer(text) if f[0])


def placeholders(text: str) -> Iterator[Span]:
    return (Span(*found.span(), "TEXT") for found in PLACEHOLDER.finditer(text))


def find(text: str, recognizers: Iterable[Recognizer]) -> list[Span]:
    """What the recognizers found, in order. Where two overlap the longer one is kept."""
    found = [span for recognize in recognizers for span in recognize(text)]
    kept: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start - span.end, span.start)):
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)
