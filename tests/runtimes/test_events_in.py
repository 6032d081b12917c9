"""Events that are posted to a predictor: what is accepted, and which route answers what."""

import base64
import json
from typing import Any

import pytest
from event_client import EVENT, Producer, Reply, chat_data
from stub_vllm import MODEL, Stub

from relume.runtimes import middleware

CHAT = "/v1/chat/completions"
V2_DATA = {"inputs": [{"name": "q", "datatype": "BYTES", "shape": [1], "data": ["hi"]}]}


@pytest.mark.parametrize(
    ("data", "route"),
    [
        (chat_data(), CHAT),
        ({"prompt": "once"}, "/v1/completions"),
        ({"input": "once"}, "/v1/embeddings"),
        (V2_DATA, f"/v2/models/{MODEL}/infer"),
        ({"instances": ["hi"]}, f"/v1/models/{MODEL}:predict"),
    ],
    ids=["a chat", "a prompt", "an input to embed", "a V2 request", "a V1 request"],
)
async def test_data_posted_to_the_root_chooses_its_route(
    producer: Producer, data: dict[str, Any], route: str
) -> None:
    at_root = Reply.of(await producer.binary(data))
    at_route = Reply.of(await producer.binary(data, route))
    assert at_root.attributes["type"] == "relume.inference.response"
    assert at_root.data == at_route.data


async def test_an_event_posted_to_a_route_is_answered_by_that_route(
    producer: Producer, stub: Stub
) -> None:
    reply = Reply.of(await producer.binary(chat_data("hello"), CHAT))
    assert reply.data["choices"][0]["message"]["content"] == "HELLO"
    assert [asked.path for asked in stub.asked] == [CHAT]


async def test_text_becomes_one_user_message(producer: Producer, stub: Stub) -> None:
    text = {"content-type": "text/plain"}
    reply = Reply.of(await producer.binary("Füße".encode(), headers=text))
    assert reply.data["choices"][0]["message"]["content"] == "FÜSSE"
    assert stub.asked[0].body["messages"] == [{"role": "user", "content": "Füße"}]


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/completions", "prompt"), ("/v1/embeddings", "input")]
)
async def test_text_posted_to_a_route_becomes_what_that_route_takes(
    producer: Producer, stub: Stub, path: str, field: str
) -> None:
    await producer.binary(b"a text", path, headers={"content-type": "text/plain"})
    assert (stub.asked[0].path, stub.asked[0].body[field]) == (path, "a text")


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "utf-16"])
async def test_data_is_read_in_the_character_set_that_it_names(
    producer: Producer, stub: Stub, charset: str
) -> None:
    headers = {"content-type": f'text/plain; charset="{charset.upper()}"'}
    await producer.binary("Füße".encode(charset), headers=headers)
    headers = {"content-type": f"application/json; charset={charset}"}
    body = json.dumps(chat_data("Füße"), ensure_ascii=False).encode(charset)
    await producer.binary(body, headers=headers)
    assert [asked.body["messages"][0]["content"] for asked in stub.asked] == ["Füße", "Füße"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/cloudevents+json",
        "application/cloudevents+json; charset=UTF-8",
        'Application/CloudEvents+JSON ; charset="utf-8"',
    ],
)
async def test_a_structured_event_is_answered_with_a_structured_event(
    producer: Producer, stub: Stub, content_type: str
) -> None:
    response = await producer.structured({"data": chat_data()}, content_type=content_type)
    assert response.headers["content-type"] == "application/cloudevents+json"
    assert not any(name.startswith("ce-") for name in response.headers)
    reply = Reply.of(response)
    assert reply.attributes["datacontenttype"] == "application/json"
    assert reply.data["choices"][0]["message"]["content"] == "HI"


async def test_a_structured_event_may_carry_its_data_in_base64(
    producer: Producer, stub: Stub
) -> None:
    data = base64.b64encode(json.dumps(chat_data("hello")).encode()).decode()
    members = {"datacontenttype": "application/json", "data_base64": data}
    assert (await producer.structured(members)).status_code == 200
    assert stub.asked[0].body["messages"][0]["content"] == "hello"


async def test_a_structured_event_may_carry_text(producer: Producer, stub: Stub) -> None:
    await producer.structured({"datacontenttype": "text/plain", "data": "a text"})
    assert stub.asked[0].body["messages"][0]["content"] == "a text"


async def test_the_route_sees_no_part_of_the_envelope(producer: Producer, stub: Stub) -> None:
    headers = {"prefer": "reply", "authorization": "Bearer key", "x-request-id": "r-1"}
    await producer.binary(chat_data(), headers={**headers, "content-encoding": "identity"})
    seen = stub.asked[0].headers
    assert (seen["authorization"], seen["x-request-id"]) == ("Bearer key", "r-1")
    assert not [name for name in seen if name.startswith("ce-")]
    assert not seen.keys() & {"prefer", "content-encoding", "transfer-encoding", "expect"}
    assert seen["content-type"] == "application/json"


@pytest.mark.parametrize("data", [chat_data(), {"prompt": "once"}, {"input": "once"}])
async def test_a_model_that_is_not_named_is_the_one_that_is_served(
    producer: Producer, stub: Stub, data: dict[str, Any]
) -> None:
    await producer.binary(data)
    await producer.binary({**data, "model": None})
    assert [asked.body["model"] for asked in stub.asked] == [MODEL, MODEL]


async def test_a_stream_that_is_asked_for_is_answered_by_one_event(
    producer: Producer, stub: Stub
) -> None:
    data = chat_data("hello", stream=True, stream_options={"include_usage": True})
    reply = Reply.of(await producer.binary(data))
    assert reply.data["choices"][0]["message"]["content"] == "HELLO"
    assert stub.asked[0].body["stream"] is False
    assert "stream_options" not in stub.asked[0].body


async def test_sampling_parameters_reach_the_route_as_they_were_sent(
    producer: Producer, stub: Stub
) -> None:
    sent = {"temperature": 0.1, "seed": 2**53 + 1, "extra": {"ключ": "\U0001f600"}}
    await producer.binary(chat_data(**sent))
    assert stub.asked[0].body == chat_data(**sent, model=MODEL)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"ce-id": "1"}, b"{}"),
        ({f"ce-{k}": v for k, v in EVENT.items() if k != "id"}, b"{}"),
        ({f"ce-{k}": v for k, v in {**EVENT, "specversion": "9.9"}.items()}, b"{}"),
        ({f"ce-{k}": v for k, v in {**EVENT, "time": "yesterday"}.items()}, b"{}"),
        ({f"ce-{k}": v for k, v in {**EVENT, "id": "a%0Ab"}.items()}, b"{}"),
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents+json"}, b"\xff"),
        ({"content-type": "application/cloudevents+json"}, b'{"id": "1"}'),
        ({"content-type": "application/cloudevents+json; charset=klingon"}, b"{}"),
        ({"content-type": "application/cloudevents+xml"}, b"<event/>"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
        ({"content-type": "application/json"}, b'{"messages": []}'),
        ({}, b""),
    ],
    ids=[
        "an id and nothing else",
        "no id",
        "an unknown specversion",
        "a time that is no time",
        "a control character",
        "JSON that is cut short",
        "bytes that are no UTF-8",
        "a structured event with an id and nothing else",
        "an unknown character set",
        "the XML format",
        "an empty batch",
        "plain JSON on the root",
        "nothing at all on the root",
    ],
)
@pytest.mark.parametrize("prefer", [{}, {"prefer": "reply"}])
async def test_a_malformed_event_is_400_with_a_reason(
    producer: Producer, headers: dict[str, str], body: bytes, prefer: dict[str, str]
) -> None:
    response = await producer.http.post("/", content=body, headers={**headers, **prefer})
    assert response.status_code == 400
    answer = response.json()
    assert (answer["reason"], answer["retryable"]) == ("invalid-event", False)
    assert answer["error"]["message"]
    assert answer["error"]["code"] == 400


async def test_a_batch_is_refused_by_name(producer: Producer, stub: Stub) -> None:
    batch = json.dumps([{**EVENT, "data": chat_data()}])
    headers = {"content-type": "application/cloudevents-batch+json"}
    response = await producer.http.post("/", content=batch, headers=headers)
    assert response.status_code == 400
    assert "batched mode is not accepted" in response.json()["error"]["message"]
    assert stub.asked == []


@pytest.mark.parametrize("path", [f"/v1/models/{MODEL}:predict", f"/v2/models/{MODEL}/infer"])
async def test_a_malformed_event_on_a_kserve_route_is_told_in_kserves_shape(
    producer: Producer, path: str
) -> None:
    response = await producer.http.post(path, content=b"{}", headers={"ce-id": "1"})
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)
    assert response.json()["reason"] == "invalid-event"


async def test_an_event_that_is_too_large_is_413(
    producer: Producer, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "MAX_EVENT_BYTES", 1000)
    fits = await producer.binary(chat_data("x" * 900))
    too_large = await producer.binary(chat_data("x" * 1000))
    assert (fits.status_code, too_large.status_code) == (200, 413)
    assert too_large.json()["reason"] == "too-large"
    assert len(stub.asked) == 1


@pytest.mark.parametrize("kind", ["response", "error", "chunk"])
@pytest.mark.parametrize("prefer", [{}, {"prefer": "reply"}])
async def test_our_own_replies_are_ignored_with_an_empty_200_and_counted(
    producer: Producer, stub: Stub, kind: str, prefer: dict[str, str]
) -> None:
    own = f"relume.inference.{kind}"
    binary = await producer.binary(chat_data(), headers=prefer, type=own)
    structured = await producer.structured({"type": own, "data": {}}, headers=prefer)
    for response in (binary, structured):
        assert (response.status_code, response.content) == (200, b"")
    assert stub.asked == []
    assert stub.middleware.ignored == 2
