"""The two ways in which manifests write a length of time, in seconds.

Knative's webhook accepts more than ISO 8601 durations; `relume.cluster.admission.delivery` reads
them as the webhook does.
"""

import re
from collections.abc import Callable

from relume.config.nodes import Node

_GO = re.compile(r"[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_ISO = re.compile(
    r"P(?!$)(\d+([.,]\d+)?W)?(\d+([.,]\d+)?D)?"
    r"(T(?=\d)(\d+([.,]\d+)?H)?(\d+([.,]\d+)?M)?(\d+([.,]\d+)?S)?)?",
    re.ASCII,
)
_LONGEST_S = 2**63 / 1e9  # what Go's time.Duration holds: 292 years in nanoseconds


def read_seconds(node: Node, parse: Callable[[str], float]) -> float:
    """The seconds of a value, read by `parse`; raises InvalidManifest where that refuses it."""
    text = node.text()
    try:
        return parse(text)
    except ValueError as error:
        raise node.wrong(f"invalid value: {text}: {error}") from error


def go_duration(text: str) -> float:
    """Seconds of a Go duration ("1m30s", "0"; https://pkg.go.dev/time#ParseDuration).

    Raises ValueError for anything else: no unit, days, more than 292 years.
    """
    if not _GO.fullmatch(text):
        raise ValueError(f'{text!r} is not a duration: write a number and a unit, as in "1m30s"')
    import durationpy  # it accepts more than Go does, which the pattern refuses

    return _bounded(text, lambda: durationpy.from_str(text).total_seconds())


def iso8601_duration(text: str) -> float:
    """Seconds of an ISO 8601 duration ("PT0.2S", "P1DT2H").

    Raises ValueError for anything else, and for years and months, which have no fixed length.
    """
    if re.match(r"P[^T]*[YM]", text):
        raise ValueError(f"{text!r} has years or months, which have no fixed length: write days")
    if not _ISO.fullmatch(text):
        raise ValueError(
            f'{text!r} is not an ISO 8601 duration: write it as in "PT0.2S" or "PT10M"'
        )
    import isodate  # it accepts more than durations, which the pattern refuses

    return _bounded(text, lambda: isodate.parse_duration(text).total_seconds())


def _bounded(text: str, parse: Callable[[], float]) -> float:
    try:
        seconds = float(parse())
    except OverflowError:
        seconds = _LONGEST_S
    if abs(seconds) >= _LONGEST_S:
        raise ValueError(f"{text!r} is more than 292 years")
    return seconds
