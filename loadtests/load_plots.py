"""The plots of a load test as SVG that is put into the page; each takes the record alone.

matplotlib draws them: it writes plain SVG, which needs no script and no other file, is a few
kilobytes a plot, prints, and can be read in ten years. (plotly's page carries 4 MB of script for
zooming, which nobody needs who has a minute.) Text stays text, and every colour is a variable of
the page's style sheet, so that one file serves light and dark.
"""

import io
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from load_figures import (
    KIND_NAMES,
    KINDS,
    by_kind,
    errors_over_time,
    percentiles_over_time,
    stage_bands,
    tokens_over_time,
    windows,
)
from load_record import Record, Sample

from relume.base.vocabulary import COLD_START_PHASES, LAUNCH_PHASES, MEMORY_PHASE

PLOTS = Path(__file__).resolve().parents[1] / ".venv" / "plots"
#: Stand-ins that matplotlib writes, and the variables of the page that they become.
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "rest": "#040404",
    "paper": "#050505",
    "bad": "#060606",
    **{f"c{number}": f"#0a00{number:02x}" for number in range(1, 10)},
}
KIND_COLOURS = {"event": "c1", "chat": "c2", "job": "c3"}
WIDE, NARROW = (10.6, 5.4), (5.2, 2.5)
WINDOW_S = 5.0
#: More dots than this say nothing and make the file large; then the lines stand alone.
MOST_DOTS = 1200
#: Characters of a label that has others beside it.
MOST_LABEL = 30

Axes = Any  # matplotlib is not installed where only figures are computed


class NoPlots(SystemExit):
    """matplotlib is not there."""


def _matplotlib() -> Any:
    """The library, from the folder that `make load` and `make test` fill."""
    if str(PLOTS) not in sys.path:
        sys.path.append(str(PLOTS))
    try:
        import matplotlib
    except ImportError:
        raise NoPlots(f"matplotlib is not in {PLOTS}: run `make .venv/plots/.installed`") from None
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": COLOURS["grid"],
            "axes.labelcolor": COLOURS["muted"],
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.axisbelow": True,
            "grid.color": COLOURS["grid"],
            "grid.linewidth": 0.6,
            "text.color": COLOURS["ink"],
            "xtick.color": COLOURS["muted"],
            "ytick.color": COLOURS["muted"],
            "ytick.major.size": 0,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.8,
        }
    )
    return matplotlib


def drawn(
    record: Record,
    draw: Callable[[Sequence[Axes], Record], None],
    *,
    size: tuple[float, float] = NARROW,
    heights: Sequence[int] = (1,),
) -> str:
    """One figure of axes above each other on the time of the test, as an `<svg>` element."""
    # The ids of clips and markers are made from this; each figure of the page has its own.
    _matplotlib().rcParams["svg.hashsalt"] = getattr(draw, "__name__", "plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes = [figure.add_subplot(grid[row]) for row in range(len(heights))]
    for number, each in enumerate(axes):
        each.patch.set_alpha(0)
        each.set_xlim(0, record.seconds)
        _bands(each, record, named=number == 0)
        each.tick_params(labelbottom=number == len(axes) - 1)
    _clock(axes[-1], record.seconds)
    draw(axes, record)
    for each in axes:
        if labels := each.get_legend_handles_labels()[1]:
            columns = 4 if max(map(len, labels)) < MOST_LABEL else 1
            each.legend(loc="upper left", ncols=columns, handlelength=1.2, columnspacing=1.2)
    return _inlined(figure)


def _inlined(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Parts are numbered from 1 in every figure, and in one page an id may stand only once. What is
    # referred to has a hash in its id, and stays.
    text = re.sub(r' id="(?!C\d+_)[^"]*_\d+"', "", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # the page has it
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', text)
    text = re.sub(r"(\d+\.\d\d)\d+", r"\1", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", text)


def _bands(axes: Axes, record: Record, *, named: bool) -> None:
    """Shade the rests, and write the names of the stages above the plot."""
    bands = stage_bands(record)
    for name, begins, ends, rests in bands:
        if rests:
            axes.axvspan(begins, ends, color=COLOURS["rest"], lw=0, zorder=0)
        elif begins:
            axes.axvline(begins, color=COLOURS["grid"], lw=0.8)
        if named and (ends - begins) / record.seconds > 0.08:
            middle = (begins + min(ends, record.seconds)) / 2
            axes.annotate(
                name,
                (middle, 1.01),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                color=COLOURS["muted"],
                fontsize=8,
            )


def _clock(axes: Axes, seconds: float) -> None:
    """Minutes and seconds below the lowest plot."""
    step = next(s for s in (15, 30, 60, 120, 300, 600, 1800, 3600, 1e9) if seconds / s <= 9)
    ticks = [step * i for i in range(int(seconds // step) + 1)]
    axes.set_xticks(ticks, [f"{int(t) // 60}:{int(t) % 60:02d}" for t in ticks])


def _stairs(
    axes: Axes,
    record: Record,
    value: Callable[[Sample], float],
    colour: str,
    label: str,
    *,
    filled: bool = False,
) -> None:
    at = [sample.at for sample in record.samples]
    values = [value(sample) for sample in record.samples]
    if filled:
        axes.fill_between(at, values, step="post", color=COLOURS[colour], alpha=0.3, lw=0)
    axes.step(at, values, where="post", color=COLOURS[colour], label=label)


def _top(axes: Axes, label: str, least: float = 1.0, room: float = 1.35) -> None:
    """From zero, with room for the legend above the highest value."""
    axes.set_ylabel(label)
    axes.set_ylim(0, max(axes.dataLim.y1, least) * room)


def course(axes: Sequence[Axes], record: Record) -> None:
    """What was asked, what was there to answer, and who waited."""
    asked, replicas, waiting = axes
    _requests(asked, record)
    _stairs(replicas, record, lambda s: s.replicas, "c4", "replicas", filled=True)
    _stairs(replicas, record, lambda s: s.desired, "c5", "wanted by the autoscaler")
    replicas.yaxis.get_major_locator().set_params(integer=True)
    _top(replicas, "replicas", room=1.6)
    _stairs(waiting, record, lambda s: s.held, "c6", "held", filled=True)
    _stairs(waiting, record, lambda s: s.in_flight, "c7", "in flight")
    _stairs(waiting, record, lambda s: s.jobs_waiting, "c3", "jobs queued")
    _top(waiting, "requests", room=1.5)


def _requests(axes: Axes, record: Record) -> None:
    """Bars of the requests that were due in each second, by kind, on top of each other."""
    width = WINDOW_S / 2
    bottoms = [0.0] * len(windows((), width, record.seconds))
    for kind in KINDS:
        due = [(each.due, 1.0) for each in record.asked if each.kind == kind]
        if not due:
            continue
        counted = windows(due, width, record.seconds)
        heights = [len(values) / width for _, values in counted]
        axes.bar(
            [at for at, _ in counted],
            heights,
            width * 0.9,
            bottoms,
            color=COLOURS[KIND_COLOURS[kind]],
            label=KIND_NAMES[kind],
            lw=0,
        )
        bottoms = [low + height for low, height in zip(bottoms, heights, strict=True)]
    _top(axes, "requests/s")


def _dots_and_lines(
    axes: Axes, record: Record, found: dict[str, list[tuple[float, float]]], unit: str
) -> None:
    """A dot for each value in the colour of its kind, and the p50 and p95 of all."""
    every = [pair for pairs in found.values() for pair in pairs]
    for kind in KINDS:
        pairs = found.get(kind, [])
        if len(every) <= MOST_DOTS and pairs:
            at, values = zip(*pairs, strict=True)
            colour = COLOURS[KIND_COLOURS[kind]]
            axes.plot(at, values, ".", ms=4, alpha=0.6, color=colour, label=KIND_NAMES[kind])
    for percent, colour, dashes in ((50, "ink", "-"), (95, "ink", ":")):
        line = percentiles_over_time(every, percent, WINDOW_S, record.seconds)
        _broken_line(axes, line, colour, dashes, f"p{percent}")
    _top(axes, unit, least=0.1)


def _broken_line(
    axes: Axes, line: Iterable[tuple[float, float | None]], colour: str, style: str, label: str
) -> None:
    """A line with a gap where a window has nothing."""
    points = [(at, float("nan") if value is None else value) for at, value in line]
    at, values = zip(*points, strict=True)
    axes.plot(at, values, style, marker="_", ms=3, color=COLOURS[colour], lw=1.2, label=label)


def whole_answers(axes: Sequence[Axes], record: Record) -> None:
    """Seconds from when a request was due to its whole answer."""
    done = by_kind(record, lambda e: e.seconds if e.error is None else None)
    _dots_and_lines(axes[0], record, done, "seconds")


def first_tokens(axes: Sequence[Axes], record: Record) -> None:
    """Seconds from when a request was due to its first token, of chats and jobs."""
    firsts = by_kind(record, lambda e: None if e.first is None else e.first - e.due)
    _dots_and_lines(axes[0], record, firsts, "seconds")


def between_tokens(axes: Sequence[Axes], record: Record) -> None:
    """Milliseconds between two parts of a stream, by when the second one came."""
    pairs = []
    for each in record.asked:
        moment = each.first or 0.0
        for gap in each.gaps_ms:
            moment += gap / 1000
            pairs.append((moment, gap))
    for percent, colour in ((50, "c2"), (95, "c6"), (99, "c9")):
        line = percentiles_over_time(pairs, percent, WINDOW_S, record.seconds)
        _broken_line(axes[0], line, colour, "-", f"p{percent}")
    _top(axes[0], "ms")


def tokens(axes: Sequence[Axes], record: Record) -> None:
    """Tokens of the answers in a second, all requests together."""
    at, rates = zip(*tokens_over_time(record, WINDOW_S), strict=True)
    axes[0].bar(at, rates, WINDOW_S * 0.9, color=COLOURS["c8"], lw=0)
    _top(axes[0], "tokens/s", room=1.1)


def events(axes: Sequence[Axes], record: Record) -> None:
    """Events accepted and delivered since the beginning, and below what lies between."""
    since, between = axes
    _stairs(since, record, lambda s: s.accepted, "c1", "accepted")
    _stairs(since, record, lambda s: s.delivered, "c3", "delivered")
    _top(since, "events")
    _stairs(between, record, lambda s: s.backlog, "c6", "backlog", filled=True)
    between.yaxis.get_major_locator().set_params(nbins=3, integer=True)
    _top(between, "events", room=1.7)


def memory(axes: Sequence[Axes], record: Record) -> None:
    """What predictors and the warm template hold."""
    _stairs(axes[0], record, lambda s: s.memory_mb / 1000, "c7", "", filled=True)
    _top(axes[0], "GB", room=1.1)


def cold_starts(axes: Sequence[Axes], record: Record) -> None:
    """Each start where it happened, its phases on top of each other."""
    first, *others = COLD_START_PHASES
    phases = (first, MEMORY_PHASE, *LAUNCH_PHASES, *others)
    most = {p: max((s.phases_ms.get(p, 0) for s in record.cold_starts), default=0) for p in phases}
    # What never takes long shares a colour: eleven colours cannot be told apart.
    named = sorted(phases, key=lambda phase: most[phase], reverse=True)[:6]
    width = record.seconds / max(30, len(record.cold_starts) * 2)
    labelled: set[str] = set()
    free = 0.0  # where the bar before ends; two replicas may start at once
    for start in record.cold_starts:
        at, bottom = max(start.at, free), 0.0
        free = at + width * 1.1
        for phase in phases:
            height = start.phases_ms.get(phase, 0) / 1000
            label = phase.replace("_", " ") if phase in named else "other"
            colour = f"c{named.index(phase) + 1}" if phase in named else "muted"
            new = None if label in labelled else label
            labelled.add(label)
            axes[0].bar(
                at, height, width, bottom, align="edge", color=COLOURS[colour], label=new, lw=0
            )
            bottom += height
    _top(axes[0], "seconds", room=1.6)


def errors(axes: Sequence[Axes], record: Record) -> None:
    """Failed requests by what was wrong."""
    bottoms: list[float] = []
    for number, (reason, counted) in enumerate(errors_over_time(record, WINDOW_S).items()):
        bottoms = bottoms or [0.0] * len(counted)
        counts = [count for _, count in counted]
        colour = COLOURS["bad" if number == 0 else f"c{number % 9 + 1}"]
        label = f"{reason[:56]}…" if len(reason) > 56 else reason
        at = [moment for moment, _ in counted]
        axes[0].bar(at, counts, WINDOW_S * 0.9, bottoms, color=colour, label=label, lw=0)
        bottoms = [low + count for low, count in zip(bottoms, counts, strict=True)]
    _top(axes[0], "failed", room=1.8)
