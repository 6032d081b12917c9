"""The figures of a load test and its page, from a small record and from one that was kept."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from load_figures import percentile, summary, tokens_over_time, wakes, windows
from load_plan import Stage
from load_record import Asked, NoRecord, Record, Sample, asked_in
from load_report import page

from relume.cli.machine.reports import Status

KEPT = Path(__file__).parents[2] / "loadtests" / "recorded" / "load.json"
STREAMED = Asked("chat", "open", "acme", 1.0, 1.1, 4.0, 2.0, (500.0, 500.0), 6, "answered", None)
EVENT = Asked("event", "closed", "globex", 2.0, 2.0, 6.0, None, (), 8, "answered", None)


def sample(at: float, replicas: int, desired: int | None = None, *, backlog: int = 0) -> Sample:
    wanted = replicas if desired is None else desired
    state = "ready" if replicas else "zero"
    return Sample(at, state, replicas, wanted, 0, 0, 1, 1, backlog, 0, 0, 0, 0, 600.0)


def record(*asked: Asked, samples: tuple[Sample, ...] = ()) -> Record:
    stages = (Stage("burst", 10.0, 1.0, 2), Stage("rest", 10.0, 0, 0))
    seen = samples or (sample(0, 0), sample(1, 0, 1), sample(2, 2), sample(15, 0))
    return Record((("load", "a <small> one"),), stages, seen, asked or (STREAMED, EVENT))


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (51, 3.0), (95, 4.0), (0, 1.0)])
def test_a_percentile_is_a_value_that_was_seen(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == value


def test_a_percentile_of_nothing_is_none() -> None:
    assert percentile([], 50) is None


def test_windows_keep_every_value_also_outside_of_the_test() -> None:
    found = windows([(-1.0, 1.0), (4.9, 2.0), (5.0, 3.0), (99.0, 4.0)], 5.0, 12.0)
    assert [values for _, values in found] == [[1.0, 2.0], [3.0], [4.0]]
    assert [at for at, _ in found] == [2.5, 7.5, 12.5]


def test_no_token_is_lost_or_counted_twice_over_time() -> None:
    rates = tokens_over_time(record(), 5.0)
    assert sum(rate * 5 for _, rate in rates) == pytest.approx(14)
    # The chat's six tokens came by 3.0 s; of the event's eight, six by 5.0 s.
    assert rates[0][1] * 5 == pytest.approx(12)


def test_a_way_up_begins_when_a_replica_is_wanted_and_ends_at_zero() -> None:
    (wake,) = wakes(record())
    assert (wake.began, wake.most, wake.zero) == (1, 2, 15)
    (cut,) = wakes(record(samples=(sample(0, 0), sample(1, 1))))
    assert cut.zero is None


def test_a_time_runs_from_when_the_request_was_due_and_not_from_when_it_was_sent() -> None:
    late = replace(STREAMED, sent=3.5)
    figures = {figure.name: figure.value for figure in summary(record(late)).figures}
    assert figures["whole answer, p50"] == "3.00 s"
    assert figures["time to first token, p50"] == "1.00 s"
    assert figures["open loop sent late by, p99"] == "2.50 s"


def test_all_is_well_only_when_all_was_answered_and_nothing_is_left() -> None:
    assert summary(record()).well
    failed = replace(EVENT, outcome="failed", error="503: no room")
    broken = summary(record(STREAMED, failed))
    assert not broken.well
    assert "1 × event: 503: no room" in broken.verdict
    left = summary(record(samples=(sample(0, 0), sample(1, 1, backlog=3))))
    assert not left.well
    assert "3 events were not delivered" in left.verdict
    assert not summary(replace(record(), asked=())).well


def test_a_sample_counts_events_of_producers_and_not_the_answers() -> None:
    status = {
        "version": "1",
        "pid": 1,
        "started_at": "",
        "http": "",
        "broker": "",
        "state_dir": "",
        "serving": {"services": [{"namespace": "d", "name": "s", "state": "ready", "held": 2}]},
        "eventing": {
            "brokers": [{"namespace": "d", "name": "b", "url": "", "accepted": 9}],
            "triggers": [
                {"namespace": "d", "name": "t", "broker": "b", "delivered": 4, "replied": 4}
                | {"pending": 1}
            ],
        },
    }
    found = Sample.of(Status.parse(status), 3.0)
    assert (found.accepted, found.delivered, found.backlog, found.held) == (5, 4, 1, 2)
    later = replace(found, accepted=8, delivered=7).counted_from(found, 4.0)
    assert (later.at, later.accepted, later.delivered, later.backlog) == (4.0, 3, 3, 1)


def test_a_line_of_locusts_side_becomes_a_request_on_the_clock_of_the_test() -> None:
    lines = [
        '{"origin": 100.0}',
        '{"kind": "chat", "loop": "open", "tenant": "acme", "due": 101.0, "sent": 101.1, '
        '"first": 102.0, "parts": [102.0, 102.5, 103.0], "tokens": 6, "ended": 104.0, '
        '"outcome": "answered", "error": null}',
    ]
    assert asked_in(lines) == (100.0, (STREAMED,))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    record().write(path)
    assert Record.read(path) == record()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"about": 3}'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(NoRecord, match=r"other\.json"):
        Record.read(path)


class Parts(HTMLParser):
    """The elements of a page, their ids and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name.endswith("href") or name == "src":
                self.references.append(value or "")


def test_the_page_of_a_kept_run_needs_nothing_beside_it() -> None:
    text = page(Record.read(KEPT))
    parts = Parts(text)
    assert parts.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert "http://" not in text.partition("</style>")[2].replace("http://127.0.0.1", "")
    assert "https://" not in text
    assert "@import" not in text
    assert len(parts.ids) == len(set(parts.ids))
    assert {name.removeprefix("#") for name in parts.references} <= set(parts.ids)
    # Only the style sheet names colours, so that dark and light are its matter alone.
    assert not re.findall(r":\s*#[0-9a-f]{6}\b", text.partition("</style>")[2])
    assert len(text) < 500_000


# matplotlib warns where a plot has no room left beside its labels.
@pytest.mark.filterwarnings("error")
def test_the_page_says_what_failed_and_escapes_what_came_from_outside() -> None:
    failed = replace(EVENT, outcome="failed", error=f"<b>refused</b>, {'for a long reason ' * 9}")
    text = page(record(STREAMED, failed))
    assert "<b>refused" not in text
    assert "&lt;b&gt;refused&lt;/b&gt;" in text
    assert "a &lt;small&gt; one" in text
    assert ">Errors<" in text
    assert ">Errors<" not in page(record())


def test_the_kept_run_shows_a_burst_the_way_up_and_the_way_to_zero() -> None:
    kept = Record.read(KEPT)
    ways = wakes(kept)
    assert summary(kept).well
    assert len(ways) == 2
    assert all(way.most == 2 and way.zero is not None for way in ways)
    assert {each.kind for each in kept.asked} == {"event", "chat", "job"}
    assert {each.loop for each in kept.asked} == {"open", "closed"}
    assert any(each.outcome == "cancelled" for each in kept.asked)
    assert len(kept.cold_starts) >= 2
