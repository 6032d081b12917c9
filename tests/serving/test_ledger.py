"""The ledger of cold starts and the predictors' log files."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relume.serving.ledger import ColdStart, Ledger, LogFiles, tail
from relume.serving.predictor import describe_exit

from .conftest import Staging
from .virtual import InProcessPredictor

START = ColdStart(
    namespace="default",
    service="summarize",
    revision="summarize-predictor-00001",
    at=datetime(2026, 1, 1, tzinfo=UTC),
    queue=1.23,
    phases={"fork": 20.04, "engine": 900},
    ready=1800.0,
    total=2300.55,
    outcome="ready",
)


def test_an_entry_is_one_flat_line_in_milliseconds(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state" / "coldstarts.jsonl")
    ledger.append(START)
    ledger.append(START)
    lines = (tmp_path / "state" / "coldstarts.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert (
        json.loads(lines[0])
        == START.to_json()
        == {
            "at": "2026-01-01T00:00:00.000+00:00",
            "namespace": "default",
            "service": "summarize",
            "revision": "summarize-predictor-00001",
            "started": None,
            "triggered_by": None,
            "queue": 1.2,
            "fork": 20.0,
            "import": None,
            "config": None,
            "weights": None,
            "engine": 900,
            "warmup": None,
            "first_token": None,
            "ready": 1800.0,
            "total": 2300.6,
            "outcome": "ready",
            "reason": None,
        }
    )


def test_the_last_hundred_are_remembered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "coldstarts.jsonl")
    for _ in range(120):
        ledger.append(START)
    assert len(ledger.entries) == 100


def test_a_file_that_cannot_be_written_costs_the_line_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path)  # a folder
    ledger.append(START)
    assert ledger.entries == (START,)
    assert "cannot write" in caplog.text


def test_five_log_files_of_a_service_are_kept(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path / "logs", "default", "summarize")
    for number in range(1, 9):
        logs.path(number).write_text(str(number))
    assert sorted(p.read_text() for p in (tmp_path / "logs").iterdir()) == ["4", "5", "6", "7", "8"]


def test_a_folder_that_cannot_be_written_is_no_failure_of_the_plane(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    logs = LogFiles(tmp_path / "file" / "logs", "default", "summarize")
    assert logs.path(1).name == "default.summarize.1.log"


def test_a_log_file_of_an_earlier_run_is_not_continued(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path, "default", "summarize")
    logs.path(1).write_text("an earlier run")
    assert not logs.path(1).exists()


def test_the_tail_is_the_last_lines_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 50_000 + b"\none\n\ntwo \xff\n\nthree\n\n")
    with log.open("a") as file:
        file.write('INFO:     127.0.0.1:35548 - "GET /startup HTTP/1.1" 200 OK\n')
    assert tail(log, 2) == ("two \ufffd", "three")
    assert tail(tmp_path / "nosuch", 2) == ()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "the predictor exited with code 3"),
        (-9, "the predictor was killed by SIGKILL"),
        (-200, "the predictor was killed by signal 200"),
    ],
    ids=["an exit code", "a signal with a name", "a signal without a name"],
)
def test_an_exit_code_is_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


class Measuring(InProcessPredictor):
    """A predictor whose launcher measures how long it took until somebody asks."""

    asked = 0

    @property  # type: ignore[override]
    def phases_ms(self) -> dict[str, float]:
        self.asked += 1
        return {"process": 1.0}


async def test_a_launcher_is_first_asked_for_its_phases_when_the_process_is_ready(
    stage: Staging,
) -> None:
    """A function's launcher measures up to that moment: asked before, it would tell too little."""
    async with stage() as s:
        request = s.ask()
        predictor = await s.launched()
        predictor.__class__ = Measuring
        await s.clock.advance(25)
        assert (predictor.probed > 0, predictor.asked) == (True, 0)
        await s.ready()
        await request.end()
        assert predictor.asked > 0
        assert s.status()["last_cold_start"]["process"] == 1.0
