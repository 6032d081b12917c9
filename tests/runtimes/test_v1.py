"""KServe's V1 over vLLM's routes: instances, predictions, parameters, refusals."""

from typing import Any

import pytest
from event_client import Producer, chat_data, client, tensor
from stub_vllm import MODEL, Stub

PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"


async def test_predict_answers_one_prediction_for_each_instance_in_order(
    producer: Producer,
) -> None:
    instances = ["hi", chat_data("you"), {"prompt": "abc"}, ""]
    response = await producer.http.post(PREDICT, json={"instances": instances})
    assert response.status_code == 200
    assert response.json() == {"predictions": ["HI", "YOU", "cba", ""]}


async def test_parameters_go_to_the_route_and_an_instance_overrides_them(
    producer: Producer, stub: Stub
) -> None:
    instances = ["hi", chat_data("you", max_tokens=2)]
    parameters = {"max_tokens": 1, "temperature": 0, "stream": True}
    await producer.http.post(PREDICT, json={"instances": instances, "parameters": parameters})
    asked = sorted(stub.asked, key=lambda one: one.body["max_tokens"])
    assert [one.body["max_tokens"] for one in asked] == [1, 2]
    assert all(one.body["temperature"] == 0 for one in asked)
    assert all(one.body["stream"] is False for one in asked)
    assert all(one.body["model"] == MODEL for one in asked)


@pytest.mark.parametrize(
    ("task", "instances", "predictions"),
    [
        ("embed", ["a", "bcd"], [[1.0, 0.5], [3.0, 0.5]]),
        ("classify", ["a"], [{"label": "good", "score": 0.75}]),
        ("score", [{"text_1": "a", "text_2": "b"}] * 2, [0.5, 0.5]),
    ],
)
async def test_predict_does_what_the_model_does(
    process: None, task: str, instances: list[Any], predictions: list[Any]
) -> None:
    async with client(task) as (http, _):
        response = await http.post(PREDICT, json={"instances": instances})
    assert response.json() == {"predictions": predictions}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"instances": []}',
        b'{"instances": "hi"}',
        b'{"instances": [5]}',
        b'{"instances": [{"text": "hi"}]}',
        b'{"instances": ["hi"], "parameters": [1]}',
        b'{"instances": ["hi"], "parameters": "max_tokens"}',
        b'{"instances": ["hi"], "parameters": {"temperature": NaN}}',
        b'{"instances": ["\\ud800"]}',
        b"[" * 10_000,
        b"\xff\xfe",
    ],
)
async def test_a_wrong_v1_body_is_400_in_kserves_shape(producer: Producer, body: bytes) -> None:
    response = await producer.http.post(PREDICT, content=body)
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)
    assert (response.json()["reason"], response.json()["retryable"]) == ("invalid-data", False)


@pytest.mark.parametrize("path", ["/v1/models/other:predict", "/v1/models/org/other:predict"])
async def test_an_unknown_model_is_404_in_kserves_shape(producer: Producer, path: str) -> None:
    response = await producer.http.post(path, json={"instances": ["hi"]})
    assert response.status_code == 404
    assert "is not served here" in response.json()["error"]
    assert response.json()["reason"] == "unknown-model"


async def test_a_model_whose_name_has_slashes_is_found(process: None) -> None:
    async with client("embed") as (http, stub):
        stub.app.state.relume_model = name = "/mnt/models"
        predict = await http.post(f"/v1/models/{name}:predict", json={"instances": ["a"]})
        infer = await http.post(f"/v2/models/{name}/infer", json={"inputs": [tensor("a")]})
        refused = await http.post(f"/v1/models/{name}:predict", json={})
    assert (predict.status_code, infer.status_code) == (200, 200)
    assert isinstance(refused.json()["error"], str)


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("answer 429", 429, "overloaded"),
        ("answer 503", 503, "overloaded"),
        ("answer 500", 500, "engine-failed"),
        ("answer text", 500, "engine-failed"),
        ("answer too-long", 400, "invalid-data"),
    ],
)
@pytest.mark.parametrize("v2", [False, True])
async def test_a_refusal_of_the_route_is_the_answer_even_if_other_inputs_succeed(
    producer: Producer, text: str, status: int, reason: str, v2: bool
) -> None:
    texts = ("hi", text, "you")
    body: dict[str, Any] = {"inputs": [tensor(*texts)]} if v2 else {"instances": list(texts)}
    response = await producer.http.post(INFER if v2 else PREDICT, json=body)
    assert response.status_code == status
    assert isinstance(response.json()["error"], str)
    assert response.json()["reason"] == reason
    assert ("retry-after" in response.headers) == (status in (429, 503))


async def test_a_task_without_a_v1_form_is_501_and_not_worth_a_retry(process: None) -> None:
    async with client("transcription") as (http, _):
        plain = await http.post(PREDICT, json={"instances": ["hi"]})
    async with Producer(Stub(("transcription",))).http as http:
        headers = {"ce-id": "1", "ce-source": "/a", "ce-type": "x", "ce-specversion": "1.0"}
        event = await http.post(PREDICT, json={"instances": ["hi"]}, headers=headers)
    assert (plain.status_code, plain.json()["retryable"]) == (501, False)
    assert (event.status_code, event.json()["reason"]) == (400, "unsupported")


async def test_a_model_says_that_it_is_ready(producer: Producer) -> None:
    known = await producer.http.get(f"/v1/models/{MODEL}")
    assert (known.status_code, known.json()["name"], known.json()["ready"]) == (200, MODEL, True)
    assert (await producer.http.get("/v1/models/other")).status_code == 404
