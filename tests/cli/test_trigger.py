"""`relume trigger test`: which Triggers take an event, and why, without running anything."""

import io
import json
import sys
from pathlib import Path

import pytest

from relume.cli.main import run

Output = pytest.CaptureFixture[str]

MANIFEST = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: inbox}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: m}
spec: {predictor: {model: {modelFormat: {name: vLLM}, storageUri: "hf://nobody/has-this-model"}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: gold}
spec:
  broker: inbox
  filters:
    - prefix: {type: com.example.}
    - cesql: |
        tier = 'gold' AND amount
          > 1000
  subscriber:
    ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: old}
spec: {broker: inbox, filter: {attributes: {type: com.example.order}}, subscriber: {uri: "http://h/"}}
"""
GOLD = {"type": "com.example.pay", "source": "/s", "id": "1", "tier": "gold", "amount": 2000}


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    file = tmp_path / "m.yaml"
    file.write_text(MANIFEST, encoding="utf-8")
    return str(file)


def event_file(folder: Path, **attributes: object) -> str:
    file = folder / "event.json"
    file.write_text(json.dumps(GOLD | attributes), encoding="utf-8")
    return str(file)


def test_what_this_machine_cannot_run_keeps_no_filter_from_being_tried(
    manifest: str, tmp_path: Path, capsys: Output
) -> None:
    elsewhere = MANIFEST.replace("hf://nobody/has-this-model", "pvc://claim/m").replace(
        "apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m",
        "apiVersion: serving.knative.dev/v1, kind: Service, name: s",
    )
    Path(manifest).write_text(elsewhere, encoding="utf-8")
    assert run(["trigger", "test", manifest, "--event", event_file(tmp_path)]) == 0
    assert "default/gold" in capsys.readouterr().out


def test_it_names_the_clause_that_decided_for_each_trigger(
    manifest: str, tmp_path: Path, capsys: Output
) -> None:
    assert run(["trigger", "test", manifest, "--event", event_file(tmp_path)]) == 0
    heads, gold, old = capsys.readouterr().out.splitlines()
    assert heads.split() == ["TRIGGER", "BROKER", "TAKES", "IT", "BECAUSE"]
    assert gold.split(maxsplit=3) == [
        "default/gold",
        "inbox",
        "yes",
        "spec.filters: all of these"
        " (the event has type 'com.example.pay', tier 'gold', amount '2000')",
    ]
    assert old.split(maxsplit=3) == [
        "default/old",
        "inbox",
        "no",
        "spec.filter.attributes.type: type is 'com.example.order'"
        " (the event has type 'com.example.pay')",
    ]


def test_no_trigger_that_takes_the_event_is_exit_1(manifest: str, capsys: Output) -> None:
    line = ["trigger", "test", manifest, "--type", "com.example.pay", "--attribute", "tier=gold"]
    assert run(line) == 1
    because = "spec.filters[1].cesql: amount > 1000 (missingAttribute: the event has no amount)"
    assert because in capsys.readouterr().out


def test_an_event_is_made_of_options(manifest: str, capsys: Output) -> None:
    line = ["trigger", "test", manifest, "--type", "com.example.order", "--source", "/shop"]
    assert run([*line, "--attribute", "subject=a=b", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["event"]["source"] == "/shop"
    assert shown["event"]["subject"] == "a=b"
    assert [trigger["matches"] for trigger in shown["triggers"]] == [False, True]


def test_options_change_the_event_of_a_file(manifest: str, tmp_path: Path, capsys: Output) -> None:
    line = ["trigger", "test", manifest, "--event", event_file(tmp_path), "-o", "json"]
    assert run([*line, "--type", "com.example.order", "--attribute", "tier=tin"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [trigger["matches"] for trigger in shown["triggers"]] == [False, True]


def test_json_has_the_whole_tree_and_the_place_of_the_trigger(
    manifest: str, tmp_path: Path, capsys: Output
) -> None:
    assert run(["trigger", "test", manifest, "--event", event_file(tmp_path), "-o", "json"]) == 0
    gold, old = json.loads(capsys.readouterr().out)["triggers"]
    assert (gold["name"], gold["broker"], gold["file"]) == ("gold", "inbox", manifest)
    assert MANIFEST.splitlines()[gold["line"] - 1] == "metadata: {name: gold}"
    prefix, cesql = gold["verdict"]["clauses"]
    assert prefix["had"] == {"type": "com.example.pay"}
    assert [term["asked"] for term in cesql["clauses"]] == [
        "tier = 'gold'",
        "amount\n  > 1000",
    ]
    assert old["decided_by"] == {
        "dialect": "attributes",
        "field": "spec.filter.attributes.type",
        "asked": "type is 'com.example.order'",
        "passed": False,
        "had": {"type": "com.example.pay"},
        "error": None,
    }


def test_the_event_may_come_through_a_pipe(
    manifest: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(GOLD).encode())))
    assert run(["trigger", "test", manifest, "--event", "-"]) == 0
    assert "default/gold" in capsys.readouterr().out


def test_files_without_a_trigger_take_nothing(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text(MANIFEST.split("---")[0], encoding="utf-8")
    assert run(["trigger", "test", str(file), "--type", "t"]) == 1
    assert capsys.readouterr().out == "there is no Trigger in these files\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name an event file with --event, or make a new event with --type"),
        (["--event", "nowhere.json"], "nowhere.json: No such file"),
        (["--type", "t", "--attribute", "tier"], "--attribute tier: write NAME=VALUE"),
        (["--type", "t", "--attribute", "My-Tier=1"], "attribute names are lower-case"),
        (["--type", "t", "--source", ""], "source: must be a non-empty URI reference"),
    ],
)
def test_a_wrong_event_is_exit_2(
    manifest: str, options: list[str], message: str, capsys: Output
) -> None:
    assert run(["trigger", "test", manifest, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_manifest_is_exit_2_and_points_into_the_expression(
    tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MANIFEST.replace("tier = ", "tier == "), encoding="utf-8")
    assert run(["trigger", "test", str(file), "--type", "t"]) == 2
    field = "spec.filters[1].cesql"
    assert capsys.readouterr().err == (
        f"relume: {file}:17: {field}: is no CESQL expression: character 6: unexpected ==: write =\n"
    )
