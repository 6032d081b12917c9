"""Samples, what is computed from them, and how they are shown: table, chart, JSON."""

import io
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.text import Text
from servers import vllm_version

from relume.base.version import version
from relume.cli.screen import Screen

CHART_WIDTH = 110

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure: its samples, and what it is compared with or held against.

    `baseline` has the samples of the peer, so that `ratio` says how many times less this one is.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    baseline: tuple[float, ...] = ()
    at_least: float | None = None
    """Target for `ratio`."""
    below: float | None = None
    """Target for the median, in `unit`."""

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def ratio(self) -> float | None:
        """Median of the baseline by our median; None where there is nothing to compare with."""
        return median(self.baseline) / self.median if self.baseline else None

    @property
    def holds(self) -> bool | None:
        """Whether the target holds; None without one."""
        if self.at_least is not None and self.ratio is not None:
            return self.ratio >= self.at_least
        if self.below is not None:
            return self.median < self.below
        return None

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}×"
        return f"< {self.below:g} {self.unit}" if self.below is not None else ""

    def to_json(self) -> Json:
        """All of it, with every sample."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 4),
            "samples": [round(sample, 4) for sample in self.samples],
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "target": self.target or None,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when the figures were taken; `load` is the one-minute load average."""

    at: str
    relume: str
    vllm: str
    python: str
    cpu: str
    cores: int
    load_at_start: float

    @classmethod
    def now(cls) -> "Machine":
        return cls(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            relume=version(),
            vllm=vllm_version(),
            python=platform.python_version(),
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)),
            load_at_start=round(os.getloadavg()[0], 2),
        )

    def to_json(self) -> Json:
        """The facts, and the load of now as the load at the end."""
        return {**asdict(self), "load_at_end": round(os.getloadavg()[0], 2)}

    def facts(self) -> list[tuple[str, str]]:
        """Names and values for people; the load of now is the load at the end."""
        load = f"{self.load_at_start:.2f} at the start, {os.getloadavg()[0]:.2f} at the end"
        return [
            ("taken", self.at),
            ("versions", f"relume {self.relume}, {self.vllm}, Python {self.python}"),
            ("machine", f"{self.cores} cores, {self.cpu}"),
            ("load average", load),
        ]


def spread(samples: Sequence[float], digits: int) -> str:
    """The smallest and the largest sample."""
    return f"{min(samples):,.{digits}f} … {max(samples):,.{digits}f}"


def shown(value: float, unit: str) -> str:
    """A value with as many digits as its unit deserves."""
    return f"{value:,.{digits_of(unit)}f} {unit}"


def digits_of(unit: str) -> int:
    return 2 if unit in ("s", "µs") else 0


def verdict(holds: bool | None) -> Text:
    """Whether a target holds or is missed; nothing without one."""
    if holds is None:
        return Text("")
    return Text("holds", "bold green") if holds else Text("missed", "bold red")


def rows(figures: Sequence[Figure]) -> list[list[str | Text]]:
    """A table row for each figure."""
    return [
        [
            figure.name,
            shown(figure.median, figure.unit),
            spread(figure.samples, digits_of(figure.unit)),
            f"{figure.ratio:.1f}×" if figure.ratio is not None else "",
            figure.target,
            verdict(figure.holds),
        ]
        for figure in figures
    ]


def chart(figures: Sequence[Figure], width: int = CHART_WIDTH) -> list[Text]:
    """A bar to each median on one axis from zero, and a line from the least to the most."""
    names = max(len(figure.name) for figure in figures)
    room = max(20, width - names - 14)
    most = max(max(figure.samples) for figure in figures) or 1.0
    lines = []
    for figure in figures:
        low, middle, high = (
            round(value / most * room)
            for value in (min(figure.samples), figure.median, max(figure.samples))
        )
        peer = not figure.baseline or figure.baseline == figure.samples
        line = Text.assemble((figure.name.ljust(names), "dim"), "  ")
        line.append("█" * min(low, middle), "red" if peer else "cyan")
        line.append("▓" * (middle - low), "red" if peer else "cyan")
        line.append("▌", "bold")
        line.append("─" * (high - middle), "dim")
        line.append(f" {shown(figure.median, figure.unit)}")
        lines.append(line)
    return lines


def save_chart(lines: Sequence[Text], title: str, path: Path) -> None:
    """Write the chart as an SVG picture."""
    console = Console(record=True, file=io.StringIO(), width=CHART_WIDTH + 8, force_terminal=True)
    for line in lines:
        console.print(line, soft_wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title=title)


def print_notes(screen: Screen, notes: Mapping[str, str] | list[tuple[str, str]]) -> None:
    """Names and values below a table."""
    screen.line()
    screen.pairs(notes.items() if isinstance(notes, Mapping) else notes)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
