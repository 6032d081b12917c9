"""What a predictor answers to events: the attributes of replies, and the table of statuses."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from event_client import EVENT, Producer, Reply, chat_data
from stub_vllm import MODEL, TOO_LONG, Stub

from relume.runtimes.failures import MESSAGE_CHARACTERS, refusal
from relume.runtimes.phases import PROCESS
from relume.runtimes.replies import source_of_service

PREFER = {"prefer": "reply"}
COPIED = {
    "subject": "order/7 ü",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "rojo=00f067aa0ba902b7",
    "partitionkey": "p-1",
    "correlationid": "c-1",
}


async def test_a_reply_says_whose_answer_it_is_and_to_what(producer: Producer) -> None:
    response = await producer.binary(chat_data())
    reply = Reply.of(response).attributes
    assert reply["specversion"] == "1.0"
    assert reply["type"] == "relume.inference.response"
    assert reply["source"] == "/namespaces/default/inferenceservices/predictor"
    assert reply["causationid"] == EVENT["id"]
    assert reply["datacontenttype"] == "application/json"
    assert (reply["prompttokens"], reply["completiontokens"]) == ("5", "9")
    assert reply["time"].endswith("Z")
    assert response.headers["content-length"] == str(len(response.content))


async def test_what_correlates_is_copied_in_both_modes(producer: Producer) -> None:
    headers_safe = {**COPIED, "subject": "order/7%20%C3%BC"}
    binary = Reply.of(await producer.binary(chat_data(), **headers_safe)).attributes
    structured = Reply.of(await producer.structured({**COPIED, "data": chat_data()})).attributes
    for reply in (binary, structured):
        assert {name: reply[name] for name in COPIED} == COPIED
        assert reply["replyid"] == "c-1"


async def test_what_the_request_lacks_the_reply_lacks(producer: Producer) -> None:
    reply = Reply.of(await producer.structured({"data": chat_data(), "comexampleown": "x"}))
    assert not reply.attributes.keys() & {*COPIED, "replyid", "comexampleown", "queuems"}


async def test_usage_is_counted_with_integers(producer: Producer) -> None:
    reply = Reply.of(await producer.structured({"data": chat_data()})).attributes
    assert (reply["prompttokens"], reply["completiontokens"]) == (5, 9)


async def test_usage_that_no_attribute_can_hold_is_left_out(producer: Producer) -> None:
    reply = Reply.of(await producer.binary(chat_data("answer huge-usage")))
    assert not reply.attributes.keys() & {"prompttokens", "completiontokens"}
    assert reply.data["usage"]["prompt_tokens"] == 2**40


async def test_a_redelivery_gives_the_same_id_and_another_event_another(
    producer: Producer,
) -> None:
    first = Reply.of(await producer.binary(chat_data()))
    again = Reply.of(await producer.structured({"data": chat_data()}))
    failed = Reply.of(await producer.binary(b"?"))
    assert first.attributes["id"] == again.attributes["id"] == failed.attributes["id"]
    assert first.attributes["id"] == hashlib.sha256(b"/a/b\0e-1").hexdigest()[:32]
    others = [
        Reply.of(await producer.binary(chat_data(), id="e-2")).attributes["id"],
        Reply.of(await producer.binary(chat_data(), source="/a/b/e")).attributes["id"],
    ]
    assert len({first.attributes["id"], *others}) == 3


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"relume-queue-ms": "12", "relume-cold-start-ms": "2300"}, ("12", "2300")),
        ({"relume-queue-ms": "0"}, ("0", None)),
        ({}, (None, None)),
        ({"relume-queue-ms": "9" * 5000}, ("2147483647", None)),
        ({"relume-queue-ms": "-1", "relume-cold-start-ms": "1e3"}, (None, None)),
    ],
)
async def test_the_activators_timings_ride_on_the_reply(
    producer: Producer, sent: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    for data in (chat_data(), b"not JSON"):
        reply = Reply.of(await producer.binary(data, headers=sent)).attributes
        assert (reply.get("queuems"), reply.get("coldstartms")) == expected


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        (
            {"INFERENCE_SERVICE_NAME": "sum", "RELUME_NAMESPACE": "ns", "K_SERVICE": "sum-p"},
            "/namespaces/ns/inferenceservices/sum",
        ),
        ({"K_SERVICE": "sum"}, "/namespaces/default/inferenceservices/sum"),
        ({}, "/namespaces/default/inferenceservices/predictor"),
    ],
)
def test_the_source_is_the_inference_service(environment: dict[str, str], source: str) -> None:
    assert source_of_service(environment) == source


def hopeless() -> Iterator[Any]:
    """Data that can never succeed: (data, more attributes, reason, status without Prefer)."""
    text = {"content-type": "text/plain"}
    json_latin = {"content-type": "application/json; charset=iso-2022-jp"}
    yield "no-json", b"{", {}, "invalid-json", 400
    yield "nan", b'{"messages": [NaN]}', {}, "invalid-json", 400
    yield "infinite", b'{"messages": [1e999]}', {}, "invalid-json", 400
    yield "surrogate", b'{"messages": ["\\ud800"]}', {}, "invalid-json", 400
    yield "deep", b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", {}, "invalid-json", 400
    yield "not-utf-8", b'{"prompt": "\xff"}', {}, "invalid-data", 400
    yield "text-not-utf-8", b"\xff", {"headers": text}, "invalid-data", 400
    yield "charset", b"{}", {"headers": json_latin}, "invalid-data", 400
    yield "no-data", b"", {}, "invalid-data", 400
    yield "no-text", b"", {"headers": text}, "invalid-data", 400
    yield "array", [chat_data()], {}, "invalid-data", 400
    yield "no-known-field", {"question": "?"}, {}, "invalid-data", 400
    yield "empty-messages", {"messages": []}, {}, "invalid-data", 400
    yield "empty-prompt", {"prompt": ""}, {}, "invalid-data", 400
    yield "null-messages", {"messages": None}, {}, "invalid-data", 400
    yield "image", b"\x89PNG", {"headers": {"content-type": "image/png"}}, "invalid-data", 400
    yield "unknown-model", chat_data(model="gpt-9"), {}, "unknown-model", 400
    yield "model-no-text", {"instances": [1], "model": {}}, {}, "invalid-data", 400
    yield "v1-unknown-model", {"instances": [1], "model": "a/b?c"}, {}, "unknown-model", 400
    yield "v1-nothing", {"instances": []}, {}, "invalid-data", 400
    yield "context", chat_data("answer too-long"), {}, "context-too-long", 400
    yield "refused-400", chat_data("answer 400"), {}, "invalid-data", 400
    yield "refused-413", chat_data("answer 413"), {}, "invalid-data", 413
    yield "refused-422", chat_data("answer 422"), {}, "invalid-data", 422
    yield "fastapi-422", chat_data("answer fastapi"), {}, "invalid-data", 422
    yield "refused-401", chat_data("answer 401"), {}, "unauthorized", 400
    yield "refused-501", chat_data("answer 501"), {}, "unsupported", 400
    yield "no-object", chat_data("answer text"), {}, "unsupported", 400
    yield "no-route", chat_data(), {"path": "/v1/nonsense"}, "unsupported", 400
    yield "no-post", chat_data(), {"path": "/health"}, "unsupported", 400
    yield "expired", chat_data(), {"expirytime": "2020-01-01T00:00:00Z"}, "expired", 400
    yield "no-time", chat_data(), {"expirytime": "tomorrow"}, "invalid-data", 400
    yield "no-zone", chat_data(), {"expirytime": "2020-01-01T00:00:00"}, "invalid-data", 400


@pytest.mark.parametrize(
    ("data", "more", "reason", "status"), [pytest.param(*row[1:], id=row[0]) for row in hopeless()]
)
async def test_what_can_never_succeed_is_an_error_event(
    producer: Producer, data: object, more: dict[str, Any], reason: str, status: int
) -> None:
    more = dict(more)
    headers = more.pop("headers", {})
    plain = await producer.binary(data, headers=headers, **more)
    preferred = await producer.binary(data, headers={**headers, **PREFER}, **more)
    assert (preferred.status_code, plain.status_code) == (200, status)
    for reply in (Reply.of(plain), Reply.of(preferred)):
        assert reply.attributes["type"] == "relume.inference.error"
        assert reply.attributes["causationid"] == EVENT["id"]
        assert (reply.data["reason"], reply.data["retryable"]) == (reason, False)
        assert reply.data["error"].keys() == {"message", "type", "param", "code"}
        assert reply.data["error"]["message"]
        assert reply.data["error"]["code"] == status


async def test_an_answer_that_a_broker_cannot_store_is_an_error_event_for_the_broker_alone(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relume.runtimes.middleware.MAX_REPLY_BYTES", 500)
    large = {"input": ["text"] * 100}
    plain = Reply.of(await producer.binary(large))
    assert plain.attributes["type"] == "relume.inference.response"
    assert len(plain.data["data"]) == 100
    for reply in (
        Reply.of(await producer.binary(large, headers=PREFER)),
        Reply.of(await producer.structured({"data": large}, headers=PREFER)),
    ):
        assert reply.attributes["type"] == "relume.inference.error"
        assert reply.attributes["causationid"] == EVENT["id"]
        assert (reply.data["reason"], reply.data["retryable"]) == ("reply-too-large", False)
        assert reply.data["error"]["code"] == 413


def test_an_error_that_repeats_the_whole_input_is_cut() -> None:
    body = {"error": {"message": "wrong: " + "x" * 1_000_000}}
    assert len(refusal(400, body, "/v1/completions").failure.message) == MESSAGE_CHARACTERS


@pytest.mark.parametrize("data", [chat_data("answer 401"), b"{"])
async def test_an_error_event_comes_in_the_mode_of_the_request(
    producer: Producer, data: object
) -> None:
    members = {"data": data} if isinstance(data, dict) else {"data_base64": "ew=="}
    members["datacontenttype"] = "application/json"
    for headers in ({}, PREFER):
        response = await producer.structured(members, headers=headers)
        assert response.headers["content-type"] == "application/cloudevents+json"
        assert Reply.of(response).attributes["type"] == "relume.inference.error"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("answer 429", 429, "overloaded"),
        ("answer 503", 503, "overloaded"),
        ("answer 500", 503, "engine-failed"),
        ("answer 502", 503, "engine-failed"),
        ("raise", 503, "engine-failed"),
    ],
)
@pytest.mark.parametrize("prefer", [{}, PREFER])
async def test_what_may_succeed_later_says_when_to_try_again(
    producer: Producer, text: str, status: int, reason: str, prefer: dict[str, str]
) -> None:
    response = await producer.binary(chat_data(text), headers=prefer)
    assert response.status_code == status
    assert int(response.headers["retry-after"]) >= 1
    assert not [name for name in response.headers if name.startswith("ce-")]
    assert (response.json()["reason"], response.json()["retryable"]) == (reason, True)


async def test_a_failure_of_the_engine_is_logged_with_its_cause(
    producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    await producer.binary(chat_data("raise"))
    assert "the engine broke" in caplog.text


async def test_an_event_that_expires_later_is_answered(producer: Producer) -> None:
    for moment in ("2999-01-01T00:00:00Z", "2999-01-01t00:00:00.5z", "2999-01-01T00:00:00+02:00"):
        response = await producer.binary(chat_data(), expirytime=moment)
        assert Reply.of(response).attributes["type"] == "relume.inference.response"


@pytest.mark.parametrize(
    ("value", "is_reply"),
    [("reply", True), ("respond-async, Reply", True), ("reply; x=1", True), ("replying", False)],
)
async def test_prefer_is_read_as_a_list_of_preferences(
    producer: Producer, value: str, is_reply: bool
) -> None:
    response = await producer.binary(b"{", headers={"prefer": value})
    assert response.status_code == (200 if is_reply else 400)


async def test_the_message_of_a_route_is_the_message_of_the_error(producer: Producer) -> None:
    long = Reply.of(await producer.binary(chat_data("answer too-long")))
    unknown = Reply.of(await producer.binary(chat_data(model="gpt-9")))
    assert long.data["error"]["message"] == TOO_LONG
    assert unknown.data["error"]["message"] == "The model `gpt-9` does not exist."


@pytest.mark.parametrize(
    ("data", "path"), [({"instances": ["answer 429"]}, "predict"), ({"instances": ["raise"]}, "-")]
)
async def test_a_kserve_route_that_is_overloaded_says_so_through_an_event(
    producer: Producer, data: dict[str, Any], path: str
) -> None:
    response = await producer.binary(data, headers=PREFER)
    assert response.status_code == (429 if path == "predict" else 503)
    assert response.headers["retry-after"]


async def test_the_first_answer_with_a_body_ends_the_last_phase(producer: Producer) -> None:
    await producer.binary(chat_data(), type="relume.inference.response")
    await producer.binary(chat_data("answer 429"))
    assert PROCESS.get("first_token") is None
    await producer.binary({"input": "text"})
    assert PROCESS.get("first_token") is not None


async def test_answers_after_the_first_leave_the_clock_alone(producer: Producer) -> None:
    PROCESS.record("first_token", 123.0)
    await producer.binary(chat_data())
    assert PROCESS.get("first_token") == 123.0


async def test_an_embedding_model_refuses_a_chat_for_good(process: None) -> None:
    producer = Producer(Stub(("embed",)))
    async with producer.http:
        reply = Reply.of(await producer.binary(chat_data(), headers=PREFER))
        answer = Reply.of(await producer.binary({"input": ["a", "bc"]}))
    assert (reply.data["reason"], reply.data["retryable"]) == ("unsupported", False)
    assert [row["embedding"] for row in answer.data["data"]] == [[1.0, 0.5], [2.0, 0.5]]
    assert answer.data["model"] == MODEL
    assert answer.attributes["prompttokens"] == "7"
    assert "completiontokens" not in answer.attributes
