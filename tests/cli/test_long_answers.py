"""Answers that are longer than what a plane remembers of an event: printed whole, from its log."""

import json
from typing import TYPE_CHECKING

import pytest

from relume.cli.main import run

if TYPE_CHECKING:
    from tests.cli.conftest import StandIn

Output = pytest.CaptureFixture[str]
ASK = ["send", "--type", "ask-at-length", "--data", "words", "--id", "long-1", "--wait"]


def test_wait_prints_a_long_answer_whole(plane: "StandIn", capsys: Output) -> None:
    assert run(ASK) == 0
    shown = capsys.readouterr().out
    assert shown.count("On and on.") == 9000
    assert "The end." in shown


def test_wait_as_json_prints_a_long_answer_whole(plane: "StandIn", capsys: Output) -> None:
    assert run([*ASK, "-o", "json"]) == 0
    [choice] = json.loads(capsys.readouterr().out)["data"]["choices"]
    assert choice["text"].endswith("The end.")


def test_explain_prints_a_long_answer_whole(plane: "StandIn", capsys: Output) -> None:
    run(ASK)
    capsys.readouterr()
    assert run(["explain", "long-1"]) == 0
    assert "The end." in capsys.readouterr().out
    assert run(["explain", "long-1", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"]["data"]["choices"][0]["text"].endswith("The end.")
    replied = next(record for record in told["records"] if record["stage"] == "replied")
    assert "data" not in replied["event"]
    assert replied["bytes"] > 90_000
    assert replied["begins"].startswith('{"choices": [{"text": "On and on.')


def test_what_the_log_does_not_keep_any_more_is_said_to_be_missing(
    plane: "StandIn", capsys: Output
) -> None:
    run(ASK)
    plane.stored.clear()
    capsys.readouterr()
    assert run(["explain", "long-1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "On and on." in shown
    assert "and the plane does not keep the rest)" in shown
