"""A2A clients and events, with the tasks in a real key-value store."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.helpers import new_text_message
from a2a.types.a2a_pb2 import GetTaskRequest, Role, SendMessageRequest, TaskState
from a2a.utils.errors import TaskNotFoundError
from func_python.http import ASGIApplication
from function import new
from function.sink import SinkError
from nats_process import nats_server

URL = "http://bridge/"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as address:
        yield address


class Bridge:
    """A bridge, the events that it posted, and a client over HTTP in process."""

    def __init__(self, url: str, **cfg: str) -> None:
        self.function = new()
        values = {"NATS_URL": url, "K_SINK": "http://sink/", "BRIDGE_WAIT_S": "0"}
        self.function.start(values | cfg)
        self.posted: list[Any] = []
        self.answers: list[tuple[str, Any]] = []
        self.function._sink.post = self._post
        transport = httpx.ASGITransport(ASGIApplication(self.function))
        self.http = httpx.AsyncClient(transport=transport, base_url=URL)

    async def _post(self, event: Any) -> None:
        self.posted.append(event)
        if self.answers:
            await self.answer(event, *self.answers.pop(0))

    async def answer(self, event: Any, type_: str, data: Any) -> httpx.Response:
        """The event that answers `event`, as a Trigger delivers it."""
        headers = {"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/model", "ce-type": type_}
        headers["ce-correlationid"] = event.get_attributes()["correlationid"]
        headers["content-type"] = "application/json"
        return await self.http.post("/", headers=headers, content=json.dumps(data))

    async def call(self, method: str, params: Any) -> Any:
        told = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        response = await self.http.post("/", json=told)
        assert response.status_code == 200
        assert (response.json()["jsonrpc"], response.json()["id"]) == ("2.0", 7)
        return response.json()


@pytest.fixture
async def bridge(url: str) -> AsyncIterator[Bridge]:
    made = Bridge(url)
    yield made
    await made.http.aclose()


CHAT = {"choices": [{"message": {"role": "assistant", "content": "Four."}}]}


async def test_the_official_client_gets_an_answer(bridge: Bridge) -> None:
    """a2a-sdk: it reads the card, sends a message, and gets the task until it is completed."""
    card = await A2ACardResolver(bridge.http, URL).get_agent_card()
    assert card.supported_interfaces[0].url == URL
    config = ClientConfig(httpx_client=bridge.http, streaming=False, polling=True)
    client = ClientFactory(config).create(card)
    message = new_text_message("What is two and two?", role=Role.ROLE_USER)
    sent = [each async for each in client.send_message(SendMessageRequest(message=message))]
    task = sent[-1].task
    assert task.status.state == TaskState.TASK_STATE_SUBMITTED

    (event,) = bridge.posted
    assert json.loads(event.get_data())["messages"] == [
        {"role": "user", "content": "What is two and two?"}
    ]
    await bridge.answer(event, "relume.inference.response", CHAT)
    done = await client.get_task(GetTaskRequest(id=task.id))
    assert done.status.state == TaskState.TASK_STATE_COMPLETED
    assert done.artifacts[0].parts[0].text == "Four."
    with pytest.raises(TaskNotFoundError):
        await client.get_task(GetTaskRequest(id="00000000-0000-0000-0000-000000000000"))


def message(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    told = {"messageId": "m", "role": "ROLE_USER", "parts": list(parts)}
    return {"message": told | fields}


async def test_a_client_of_version_0_3_is_understood(bridge: Bridge) -> None:
    sent = await bridge.call("message/send", message({"kind": "text", "text": "hi"}))
    task = sent["result"]
    assert (task["kind"], task["status"]["state"]) == ("task", "submitted")
    await bridge.answer(bridge.posted[0], "relume.inference.response", CHAT)
    done = (await bridge.call("tasks/get", {"id": task["id"]}))["result"]
    assert done["status"]["state"] == "completed"
    assert done["artifacts"][0]["parts"] == [{"kind": "text", "text": "Four."}]


async def test_an_answer_that_is_quick_comes_with_the_first_call(url: str) -> None:
    bridge = Bridge(url, BRIDGE_WAIT_S="20")
    bridge.answers = [("com.example.done", {"n": 1})]
    task = (await bridge.call("SendMessage", message({"data": {"order": 7}})))["result"]["task"]
    assert json.loads(bridge.posted[0].get_data()) == {"order": 7}
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task["artifacts"][0]["parts"] == [{"data": {"n": 1}}]


async def test_a_client_may_ask_not_to_wait(url: str) -> None:
    bridge = Bridge(url, BRIDGE_WAIT_S="60")
    for method, configuration in (
        ("SendMessage", {"returnImmediately": True}),
        ("message/send", {"blocking": False}),
    ):
        params = message({"text": "x"}) | {"configuration": configuration}
        async with asyncio.timeout(10):
            await bridge.call(method, params)


@pytest.mark.parametrize("type_", ["relume.inference.error", "relume.function.error"])
async def test_an_error_event_fails_the_task(bridge: Bridge, type_: str) -> None:
    sent = await bridge.call("SendMessage", message({"text": "x"}, contextId="c"))
    told = {"error": {"message": "too long"}, "reason": "context-too-long", "retryable": False}
    await bridge.answer(bridge.posted[0], type_, told)
    task = (await bridge.call("GetTask", {"id": sent["result"]["task"]["id"]}))["result"]
    assert (task["contextId"], task["status"]["state"]) == ("c", "TASK_STATE_FAILED")
    assert task["status"]["message"]["parts"] == [{"text": "context-too-long: too long"}]


async def test_the_first_answer_of_a_task_holds_also_after_a_restart(url: str) -> None:
    first = Bridge(url)
    sent = await first.call("SendMessage", message({"text": "x"}))
    second = Bridge(url)
    for number in (1, 2):
        await second.answer(first.posted[0], "com.example.done", {"n": number})
    task = (await second.call("GetTask", {"id": sent["result"]["task"]["id"]}))["result"]
    assert task["artifacts"][0]["parts"] == [{"data": {"n": 1}}]


async def test_an_answer_that_is_too_large_fails_the_task(bridge: Bridge) -> None:
    sent = await bridge.call("SendMessage", message({"text": "x"}))
    response = await bridge.answer(bridge.posted[0], "com.example.done", "x" * 600_000)
    assert response.status_code == 200
    task = (await bridge.call("GetTask", {"id": sent["result"]["task"]["id"]}))["result"]
    assert task["status"]["message"]["parts"][0]["text"].startswith("answer-too-large")


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("GetTask", {}, -32001),
        ("GetTask", {"id": "x.*"}, -32001),
        ("CancelTask", {"id": ["a"]}, -32001),
        ("SendStreamingMessage", {}, -32004),
        ("tasks/resubscribe", {}, -32004),
        ("CreateTaskPushNotificationConfig", {}, -32003),
        ("ListTasks", {}, -32601),
        ("SendMessage", {}, -32602),
        ("SendMessage", [], -32602),
        ("SendMessage", message(), -32602),
        ("SendMessage", message({"raw": "AA=="}), -32005),
        ("SendMessage", message({"text": "x"}, taskId="t"), -32004),
        (7, {}, -32600),
    ],
)
async def test_calls_that_cannot_be_answered(bridge: Bridge, method, params, code: int) -> None:
    response = await bridge.http.post(
        "/", json={"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (200, code)
    assert bridge.posted == []


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", -32700), (b"", -32700), (b"[]", -32600), (b"{}", -32600), (b"[" * 100_000, -32700)],
)
async def test_what_is_no_call(bridge: Bridge, body: bytes, code: int) -> None:
    response = await bridge.http.post("/", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (200, code)


async def test_a_task_cannot_be_cancelled(bridge: Bridge) -> None:
    sent = await bridge.call("SendMessage", message({"text": "x"}))
    told = await bridge.call("CancelTask", {"id": sent["result"]["task"]["id"]})
    assert told["error"]["code"] == -32002


@pytest.mark.parametrize("correlation", ["", "own", "a2a.00000000-0000-0000-0000-000000000000"])
async def test_events_of_others_are_settled_without_an_answer(bridge, correlation: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "t"}
    if correlation:
        headers["ce-correlationid"] = correlation
    response = await bridge.http.post("/", headers=headers, content=b"{")
    assert (response.status_code, response.content) == (200, b"")


async def test_what_is_wrong_with_the_request_itself(bridge: Bridge) -> None:
    assert (await bridge.http.get("/")).status_code == 405
    assert (await bridge.http.post("/", content=b"x" * 600_000)).status_code == 413
    batch = {"content-type": "application/cloudevents-batch+json"}
    assert (await bridge.http.post("/", headers=batch, content=b"[]")).status_code == 400
    no_id = {"ce-specversion": "1.0", "ce-type": "t"}
    assert (await bridge.http.post("/", headers=no_id, content=b"")).status_code == 400


async def test_without_the_store_or_the_sink_the_caller_is_to_try_again(url: str) -> None:
    away = Bridge("nats://127.0.0.1:9")
    told = await away.call("SendMessage", message({"text": "x"}))
    assert told["error"]["code"] == -32603
    assert "try again" in told["error"]["message"]
    answer = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "t"}
    answer["ce-correlationid"] = "a2a.00000000-0000-0000-0000-000000000000"
    response = await away.http.post("/", headers=answer, content=b"{}")
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")

    bridge = Bridge(url)

    async def fails(event: object) -> None:
        raise SinkError("K_SINK answered 503")

    bridge.function._sink.post = fails
    assert (await bridge.call("SendMessage", message({"text": "x"})))["error"]["code"] == -32603


@pytest.mark.parametrize("missing", ["NATS_URL", "K_SINK"])
def test_a_missing_variable_ends_the_start(missing: str) -> None:
    cfg = {"NATS_URL": "nats://x", "K_SINK": "http://x/"} | {missing: ""}
    with pytest.raises(ValueError, match=missing):
        new().start(cfg)
