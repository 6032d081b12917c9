"""KServe's V2 over vLLM's routes: tensors in JSON and binary, refusals; events on V1 and V2."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from event_client import Producer, Reply, client, tensor
from kserve.protocol.infer_type import InferInput, InferRequest, InferResponse, RequestedOutput
from stub_vllm import MODEL, TOO_LONG, Stub

PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
PREFER = {"prefer": "reply"}


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


VERSIONED = f"/v2/models/{MODEL}/versions"


async def test_a_version_in_the_path_is_the_one_that_is_served(producer: Producer) -> None:
    body = {"inputs": [tensor("hi")]}
    answer = (await producer.http.post(f"{VERSIONED}/1/infer", json=body)).json()
    assert (answer["model_name"], answer["model_version"]) == (MODEL, "1")
    assert answer["outputs"][0]["data"] == ["HI"]
    assert (await producer.http.get(f"{VERSIONED}/1/ready")).json()["ready"] is True
    described = (await producer.http.get(f"{VERSIONED}/1")).json()
    assert (described["name"], described["versions"]) == (MODEL, ["1"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{VERSIONED}/2"),
        ("GET", f"{VERSIONED}/2/ready"),
        ("POST", f"{VERSIONED}/2/infer"),
        ("POST", f"{VERSIONED}/1/predict"),
        ("GET", f"{VERSIONED}"),
        ("GET", "/v2/models/other/versions/1"),
        ("POST", "/v2/models/other/versions/1/infer"),
        ("POST", "/v2/repository/models/other/load"),
        ("POST", "/v2/repository/models/other/unload"),
    ],
)
async def test_another_version_or_model_is_404(
    producer: Producer, stub: Stub, method: str, path: str
) -> None:
    response = await producer.http.request(method, path, json={"inputs": [tensor("hi")]})
    assert response.status_code in (404, 405)
    assert stub.asked == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/models"),
        ("GET", f"/v2/models/{MODEL}"),
        ("GET", f"/v2/models/{MODEL}/ready"),
        ("POST", INFER),
        ("POST", f"{VERSIONED}/1/infer"),
        ("POST", "/v2/repository/index"),
        ("GET", f"/v1/models/{MODEL}"),
        ("POST", PREDICT),
    ],
)
async def test_a_slash_at_the_end_is_redirected(producer: Producer, method: str, path: str) -> None:
    response = await producer.http.request(method, f"{path}/", json={})
    assert response.status_code == 307
    assert response.headers["location"] == f"http://stub{path}"


async def test_a_name_may_have_slashes_inside(producer: Producer, stub: Stub) -> None:
    stub.app.state.relume_model = "org/model"
    for path in ("/v2/models/org/model/ready", "/v2/models/org%2Fmodel/versions/1/ready"):
        assert (await producer.http.get(path)).json() == {"name": "org/model", "ready": True}


async def test_the_models_are_listed_and_so_is_what_is_loaded(producer: Producer) -> None:
    assert (await producer.http.get("/v2/models")).json() == {"models": [MODEL]}
    for body in (b"", b"{}", b'{"ready": true}'):
        index = (await producer.http.post("/v2/repository/index", content=body)).json()
        assert index == [{"name": MODEL, "version": "1", "state": "READY", "reason": ""}]
    assert "model_repository" in (await producer.http.get("/v2")).json()["extensions"]


async def test_a_model_is_found_by_each_of_its_names(producer: Producer, stub: Stub) -> None:
    stub.app.state.relume_further_names = ("other",)
    assert (await producer.http.get("/v2/models")).json() == {"models": [MODEL, "other"]}
    for name, status in ((MODEL, 200), ("other", 200), ("third", 404)):
        assert (await producer.http.get(f"/v2/models/{name}/ready")).status_code == status
        assert (await producer.http.get(f"/v1/models/{name}")).status_code == status


async def test_a_served_model_is_loaded_and_stays_so(producer: Producer) -> None:
    post = producer.http.post
    loaded = await post(f"/v2/repository/models/{MODEL}/load", json={})
    assert (loaded.status_code, loaded.json()) == (200, {"name": MODEL, "load": True})
    refused = await post(f"/v2/repository/models/{MODEL}/unload")
    assert (refused.status_code, refused.json()["reason"]) == (501, "unsupported")
    assert (await producer.http.get(f"/v2/models/{MODEL}/ready")).status_code == 200


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("sized", [True, False])
async def test_infer_takes_json_in_any_encoding_of_unicode(
    producer: Producer, encoding: str, sized: bool
) -> None:
    raw = b"\x03\x00\x00\x00abc"
    binary = {"name": "q", "datatype": "BYTES", "shape": [1]}
    binary["parameters"] = {"binary_data_size": len(raw)}
    inputs = [binary] if sized else [tensor("abc")]
    head = json.dumps({"inputs": inputs}).encode(encoding)
    headers = {"inference-header-content-length": str(len(head))} if sized else {}
    body = head + raw if sized else head
    response = await producer.http.post(INFER, content=body, headers=headers)
    assert response.json()["outputs"][0]["data"] == ["ABC"]


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
