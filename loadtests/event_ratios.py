"""What turns beside each other say: medians, ranges, ratios, and the targets of the event path.

A ratio is taken inside a turn, where both sides saw the same machine; the tables have the median of
these ratios.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from event_latency import Latency
from event_stands import FEW, MANY, Closed
from event_turns import HALF, RATES, Raw, Turn
from figures import Json, verdict
from rich.text import Text

Cells = list[str | Text]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a side, and what raw JetStream has in its place."""

    name: str
    unit: str
    of: Callable[[Turn], float]
    raw: Callable[[Raw], float] | None = None
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio by turn, and what its median is held against; without a bound it only tells."""

    name: str
    ratios: tuple[float, ...]
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool | None:
        found = median(self.ratios)
        if self.least is not None:
            return found >= self.least
        return None if self.most is None else found <= self.most

    def cells(self) -> Cells:
        target = f"≥ {self.least:g}" if self.least is not None else ""
        if self.most is not None:
            target = f"≤ {self.most:g}"
        return [self.name, ranged(self.ratios, 3), target, verdict(self.holds)]


@dataclass(frozen=True, slots=True)
class Beside:
    """The turns of the new side, of the old one (none where only one is measured), and raw ones."""

    new: tuple[Turn, ...]
    old: tuple[Turn, ...]
    raw: tuple[Raw, ...]

    def sides(self) -> tuple[list[str], list[Cells]]:
        """Headers and rows: what each side did."""
        head = ["measure", "new"] + (["old", "new/old"] if self.old else [])
        rows: list[Cells] = []
        for each in _MEASURES:
            cells: Cells = [each.name, *map(_shown(each), (self.new, self.old)[: len(head) - 1])]
            if self.old:
                cells.append(ranged(self._new_old(each.of), 2))
            rows.append(cells)
        return head, rows

    def raws(self) -> tuple[list[str], list[Cells]]:
        """Headers and rows: raw JetStream, and how many times its figure the new side has."""
        rows: list[Cells] = []
        for each in _MEASURES:
            if each.raw is not None:
                values = [each.raw(turn) for turn in self.raw]
                digits = each.digits + (each.unit == "ms")
                found = f"{ranged(values, digits)} {each.unit}"
                rows.append([each.name, found, ranged(self._of_raw(each), 3)])
        return ["measure", "raw JetStream", "new, of it"], rows

    def targets(self) -> list[Target]:
        """What the event path is held to; what has an old side in it only beside one."""
        by_name = {each.name: self._of_raw(each) for each in _MEASURES if each.raw is not None}
        ceiling = tuple(turn.few.plane_us / turn.http.us for turn in self.new)
        found = [
            Target("CPU of an event, plane, of its HTTP ceiling", ceiling, most=2.0),
            Target("accepted, of raw JetStream", by_name[_ACCEPTED], least=0.16),
            Target("delivered, of raw JetStream", by_name[_DELIVERED], least=0.16),
            Target(f"p50 at {HALF}, of raw JetStream", by_name[f"{_OPEN}, {HALF}, p50"], most=3),
            Target(f"p99 at {HALF}, of raw JetStream", by_name[f"{_OPEN}, {HALF}, p99"], most=5),
        ]
        if not self.old:
            return found
        cpu = self._new_old(lambda turn: turn.few.plane_us)
        both = zip(self.new, self.old, strict=True)
        of_old_ceiling = tuple(new.few.plane_us / old.http.us for new, old in both)
        p50 = self._new_old(lambda turn: turn.few.seen.p50_ms)
        p99 = self._new_old(lambda turn: turn.few.seen.p99_ms)
        return [
            *found,
            Target("CPU of an event, plane, of the old HTTP ceiling", of_old_ceiling),
            Target("CPU of an event, plane, new/old", cpu, most=0.55),
            Target(f"p50 with {FEW} producers, new/old", p50, most=0.4),
            Target(f"p99 with {FEW} producers, new/old", p99, most=0.4),
        ]

    def _new_old(self, of: Callable[[Turn], float]) -> tuple[float, ...]:
        return tuple(of(new) / of(old) for new, old in zip(self.new, self.old, strict=True))

    def _of_raw(self, each: Measure) -> tuple[float, ...]:
        of = each.raw or (lambda _: 1.0)
        return tuple(each.of(new) / of(raw) for new, raw in zip(self.new, self.raw, strict=True))

    @property
    def late_p99_ms(self) -> float:
        """How late the open loops posted, at worst: what the machine took from the producers."""
        turns = (*self.new, *self.old)
        return max(each.late_p99_ms for turn in turns for each in turn.open.values())

    def to_json(self) -> Json:
        return {
            "new": [asdict(each) for each in self.new],
            "old": [asdict(each) for each in self.old],
            "raw": [asdict(each) for each in self.raw],
            "targets": [
                {"name": each.name, "value": round(median(each.ratios), 4), "holds": each.holds}
                for each in self.targets()
            ],
        }


def ranged(values: Sequence[float], digits: int) -> str:
    """The median, and the smallest and the largest."""
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f} ({low:,.{digits}f} … {high:,.{digits}f})"


def _shown(each: Measure) -> Callable[[Sequence[Turn]], str]:
    return lambda turns: f"{ranged([each.of(turn) for turn in turns], each.digits)} {each.unit}"


def _closed(producers: int, of: Callable[[Turn], Closed]) -> list[Measure]:
    with_them = f"{producers} producers"
    many = producers == MANY  # raw JetStream has many messages under way as well
    return [
        Measure(
            f"accepted, {with_them}",
            "/s",
            lambda turn: of(turn).accepted_per_s,
            (lambda raw: raw.published_per_s) if many else None,
        ),
        Measure(
            f"delivered, {with_them}",
            "/s",
            lambda turn: of(turn).delivered_per_s,
            (lambda raw: raw.consumed_per_s) if many else None,
        ),
        Measure("  CPU of an event, plane", "µs", lambda turn: of(turn).plane_us),
        Measure("  CPU of an event, nats-server", "µs", lambda turn: of(turn).nats_us),
        *_seen("  post → subscriber", lambda turn: of(turn).seen),
    ]


def _open(rate: str) -> list[Measure]:
    return _seen(f"{_OPEN}, {rate}", lambda turn: turn.open[rate].seen, lambda raw: raw.open[rate])


def _seen(
    name: str, of: Callable[[Turn], Latency], raw: Callable[[Raw], Latency] | None = None
) -> list[Measure]:
    return [
        Measure(
            f"{name}, p50",
            "ms",
            lambda turn: of(turn).p50_ms,
            (lambda turn: raw(turn).p50_ms) if raw else None,
            digits=1,
        ),
        Measure(
            f"{name}, p99",
            "ms",
            lambda turn: of(turn).p99_ms,
            (lambda turn: raw(turn).p99_ms) if raw else None,
            digits=1,
        ),
    ]


_OPEN = "open loop"
_ACCEPTED, _DELIVERED = f"accepted, {MANY} producers", f"delivered, {MANY} producers"
_MEASURES = [
    *_closed(FEW, lambda turn: turn.few),
    *_closed(MANY, lambda turn: turn.many),
    *(each for rate in (*(f"{rate:,.0f}/s" for rate in RATES), HALF) for each in _open(rate)),
    Measure(f"HTTP ceiling, {FEW} producers", "/s", lambda turn: turn.http.per_s),
    Measure("  CPU of an event", "µs", lambda turn: turn.http.us),
    *_seen("  post → subscriber", lambda turn: turn.http.seen),
]
