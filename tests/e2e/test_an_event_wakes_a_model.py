"""An event, or a call, wakes a service at zero and is answered; then it sleeps again."""

import base64
import json

import openai
import pytest
from planes import Plane

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]


def test_an_event_at_zero_gets_one_response_event(plane: Plane) -> None:
    plane.until_zero("summarize")
    assert plane.service("summarize")["pids"] == []
    event_id = plane.post(
        "summarize",
        plane.chat("What is the capital of France?"),
        **{
            "ce-subject": "geography",
            "ce-correlationid": "c-1",
            "ce-traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
    )
    (answer,) = plane.answers_to(event_id)

    assert answer["type"] == "relume.inference.response"
    assert answer["source"] == "/namespaces/default/inferenceservices/summarize"
    assert answer["causationid"] == event_id
    assert answer["subject"] == "geography"
    assert answer["correlationid"] == answer["replyid"] == "c-1"
    assert answer["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736")
    assert int(answer["coldstartms"]) > 0
    assert int(answer["completiontokens"]) > 0
    assert "Paris" in answer["data"]["choices"][0]["message"]["content"]

    entry = plane.cold_start_of(event_id)
    assert entry["started"] == "template"
    phases = ("queue", "fork", "config", "weights", "engine", "warmup", "first_token")
    assert all(entry[phase] >= 0 for phase in phases)


def test_a_structured_event_is_answered_too(plane: Plane) -> None:
    data = json.dumps(plane.chat("Hello")).encode()
    event = {
        "specversion": "1.0",
        "id": "structured-1",
        "source": "/e2e",
        "type": "com.example.summarize.request",
        "datacontenttype": "application/json",
        "data_base64": base64.b64encode(data).decode(),
    }
    response = plane.client.post(
        f"{plane.broker}/default/summarize",
        content=json.dumps(event),
        headers={"content-type": "application/cloudevents+json; charset=UTF-8"},
    )
    assert response.status_code == 202
    (answer,) = plane.answers_to("structured-1")
    assert answer["type"] == "relume.inference.response"


def test_an_event_posted_to_the_predictor_itself_is_answered_in_its_own_mode(plane: Plane) -> None:
    url = f"{plane.http}/serving/default/summarize/"
    binary = {
        "ce-specversion": "1.0",
        "ce-id": "direct-1",
        "ce-source": "/e2e",
        "ce-type": "t",
        "content-type": "text/plain",
    }
    answer = plane.client.post(url, content=b"Hello", headers=binary)
    assert answer.status_code == 200
    assert answer.headers["ce-type"] == "relume.inference.response"

    structured = {"specversion": "1.0", "id": "direct-2", "source": "/e2e", "type": "t"}
    answer = plane.client.post(
        url,
        content=json.dumps({**structured, "data": plane.chat("Hello")}),
        headers={"content-type": "application/cloudevents+json"},
    )
    assert answer.headers["content-type"].startswith("application/cloudevents+json")
    assert answer.json()["causationid"] == "direct-2"


def test_twenty_events_in_a_second_at_zero_are_one_cold_start(plane: Plane) -> None:
    plane.until_zero("summarize")
    before = plane.cold_starts("summarize")
    ids = [plane.post("summarize", plane.chat(f"Say the number {n}.")) for n in range(20)]
    answers = plane.answers_to(*ids)
    assert {answer["type"] for answer in answers} == {"relume.inference.response"}
    assert plane.cold_starts("summarize") == before + 1
    assert [plane.attempts(event_id) for event_id in ids] == [1] * 20
    plane.until_zero("summarize")
    assert len(plane.answers(*ids)) == 20


def test_the_openai_client_lists_chats_streams_and_embeds_against_zero(plane: Plane) -> None:
    plane.until_zero("summarize")
    plane.until_zero("embed")
    client = openai.OpenAI(base_url=f"{plane.http}/openai/v1", api_key="unused", max_retries=0)
    assert {model.id for model in client.models.list()} == {"summarize", "embed"}

    question = [{"role": "user", "content": "What is the capital of France?"}]
    chunks = list(
        client.chat.completions.create(
            model="summarize", messages=question, temperature=0, max_tokens=12, stream=True
        )  # type: ignore[call-overload]
    )
    assert len(chunks) > 4
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    answer = client.chat.completions.create(
        model="summarize", messages=question, temperature=0, max_tokens=12
    )  # type: ignore[call-overload]
    assert "Paris" in answer.choices[0].message.content

    vector = client.embeddings.create(model="embed", input="Hello").data[0].embedding
    assert len(vector) == 384
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.embeddings.create(model="nobody", input="Hello")


def test_an_embedding_event_is_answered(plane: Plane) -> None:
    (answer,) = plane.answers_to(plane.post("embed", {"input": ["one", "two"]}))
    assert [len(item["embedding"]) for item in answer["data"]["data"]] == [384, 384]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{not json", "invalid-json"),
        ({"messages": []}, "invalid-data"),
        ({"messages": [{"role": "user", "content": "x"}], "model": "nobody"}, "unknown-model"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, "context-too-long"),
    ],
    ids=["not-json", "no-messages", "unknown-model", "too-long"],
)
def test_data_that_can_never_succeed_gets_one_error_event_and_no_retry(
    plane: Plane, data: object, reason: str
) -> None:
    event_id = plane.post("summarize", data)
    (answer,) = plane.answers_to(event_id)
    assert answer["type"] == "relume.inference.error"
    assert answer["data"]["reason"] == reason
    assert answer["data"]["retryable"] is False
    assert plane.attempts(event_id) == 1


def test_a_malformed_event_is_400_with_the_reason(plane: Plane) -> None:
    response = plane.client.post(
        f"{plane.broker}/default/summarize", headers={"ce-id": "1", "ce-type": "t"}, content=b"{}"
    )
    assert response.status_code == 400
    assert "specversion" in response.text
