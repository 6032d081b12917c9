"""The page of a load test: one HTML file, no script, nothing from anywhere else.

At the top is what a person reads in a minute: whether all went well, a dozen figures, what was run
on what machine. Below are the plots, each with a sentence that says how to read it.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import load_plots
from load_figures import Summary, failed, start_rows, summary, tenant_rows
from load_plots import NARROW, WIDE, Axes, drawn
from load_record import Record

STYLE = (Path(__file__).resolve().parent / "load_report.css").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot, its title, and how to read it."""

    title: str
    reading: str
    draw: Callable[[Sequence[Axes], Record], None]
    heights: tuple[int, ...] = (1,)
    wide: bool = False


COURSE = Plot(
    "The course of the test",
    "What was asked, how many replicas there were, and who had to wait. Rests are shaded: with "
    "nobody asking, the replicas go to zero, and the first request after a rest starts one again.",
    load_plots.course,
    (3, 2, 3),
    wide=True,
)
PLOTS = (
    Plot(
        "Whole answers",
        "From when a request was due to its last token. Dots are requests, at the moment they were "
        "due; those that met a cold start or a full replica are high.",
        load_plots.whole_answers,
    ),
    Plot(
        "Time to first token",
        "The same for the first token, of the requests that stream.",
        load_plots.first_tokens,
    ),
    Plot(
        "Between tokens",
        "How evenly a stream flows once it has begun. The prompts of other requests are read in "
        "between, and replicas that start take their share of the cores.",
        load_plots.between_tokens,
    ),
    Plot(
        "Tokens a second",
        "Tokens of all answers together; what the machine can do at most is the plateau.",
        load_plots.tokens,
    ),
    Plot(
        "Events",
        "Accepted events are stored; delivered ones were answered. The backlog between them has to "
        "come back to zero.",
        load_plots.events,
        (2, 1),
    ),
    Plot(
        "Cold starts",
        "Every start of a replica where it happened, and what its time was spent on.",
        load_plots.cold_starts,
    ),
    Plot(
        "Memory",
        "What the replicas and the warm template hold; what is left at zero is the template.",
        load_plots.memory,
    ),
)
ERRORS = Plot("Errors", "Failed requests by what was wrong.", load_plots.errors)


def write_report(record: Record, path: Path) -> None:
    """Write the page. Ends the program where matplotlib is missing, and says what to do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(record), encoding="utf-8")


def page(record: Record) -> str:
    """The page as text."""
    told = summary(record)
    plots = [*PLOTS, *([ERRORS] if failed(record) else [])]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>Relume under load</title><style>{STYLE}</style></head><body><main>",
        _top(record, told),
        _figure(COURSE, record),
        '<div class="grid">',
        *(_figure(plot, record) for plot in plots),
        _tables(record),
        "</div>",
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _top(record: Record, told: Summary) -> str:
    tiles = "".join(
        f"<div><dt>{_text(figure.name)}</dt><dd>{_text(figure.value)}"
        f"<small>{_text(figure.note)}</small></dd></div>"
        for figure in told.figures
    )
    about = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in record.about
    )
    good = "good" if told.well else "wrong"
    mark = "✓" if told.well else "✗"
    return (
        "<header><h1>Relume under load</h1>"
        f'<p class="verdict {good}"><b aria-hidden="true">{mark}</b> {_text(told.verdict)}</p>'
        f"<p>{_text(told.ways)}</p>"
        f'<dl class="tiles">{tiles}</dl><dl class="about">{about}</dl></header>'
    )


def _figure(plot: Plot, record: Record) -> str:
    size = WIDE if plot.wide else NARROW
    svg = drawn(record, plot.draw, size=size, heights=plot.heights)
    named = svg.replace("<svg ", f'<svg aria-label="{_text(plot.title)}" ', 1)
    kind = "wide" if plot.wide else "narrow"
    return (
        f'<figure class="{kind}"><h2>{_text(plot.title)}</h2><div>{named}</div>'
        f"<figcaption>{_text(plot.reading)}</figcaption></figure>"
    )


def _tables(record: Record) -> str:
    tenants = _table(("tenant", "requests", "failed", "p50", "p95"), tenant_rows(record))
    starts = _table(("at", "cold start of", "took"), start_rows(record.cold_starts))
    none = "" if failed(record) else "<p>No request failed.</p>"
    return f"<section><h2>Who asked</h2>{tenants}{none}{starts}</section>"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(header)}</th>' for header in headers)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    return html.escape(text)
