"""KServe's V1 and V2 over vLLM's routes: inputs, outputs, parameters, refusals, binary tensors."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from kserve.protocol.infer_type import InferInput, InferRequest, InferResponse, RequestedOutput
from stub_vllm import MODEL, TOO_LONG, Producer, Reply, Stub, chat_data

PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
PREFER = {"prefer": "reply"}


@asynccontextmanager
async def client(*tasks: str) -> AsyncIterator[tuple[httpx.AsyncClient, Stub]]:
    """A client of a server whose model does `tasks`."""
    stub = Stub(tasks)
    async with Producer(stub).http as http:
        yield http, stub


def tensor(*texts: str, **more: object) -> dict[str, Any]:
    """A V2 tensor of texts."""
    shape = [len(texts)]
    return {"name": "q", "datatype": "BYTES", "shape": shape, "data": list(texts), **more}


# --- V1


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


# --- V2


async def test_infer_answers_one_row_for_each_text(producer: Producer) -> None:
    body = {"id": "7", "inputs": [tensor("hi", "Füße")]}
    response = await producer.http.post(INFER, json=body)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["id"], answer["model_name"]) == ("7", MODEL)
    assert answer["outputs"] == [
        {"name": "text_output", "shape": [2], "datatype": "BYTES", "data": ["HI", "FÜSSE"]}
    ]


async def test_v2_parameters_go_to_the_route(producer: Producer, stub: Stub) -> None:
    body = {"inputs": [tensor("hi")], "parameters": {"max_tokens": 3}}
    await producer.http.post(INFER, json=body)
    assert stub.asked[0].body["max_tokens"] == 3


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("embed", [("embedding", "FP32", [2, 2], [1.0, 0.5, 3.0, 0.5])]),
        (
            "classify",
            [("label", "BYTES", [2], ["good", "good"]), ("score", "FP32", [2], [0.75, 0.75])],
        ),
    ],
)
async def test_infer_does_what_the_model_does(process: None, task: str, outputs: Any) -> None:
    async with client(task) as (http, _):
        response = await http.post(INFER, json={"inputs": [tensor("a", "bcd")]})
    found = response.json()["outputs"]
    assert [(o["name"], o["datatype"], o["shape"], o["data"]) for o in found] == outputs


async def test_binary_tensors_go_both_ways_through_kserves_codec(producer: Producer) -> None:
    asked = InferInput("q", [2], "BYTES")
    asked.set_data_from_numpy(np.array([b"hi", "Füße".encode()], dtype=object), binary_data=True)
    outputs = [RequestedOutput("text_output", parameters={"binary_data": True})]
    request = InferRequest(MODEL, [asked], request_id="9", request_outputs=outputs)
    body, length = request.to_rest()
    headers = {"inference-header-content-length": str(length)}
    response = await producer.http.post(INFER, content=body, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    answer = InferResponse.from_bytes(response.content, length)
    assert (answer.id, answer.outputs[0].as_numpy().tolist()) == ("9", ["HI", "FÜSSE"])


@pytest.mark.parametrize("length", ["abc", "²", "9" * 5000, "-1", "3"])
async def test_a_wrong_length_of_the_json_part_is_400(process: None, length: str) -> None:
    async with client("generate") as (http, _):
        headers = {"inference-header-content-length": length.encode("latin-1")}
        body = json.dumps({"inputs": [tensor("hi")]})
        response = await http.post(INFER, content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["reason"] == "invalid-data"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"{}",
        b'{"inputs": 5}',
        b'{"inputs": []}',
        b'{"inputs": [5]}',
        b'{"inputs": [{"name": "q"}]}',
        b'{"inputs": [{"name": "q", "datatype": "INT8", "shape": [1], "data": [1]}]}',
        *(
            json.dumps({"inputs": [tensor("hi", **wrong)]}).encode()
            for wrong in (
                {"shape": [3]},
                {"shape": "x"},
                {"data": []},
                {"data": [5]},
                {"data": [None]},
                {"data": {"a": 1}},
                {"datatype": "WORDS"},
                {"data": None, "parameters": {"binary_data_size": 99}},
                {"data": None, "parameters": {"binary_data_size": "x"}},
            )
        ),
        json.dumps({"inputs": [tensor("hi")], "parameters": [1]}).encode(),
        json.dumps({"inputs": [tensor("hi")], "outputs": [5]}).encode(),
        json.dumps({"inputs": [tensor("hi")], "outputs": [{"name": "nothing"}]}).encode(),
    ],
)
async def test_a_wrong_v2_body_is_400_in_kserves_shape(producer: Producer, body: bytes) -> None:
    response = await producer.http.post(INFER, content=body)
    assert response.status_code == 400, response.text
    assert isinstance(response.json()["error"], str)
    assert (response.json()["reason"], response.json()["retryable"]) == ("invalid-data", False)


@pytest.mark.parametrize("raw", [b"\x02\x00\x00\x00\xff\xfe", b"\x09\x00\x00\x00hi", b"\x02"])
async def test_a_wrong_binary_tensor_is_400(producer: Producer, raw: bytes) -> None:
    asked = {"name": "q", "datatype": "BYTES", "shape": [1]}
    asked["parameters"] = {"binary_data_size": len(raw)}
    body = json.dumps({"inputs": [asked]}).encode()
    headers = {"inference-header-content-length": str(len(body))}
    response = await producer.http.post(INFER, content=body + raw, headers=headers)
    assert response.status_code == 400


async def test_the_server_and_its_model_describe_themselves(producer: Producer) -> None:
    get = producer.http.get
    assert "binary_tensor_data" in (await get("/v2")).json()["extensions"]
    assert (await get("/v2/health/live")).json() == {"live": True}
    assert (await get("/v2/health/ready")).json() == {"ready": True}
    assert (await get(f"/v2/models/{MODEL}/ready")).json() == {"name": MODEL, "ready": True}
    described = (await get(f"/v2/models/{MODEL}")).json()
    assert described["inputs"][0]["datatype"] == "BYTES"
    assert described["outputs"][0]["name"] == "text_output"
    for path in ("/v2/models/other", "/v2/models/other/ready"):
        response = await get(path)
        assert response.status_code == 404
        assert isinstance(response.json()["error"], str)


# --- events


@pytest.mark.parametrize(
    ("path", "data", "key"),
    [
        (PREDICT, {"instances": ["hi"]}, "predictions"),
        (INFER, {"inputs": [tensor("hi")]}, "outputs"),
    ],
)
async def test_an_event_is_answered_by_v1_and_v2(
    producer: Producer, path: str, data: dict[str, Any], key: str
) -> None:
    binary = Reply.of(await producer.binary(data, path))
    encoded = base64.b64encode(json.dumps(data).encode()).decode()
    structured = Reply.of(await producer.structured({"data": data}, path))
    in_base64 = Reply.of(await producer.structured({"data_base64": encoded}, path))
    plain = (await producer.http.post(path, json=data)).json()
    for reply in (binary, structured, in_base64):
        assert reply.attributes["type"] == "relume.inference.response"
        assert reply.data == plain
        assert reply.data.keys() >= {key}


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        (PREDICT, {"instances": []}, "invalid-data"),
        (PREDICT, {"instances": ["answer too-long"]}, "context-too-long"),
        ("/v1/models/other:predict", {"instances": ["hi"]}, "unknown-model"),
        (INFER, {"inputs": []}, "invalid-data"),
        ("/v2/models/other/infer", {"inputs": [tensor("hi")]}, "unknown-model"),
    ],
)
async def test_an_event_that_v1_or_v2_refuse_is_an_error_event(
    producer: Producer, path: str, data: dict[str, Any], reason: str
) -> None:
    plain = await producer.binary(data, path)
    preferred = await producer.binary(data, path, headers=PREFER)
    assert (plain.status_code, preferred.status_code) == (400, 200)
    for reply in (Reply.of(plain), Reply.of(preferred)):
        assert (reply.data["reason"], reply.data["retryable"]) == (reason, False)
    if reason == "context-too-long":
        assert Reply.of(plain).data["error"]["message"] == TOO_LONG
