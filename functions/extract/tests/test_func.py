"""What becomes of requests and of a model's answers."""

import json
from pathlib import Path

import pytest
from function import new
from function.settings import ConfigError

GOOD = {"category": "billing", "urgency": "high", "summary": "Paid twice."}
RESPONSE = {"type": "relume.inference.response", "causationid": "r1", "correlationid": "c"}


def answer(content: object) -> dict:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}


async def test_a_request_leaves_with_the_schema_as_its_response_format(running) -> None:
    request = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
    reply = await running().post(request)
    assert reply.type == "com.example.ticket.asked"
    asked = reply.data["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["strict"] is True
    assert asked["json_schema"]["schema"]["required"] == ["category", "urgency", "summary"]
    assert {name: reply.data[name] for name in request} == request


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"\n{json.dumps(GOOD, indent=2)}\n",
        f"```json\n{json.dumps(GOOD)}\n```",
    ],
)
async def test_a_fitting_answer_becomes_the_domain_event(running, text: str) -> None:
    reply = await running().post(answer(text), subject="ticket-7", **RESPONSE)
    assert (reply.type, reply.data) == ("com.example.ticket.sorted", GOOD)
    assert reply.headers["ce-subject"] == "ticket-7"
    assert reply.headers["ce-correlationid"] == "c"


async def test_the_text_of_a_completion_is_an_answer_too(running) -> None:
    reply = await running().post({"choices": [{"text": json.dumps(GOOD)}]}, **RESPONSE)
    assert reply.data == GOOD


BAD = [
    ('{"category": "billing", "urgency": "hi', "data: the answer is not JSON"),
    (json.dumps({**GOOD, "urgency": "now"}), "data.urgency: does not fit enum"),
    (json.dumps({"category": "billing"}), "data: urgency, summary is missing"),
    (json.dumps({**GOOD, "more": 1}), "data: has fields that the schema does not know"),
    ('{"category": NaN}', "data: the answer is not JSON"),
    ("", "data: the answer is not JSON"),
    ("[" * 100_000, "data: the answer is not JSON"),
]


@pytest.mark.parametrize(("text", "told"), BAD)
async def test_an_answer_that_does_not_fit_is_repaired_once(running, text: str, told: str) -> None:
    function = running()
    repair = await function.post(answer(text), **RESPONSE)
    assert repair.type == "com.example.ticket.asked"
    assert repair.headers["ce-id"].startswith("repair-")
    assert repair.headers["ce-correlationid"] == "c"
    assert repair.data["response_format"]["type"] == "json_schema"
    shown = repair.data["messages"][1]["content"]
    assert told in shown
    assert shown.endswith(text)

    # The model answers the repair request, and repeats its id as causationid.
    second = {**RESPONSE, "id": "2", "causationid": repair.headers["ce-id"]}
    assert (await function.post(answer(json.dumps(GOOD)), **second)).data == GOOD
    refused = await function.post(answer(text), **second)
    assert refused.reason == "invalid-answer"
    assert refused.data["error"]["message"].startswith(told)


async def test_repeated_deliveries_ask_for_one_repair(running) -> None:
    function = running()
    ids = {(await function.post(answer("x"), **RESPONSE)).headers["ce-id"] for _ in range(2)}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (answer(None), "no-answer"),
        ({"choices": []}, "no-answer"),
        ({"choices": [{"text": 1}]}, "no-answer"),
        ({"choices": {"a": 1}}, "no-answer"),
        ({"input": "x"}, "invalid-data"),
        ([], "invalid-data"),
        (b"{", "invalid-data"),
    ],
)
async def test_what_is_no_answer_is_an_error_event(running, data, reason: str) -> None:
    assert (await running().post(data, **RESPONSE)).reason == reason


async def test_the_error_of_a_model_becomes_an_error_event_of_the_pipeline(running) -> None:
    told = {"error": {"message": "too long"}, "reason": "context-too-long", "retryable": False}
    reply = await running().post(told, type="relume.inference.error", causationid="r1")
    assert reply.reason == "model-refused"
    assert reply.data["error"]["message"].endswith("context-too-long: too long")


def config(folder: Path, **changes: object) -> str:
    values = {"type": "t", "request_type": "r", "schema": {"type": "array"}}
    (folder / "extract.yaml").write_text(json.dumps(values | changes))
    return str(folder)


async def test_repairs_can_be_switched_off(running, tmp_path: Path) -> None:
    function = running(CONFIG_DIR=config(tmp_path, repair=False))
    assert (await function.post(answer("{}"), **RESPONSE)).reason == "invalid-answer"
    assert (await function.post(answer("[1]"), **RESPONSE)).data == [1]


@pytest.mark.parametrize("changes", [{"repair": "yes"}, {"schema": 1}, {"max_tokens": True}])
def test_a_wrong_configuration_ends_the_start(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        new().start({"CONFIG_DIR": config(tmp_path, **changes)})
