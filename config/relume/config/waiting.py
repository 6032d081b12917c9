"""Annotations of a service: how its clients wait, how long they wait for an engine that makes
no step, and when the service is started before anybody asks it.

relume.dev/heartbeat: "true", or seconds    a client that streams is told how far the start is
relume.dev/max-held: "100"                  so many requests may wait; one more is refused with 429
relume.dev/hang-after: "60"                 seconds without a step of the engine while it has
                                            requests, after which it is killed; "0": never
relume.dev/warm-at: "55 7 * * 1-5"          a schedule of five or six fields, as of a PingSource
relume.dev/warm-timezone: Europe/Berlin     the time zone of that schedule; without it UTC
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relume.base.vocabulary import HANG_AFTER, HEARTBEAT, MAX_HELD, WARM_AT, WARM_TIMEZONE
from relume.config.nodes import Node
from relume.config.schedules import Schedule, zone_named

#: All of them; a cluster reads none.
NAMES = (HEARTBEAT, MAX_HELD, HANG_AFTER, WARM_AT, WARM_TIMEZONE)
#: Bounds of a heartbeat, in seconds: proxies give up after 30 to 60 s without a byte.
LEAST_HEARTBEAT_S, MOST_HEARTBEAT_S = 1, 60
MOST_HELD = 1_000_000
MOST_HANG_S = 3600
_WHOLE = re.compile(r"[0-9]{1,7}")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a service says of its clients that wait; None where the default counts."""

    heartbeat: bool = False
    """Every client that streams gets heartbeats, also one that does not ask for them."""
    heartbeat_s: int | None = None
    max_held: int | None = None
    warm_at: Schedule | None = None
    hang_after_s: int | None = None
    """0: an engine is never taken for one that hangs."""


def waiting(annotations: Mapping[str, str]) -> Waiting:
    """Return what the annotations of a revision say. Raises ValueError for a wrong one."""
    heartbeat = annotations.get(HEARTBEAT, "false")
    held, at = annotations.get(MAX_HELD), annotations.get(WARM_AT)
    hangs = annotations.get(HANG_AFTER)
    if heartbeat not in ("true", "false"):
        _number(heartbeat, LEAST_HEARTBEAT_S, MOST_HEARTBEAT_S)
    return Waiting(
        heartbeat=heartbeat != "false",
        heartbeat_s=int(heartbeat) if heartbeat.isdecimal() else None,
        max_held=None if held is None else _number(held, 1, MOST_HELD),
        hang_after_s=None if hangs is None else _number(hangs, 0, MOST_HANG_S),
        warm_at=None if at is None else Schedule(at, annotations.get(WARM_TIMEZONE)),
    )


def check_waiting(notes: Mapping[str, Node]) -> None:
    """Raise InvalidManifest for an annotation of this page that is wrong, at its line."""
    for key in (HEARTBEAT, MAX_HELD, HANG_AFTER, WARM_AT):
        if key in notes:
            try:
                waiting({key: notes[key].text()})
            except ValueError as error:
                raise notes[key].wrong(f"invalid value: {error}{_HINTS[key]}") from None
    if (zone := notes.get(WARM_TIMEZONE)) is not None:
        try:
            zone_named(zone.text())
        except ValueError as error:
            raise zone.wrong(f"invalid value: {error}") from None
        if WARM_AT not in notes:
            raise zone.wrong(f"it counts only with {WARM_AT}: add it, or remove this annotation")


_HINTS = {
    HEARTBEAT: f': write "true", or seconds from {LEAST_HEARTBEAT_S} to {MOST_HEARTBEAT_S}',
    MAX_HELD: f": write a number from 1 to {MOST_HELD}",
    HANG_AFTER: f": write seconds from 1 to {MOST_HANG_S}, or 0 to switch it off",
    WARM_AT: f'; write five fields, such as "55 7 * * 1-5", and the time zone in {WARM_TIMEZONE}',
}


def _number(text: str, least: int, most: int) -> int:
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(text)
    return int(text)
