"""Side by side: turns of one or two checkouts and of raw JetStream, as medians, ranges and ratios.

A ratio is taken inside a turn, where both sides saw the same machine; the tables have the median of
these ratios.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from event_latency import Latency
from event_turns import CLOSED_PRODUCERS, HALF, Raw, Side, Times, Turn, raw, turn
from figures import Json
from processes import MeasurementFailed
from rich.text import Text
from running import Steps

Cells = list[str | Text]
Of = Callable[[Turn], float]
HOLDS, MISSED = Text("holds", "bold green"), Text("missed", "bold red")


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio by turn, and what it is held against."""

    name: str
    ratios: tuple[float, ...]
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        value = median(self.ratios)
        return value >= self.least if self.least is not None else value <= (self.most or 0.0)

    def cells(self) -> Cells:
        target = f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"
        return [self.name, ranged(self.ratios, 3), target, HOLDS if self.holds else MISSED]


@dataclass(frozen=True, slots=True)
class Beside:
    """The turns of the new side, of the old one (none where only one is measured), and raw ones."""

    new: tuple[Turn, ...]
    old: tuple[Turn, ...]
    raw: tuple[Raw, ...]

    def sides(self) -> tuple[list[str], list[Cells]]:
        """Headers and rows: what each side did."""
        head = ["measure", "new"] + (["old", "new/old"] if self.old else [])
        return head, [self._row(*each) for each in _measures()]

    def _row(self, name: str, unit: str, digits: int, of: Of) -> Cells:
        cells: Cells = [name, f"{ranged([of(each) for each in self.new], digits)} {unit}"]
        if self.old:
            ratios = [of(new) / of(old) for new, old in zip(self.new, self.old, strict=True)]
            cells += [
                f"{ranged([of(each) for each in self.old], digits)} {unit}",
                ranged(ratios, 2),
            ]
        return cells

    def raws(self) -> tuple[list[str], list[Cells]]:
        """Headers and rows: raw JetStream, and how many times its figure the new side has."""
        turns = list(zip(self.new, self.raw, strict=True))
        rows: list[Cells] = [
            [
                name,
                f"{ranged([of(raw) for raw in self.raw], digits)} {unit}",
                ranged([ours(new) / of(raw) for new, raw in turns], 3),
            ]
            for name, unit, digits, of, ours in _raw_measures(list(self.new[0].open))
        ]
        return ["measure", "raw JetStream", "new, of it"], rows

    def targets(self) -> list[Target]:
        """What the event path is held to; the two of the old side only where there is one."""
        new = list(zip(self.new, self.raw, strict=True))
        both = list(zip(self.new, self.old, strict=True)) if self.old else []

        def of_raw(part: Callable[[Latency], float]) -> tuple[float, ...]:
            return tuple(part(turn.open[HALF]) / part(raw.open[HALF]) for turn, raw in new)

        found = [
            Target(
                "CPU of an event, plane, of its HTTP ceiling",
                tuple(turn.closed.plane_us / turn.http_us for turn in self.new),
                most=2.0,
            ),
            Target(
                "accepted, of raw JetStream",
                tuple(turn.closed.accepted_per_s / raw.published_per_s for turn, raw in new),
                least=0.16,
            ),
            Target(
                "delivered, of raw JetStream",
                tuple(turn.closed.delivered_per_s / raw.consumed_per_s for turn, raw in new),
                least=0.16,
            ),
            Target(f"p50 at {HALF}, of raw JetStream", of_raw(lambda each: each.p50_ms), most=3),
            Target(f"p99 at {HALF}, of raw JetStream", of_raw(lambda each: each.p99_ms), most=5),
        ]
        if both:
            found += [
                Target(
                    "CPU of an event, plane, new/old",
                    tuple(new.closed.plane_us / old.closed.plane_us for new, old in both),
                    most=0.55,
                ),
                Target(
                    f"p50 with {CLOSED_PRODUCERS} producers, new/old",
                    tuple(new.closed.seen.p50_ms / old.closed.seen.p50_ms for new, old in both),
                    most=0.4,
                ),
                Target(
                    f"p99 with {CLOSED_PRODUCERS} producers, new/old",
                    tuple(new.closed.seen.p99_ms / old.closed.seen.p99_ms for new, old in both),
                    most=0.4,
                ),
            ]
        return found

    @property
    def late_p99_ms(self) -> float:
        """How late the open loops posted, at worst: what the machine took from the producers."""
        return max(each.late_p99_ms for each in (*self.new, *self.old))

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


def _measures() -> list[tuple[str, str, int, Of]]:
    closed = f"{CLOSED_PRODUCERS} producers"
    found: list[tuple[str, str, int, Of]] = [
        (f"accepted, {closed}", "/s", 0, lambda turn: turn.closed.accepted_per_s),
        ("delivered", "/s", 0, lambda turn: turn.closed.delivered_per_s),
        ("CPU of an event, plane", "µs", 0, lambda turn: turn.closed.plane_us),
        ("CPU of an event, nats-server", "µs", 0, lambda turn: turn.closed.nats_us),
        ("post → subscriber p50", "ms", 1, lambda turn: turn.closed.seen.p50_ms),
        ("post → subscriber p99", "ms", 1, lambda turn: turn.closed.seen.p99_ms),
    ]
    for rate in ("200/s", "1,000/s", HALF):
        found += [
            (f"open loop, {rate}, p50", "ms", 1, lambda turn, at=rate: turn.open[at].p50_ms),  # type: ignore[misc]
            (f"open loop, {rate}, p99", "ms", 1, lambda turn, at=rate: turn.open[at].p99_ms),  # type: ignore[misc]
        ]
    return [
        *found,
        (f"HTTP ceiling, {closed}", "/s", 0, lambda turn: turn.http_per_s),
        ("  CPU of an event", "µs", 0, lambda turn: turn.http_us),
        ("  post → subscriber p50", "ms", 1, lambda turn: turn.http_seen.p50_ms),
        ("  post → subscriber p99", "ms", 1, lambda turn: turn.http_seen.p99_ms),
    ]


def _raw_measures(
    rates: Sequence[str],
) -> list[tuple[str, str, int, Callable[[Raw], float], Of]]:
    found: list[tuple[str, str, int, Callable[[Raw], float], Of]] = [
        (
            "published, acknowledged",
            "/s",
            0,
            lambda raw: raw.published_per_s,
            lambda turn: turn.closed.accepted_per_s,
        ),
        (
            "fetched, acknowledged",
            "/s",
            0,
            lambda raw: raw.consumed_per_s,
            lambda turn: turn.closed.delivered_per_s,
        ),
    ]
    for rate in rates:
        found += [
            (
                f"publish → fetch, {rate}, p50",
                "ms",
                2,
                lambda raw, at=rate: raw.open[at].p50_ms,  # type: ignore[misc]
                lambda turn, at=rate: turn.open[at].p50_ms,  # type: ignore[misc]
            ),
            (
                f"publish → fetch, {rate}, p99",
                "ms",
                2,
                lambda raw, at=rate: raw.open[at].p99_ms,  # type: ignore[misc]
                lambda turn, at=rate: turn.open[at].p99_ms,  # type: ignore[misc]
            ),
        ]
    return found


def ranged(values: Sequence[float], digits: int) -> str:
    """The median, and the smallest and the largest."""
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f} ({low:,.{digits}f} … {high:,.{digits}f})"


def interpreter(checkout: Path) -> str:
    """The interpreter of another checkout. Raises MeasurementFailed where there is none."""
    found = checkout / ".venv" / "bin" / "python"
    if not found.exists():
        raise MeasurementFailed(f"--beside {checkout}: {found} is missing: run make venv there")
    return str(found.absolute())


async def beside(new: Side, old: Side | None, turns: int, times: Times, progress: Steps) -> Beside:
    """Both sides in turn, each as often first; raw JetStream after each pair."""
    found: dict[Side, list[Turn]] = {new: [], **({old: []} if old else {})}
    raws: list[Raw] = []
    for number in range(turns):
        order = list(found) if number % 2 else list(found)[::-1]
        for side in order:
            progress.begin(f"turn {number + 1} of {turns}: {side.name}")
            found[side].append(await turn(side, times))
        progress.begin(f"turn {number + 1} of {turns}: raw JetStream")
        raws.append(await raw(found[new][-1].half, times))
    return Beside(tuple(found[new]), tuple(found[old]) if old else (), tuple(raws))
