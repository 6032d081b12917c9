"""What `relume explain` takes an id for, and what it says of one that it does not know."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from relume.cli.main import run
from relume.cloudevents.event import CloudEvent
from relume.eventing.answer_event import reply_id
from relume.eventing.observer import Record
from tests.cli.conftest import StandIn
from tests.cli.jobs_stand_in import JOB, JobsPlane

Output = pytest.CaptureFixture[str]


def happens(plane: StandIn, stage: str, id_: str, source: str = "/a", **more: object) -> None:
    attributes = {"specversion": "1.0", "id": id_, "source": source, "type": "t"}
    detail = more.pop("detail", None)
    event = CloudEvent({**attributes, **more})  # type: ignore[arg-type]
    at = f"2026-01-01T00:00:0{len(plane.observer.recent(9))}.000Z"
    plane.observer.publish(Record(at, stage, "default/b", event, "t", detail=detail))  # type: ignore[arg-type]


def answered(plane: StandIn, id_: str, source: str) -> None:
    happens(plane, "accepted", id_, source)
    answer = {"id_": reply_id(source, id_), "source": "/of/the/model", "causationid": id_}
    happens(plane, "replied", **answer, detail=f"to {id_}")


def test_the_beginning_of_an_id_is_enough_where_no_other_begins_so(
    plane: StandIn, capsys: Output
) -> None:
    for id_ in ("7f1c-1", "7f1c-2", "8000"):
        happens(plane, "accepted", id_)
    assert run(["explain", "8"]) == 0
    assert capsys.readouterr().out.startswith("8000, ")
    assert run(["explain", "7f1c"]) == 2
    assert "7f1c: 2 ids begin with it: 7f1c-1, 7f1c-2; write one out" in capsys.readouterr().err
    assert run(["explain", "7f1c-2", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "7f1c-2"
    assert run(["explain", ""]) == 2


def test_an_id_of_two_sources_is_asked_about_and_their_answers_are_kept_apart(
    plane: StandIn, capsys: Output
) -> None:
    answered(plane, "order", "/a")
    answered(plane, "order", "/b")
    assert run(["explain", "order"]) == 2
    said = "events from /a and /b have this id; choose one with --source"
    assert said in capsys.readouterr().err
    assert run(["explain", "order", "--source", "/b", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["event"]["id"] for each in told["records"]] == ["order", reply_id("/b", "order")]
    assert run(["explain", "order", "--source", "/c"]) == 2
    assert "no event order from there; there is one from /a and /b" in capsys.readouterr().err


def test_an_event_is_known_by_its_answer_when_its_own_records_are_forgotten(
    plane: StandIn, capsys: Output
) -> None:
    happens(plane, "replied", "other", "/function", detail="to order")
    assert run(["explain", "ord", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], [each["event"]["id"] for each in told["records"]]) == ("order", ["other"])


def test_a_function_that_answers_under_the_id_of_its_request_is_no_second_event(
    plane: StandIn, capsys: Output
) -> None:
    happens(plane, "accepted", "order")
    happens(plane, "replied", "order", "/function", detail="to order")
    assert run(["explain", "order", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["records"]) == 2


@pytest.mark.parametrize(
    ("id_", "words"),
    [
        ("yesterday", "nothing from before its start at 2026-01-01T00:00:00Z; `relume dlq list`"),
        ("chatcmpl-1", "its headers relume-queue-ms and relume-cold-start-ms say how long"),
    ],
)
def test_an_unknown_id_says_what_is_remembered_and_where_else_to_look(
    plane: StandIn, capsys: Output, id_: str, words: str
) -> None:
    assert run(["explain", id_]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"relume: {id_}: no such event") and words in said
    assert said.count("\n") == 1


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JobsPlane]:
    monkeypatch.setenv("RELUME_STATE", str(tmp_path))
    with JobsPlane() as running:
        monkeypatch.setenv("RELUME_URL", running.url)
        yield running


def test_a_job_is_found_by_the_beginning_of_its_id(jobs: JobsPlane, capsys: Output) -> None:
    jobs.jobs["job_abd"] = JOB | {"id": "job_abd"}
    assert run(["explain", "job_q"]) == 0
    assert capsys.readouterr().out.startswith("job_queued: ")
    assert run(["explain", "job_ab"]) == 2
    assert "2 ids begin with it" in capsys.readouterr().err
    event = CloudEvent({"specversion": "1.0", "id": "job_17", "source": "/a", "type": "t"})
    jobs.observer.publish(Record("2026-01-01T00:00:00.000Z", "accepted", "default/b", event, "t"))
    assert run(["explain", "job_17"]) == 0  # no job, but an event
    assert capsys.readouterr().out.startswith("job_17, ")
    assert run(["explain", "job_nowhere"]) == 2
    assert "`relume jobs list` shows those that are kept" in capsys.readouterr().err
