"""`relume claims` as it is run: exit codes, JSON, and messages with file, line and field."""

import json
from pathlib import Path

import pytest

from relume.cli.main import run
from relume.cluster.claims.wording import names
from tests.cluster.claims.building import EXAMPLES, INVENTORIES


def explain(name: str, inventory: str, *more: str) -> int:
    slices = str(INVENTORIES / f"{inventory}.yaml")
    return run(["claims", "explain", str(EXAMPLES / name), "--slices", slices, *more])


def test_a_claim_that_fits_is_0_and_one_that_does_not_is_1() -> None:
    assert explain("service.yaml", "l4") == 0
    assert explain("service.yaml", "t4") == 1


def test_json_has_every_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("label-size.yaml", "h100", "-o", "json") == 1
    answer = json.loads(capsys.readouterr().out)
    [claim], [finding] = answer["claims"], answer["findings"]
    assert claim["satisfiable"] is False
    [request] = claim["requests"]
    assert [clause["devices"] for clause in request["clauses"]] == [
        {"match": 16},
        {"match": 16},
        {"no match": 16},
    ]
    [devices] = request["devices"]
    assert (devices["count"], devices["why"]) == (16, "memory 79.6Gi < 80Gi")
    assert (finding["reason"], finding["line"]) == ("label-size-quantity", 13)


def test_json_has_the_witness(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("service.yaml", "l4", "-o", "json") == 0
    [claim] = json.loads(capsys.readouterr().out)["claims"]
    assert claim["witness"]["node"] == "l4-1"
    assert claim["witness"]["devices"][0]["device"] == "gpu-0"


def test_wrong_input_is_2_with_file_line_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "claim.yaml"
    file.write_text((EXAMPLES / "no-such-key.yaml").read_text().replace("index == 0", "index =="))
    slices = str(INVENTORIES / "l4.yaml")
    assert run(["claims", "explain", str(file), "--slices", slices]) == 2
    place = "spec.devices.requests[0].exactly.selectors[0].cel.expression"
    assert f"{file}:13: {place}: CEL does not compile" in capsys.readouterr().err


def test_the_size_of_a_model_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(EXAMPLES / "qwen2.5-7b.json")
    assert run(["claims", "size", config, "--context", "8192", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["devices"], answer["class"]) == (1, "llm-gpu-24g")
    assert answer["limits"] == {"deviceclass.resource.kubernetes.io/llm-gpu-24g": "1"}
    assert answer["kv_cache_bytes_per_token"] == 57344
    assert answer["used_bytes"] == sum(part["bytes"] for part in answer["parts"])


def test_a_service_gives_its_own_flags_and_options_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text((EXAMPLES / "qwen2.5-7b.json").read_text())
    service = tmp_path / "service.yaml"
    text = (EXAMPLES / "service.yaml").read_text()
    service.write_text(text.replace("hf://Qwen/Qwen2.5-7B-Instruct", f"file://{model}"))
    assert run(["claims", "size", str(service), "--concurrency", "2", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["context"], answer["concurrency"]) == (8192, 2)


@pytest.mark.parametrize(
    "given", [["nosuch"], ["file:///nosuch"], [str(EXAMPLES / "label-size.yaml")]]
)
def test_a_model_that_is_not_there_is_2(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["claims", "size", *given]) in (1, 2)
    assert capsys.readouterr().err.startswith("relume: ")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (["node-1", "node-2", "node-3"], "node-1..3"),
        (["a", "node-9", "node-11"], "node-9, node-11, a"),
        ([f"n{i}" for i in range(0, 20, 2)], "n0, n2, n4, n6 and 6 more"),
    ],
)
def test_names_of_nodes_are_put_together(nodes: list[str], words: str) -> None:
    assert names(nodes) == words
