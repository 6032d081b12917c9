"""The two readers of what we print: a person at a terminal, and a pipe."""

import io
import json

import pytest
from rich.console import Console

from relume.cli.machine import story
from relume.cli.machine.reports import ColdStartReport
from relume.cli.machine.story import (
    cold_start_of,
    find_cold_start,
    phase_lines,
    show_cold_start,
)
from relume.cli.screen import Screen, printable

ENTRY = {
    "namespace": "default",
    "service": "summarizer",
    "started": "template",
    "triggered_by": "event-1",
    "queue": 12.0,
    "fork": 20.0,
    "import": None,
    "config": 250.0,
    "weights": 300.0,
    "engine": 900.0,
    "warmup": 100.0,
    "first_token": 700.0,
    "total": 2300.0,
    "outcome": "ready",
}


def screen(*, terminal: bool, width: int = 80) -> tuple[Screen, io.StringIO]:
    file = io.StringIO()
    console = Console(
        file=file,
        force_terminal=terminal,
        width=width,
        color_system="truecolor" if terminal else None,
        highlight=False,
    )
    return Screen(console), file


def test_a_pipe_gets_no_escape_codes_and_no_wrapped_lines() -> None:
    out, file = screen(terminal=False)
    out.title("title")
    out.line("long " * 60, "bold")
    out.pairs([("name", "value " * 60)])
    out.table(("a", "b"), [("x", "y " * 60)])
    assert "\x1b" not in file.getvalue()
    assert len(file.getvalue().splitlines()) == 5


def test_a_terminal_gets_colour() -> None:
    out, file = screen(terminal=True)
    out.title("title")
    assert "\x1b[1m" in file.getvalue()


def test_text_from_outside_cannot_control_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\tc\n") == "a�[2Jb�\tc\n"
    out, file = screen(terminal=False)
    out.line("\x1b[31mred[bold]")
    assert file.getvalue() == "�[31mred[bold]\n"


def test_columns_of_a_plain_table_are_aligned() -> None:
    out, file = screen(terminal=False)
    out.table(("name", "state"), [("a-long-name", "zero"), ("b", "ready")])
    assert file.getvalue().splitlines() == [
        "NAME         STATE",
        "a-long-name  zero",
        "b            ready",
    ]


def test_json_in_a_pipe_is_one_line_of_json() -> None:
    out, file = screen(terminal=False)
    out.json({"words": "schläft"})
    assert file.getvalue() == '{"words": "schläft"}\n'


def test_json_in_a_terminal_is_still_json() -> None:
    out, file = screen(terminal=True)
    out.console.no_color = True
    out.console._color_system = None
    out.json({"a": [1, 2]})
    assert json.loads(file.getvalue()) == {"a": [1, 2]}


def test_phases_are_listed_in_order_with_those_that_happened() -> None:
    out, file = screen(terminal=False)
    show_cold_start(out, ColdStartReport.parse(ENTRY))
    lines = file.getvalue().splitlines()
    assert lines[0] == "cold start of summarizer: 2,300 ms, forked from the warm template"
    assert [line.split()[0] for line in lines[1:]] == [
        "queue",
        "fork",
        "config",
        "weights",
        "engine",
        "warmup",
        "first",
    ]
    assert lines[4].split() == ["weights", "300", "ms"]


def test_a_start_that_waited_for_the_template_says_so() -> None:
    out, file = screen(terminal=False)
    show_cold_start(out, ColdStartReport.parse({**ENTRY, "fork": 21_000.0}))
    assert file.getvalue().splitlines()[-1].endswith("relume up loads it once")


def test_bars_follow_each_other_and_fit() -> None:
    phases = {"queue": 1.0, "engine": 1000.0, "first_token": 1.0}
    lines = [line.plain for line in phase_lines(phases, bars=True, width=20)]
    starts = [line.index("━") for line in lines]
    assert starts == sorted(starts)
    assert max(len(line) for line in lines) <= len(lines[0].split("ms")[0]) + 2 + 2 + 20
    assert all("━" in line for line in lines)


def test_a_failed_cold_start_says_why() -> None:
    out, file = screen(terminal=False)
    failed = {**ENTRY, "started": None, "outcome": "failed", "reason": "exit status 1"}
    show_cold_start(out, ColdStartReport.parse(failed))
    assert file.getvalue().startswith("cold start of summarizer: 2,300 ms, exit status 1\n")


@pytest.mark.parametrize(
    "event_id, answer, found",
    [
        ("event-1", None, True),
        ("event-2", {"coldstartms": 900, "source": "/namespaces/d/i/summarizer"}, True),
        ("event-2", {"source": "/namespaces/d/i/summarizer"}, False),
        ("event-2", {"coldstartms": 900, "source": "/namespaces/d/i/other"}, False),
        ("event-2", None, False),
    ],
)
def test_the_cold_start_of_an_event_is_its_own_or_the_one_it_joined(
    event_id: str, answer: dict[str, object] | None, found: bool
) -> None:
    ledger = [ColdStartReport.parse(ENTRY)]
    assert (find_cold_start(ledger, event_id, answer) is not None) is found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        pytest.param(
            {"coldstartms": 900}, True, id="an answer that names a cold start is waited for"
        ),
        pytest.param({}, False, id="an answer that names none is asked about once"),
    ],
)
async def test_an_entry_that_comes_after_the_answer_is_still_found(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, object], found: bool
) -> None:
    monkeypatch.setattr(story, "_LEDGER_EVERY_S", 0.0)
    entry = ColdStartReport.parse({**ENTRY, "triggered_by": "event-2"})
    ledgers = iter([[], [], [entry]])

    async def ledger() -> list[ColdStartReport]:
        return next(ledgers)

    assert (await cold_start_of(ledger, "event-2", answer) is not None) is found
