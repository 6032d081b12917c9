"""What becomes of a domain event, and what is refused."""

import json
from pathlib import Path

import pytest
from function import new
from function.settings import ConfigError

TICKET = {"title": "The invoice is wrong", "body": "I paid twice in May."}


async def test_a_ticket_becomes_a_chat_request(running) -> None:
    reply = await running().post(TICKET, subject="ticket-7", correlationid="c", partitionkey="p")
    assert (reply.status, reply.type) == (200, "com.example.ticket.prompted")
    assert reply.headers["ce-causationid"] == "1"
    assert reply.headers["ce-source"] == "/functions/prompt"
    copied = [reply.headers[f"ce-{name}"] for name in ("subject", "correlationid", "partitionkey")]
    assert copied == ["ticket-7", "c", "p"]
    assert reply.headers["content-type"] == "application/json"
    system, user = reply.data["messages"]
    assert system["role"] == "system"
    assert user["content"].startswith("Ticket: The invoice is wrong\nI paid twice in May.\n")
    assert (reply.data["max_tokens"], reply.data["temperature"]) == (160, 0)


async def test_a_repeated_delivery_has_the_same_id_and_another_event_another_one(running) -> None:
    function = running()
    ids = [
        (await function.post(TICKET, **attributes)).headers["ce-id"]
        for attributes in ({}, {}, {"id": "2"}, {"source": "/other"})
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"title": "x"}, "data: body is missing"),
        ({**TICKET, "channel": "fax"}, "data.channel: does not fit enum ['mail', 'web', 'phone']"),
        ({**TICKET, "secret": "hunter2"}, "data: has fields that the schema does not know"),
        ({**TICKET, "body": 3}, "data.body: does not fit type string"),
        ([], "the data must be a JSON object"),
        (b"{", "the data is not JSON"),
        (b"", "the data must be a JSON object"),
    ],
)
async def test_data_that_does_not_fit_is_an_error_event(running, data, told: str) -> None:
    reply = await running().post(data)
    assert reply.reason == "invalid-data"
    assert reply.data["error"]["message"] == told
    assert reply.data["retryable"] is False
    assert "hunter2" not in reply.body.decode()


async def test_data_is_never_read_as_a_template(running) -> None:
    ticket = {"title": "{{ 7 * 7 }}", "body": "{% for i in range(9) %}x{% endfor %}"}
    content = (await running().post(ticket)).data["messages"][1]["content"]
    assert content.startswith("Ticket: {{ 7 * 7 }}\n{% for i in range(9) %}x{% endfor %}\n")


async def test_own_events_and_error_events_are_not_answered(running) -> None:
    function = running()
    for attributes in ({"source": "/functions/prompt"}, {"type": "relume.function.error"}):
        reply = await function.post(TICKET, **attributes)
        assert (reply.status, reply.type, reply.body) == (200, None, b"")


def config(folder: Path, **changes: object) -> str:
    """A configuration folder; JSON is YAML."""
    values = {"type": "t", "schema": {"type": "object"}, "request": {"prompt": "{{ data.a }}"}}
    (folder / "prompt.yaml").write_text(json.dumps(values | changes))
    return str(folder)


async def test_expressions_keep_the_type_of_their_value(running, tmp_path: Path) -> None:
    request = {"max_tokens": {"$value": "data.n * 2"}, "prompt": "{{ event.id }}", "stop": ["a"]}
    reply = await running(CONFIG_DIR=config(tmp_path, request=request)).post({"n": 4})
    assert reply.data == {"max_tokens": 8, "prompt": "1", "stop": ["a"]}


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": "{{ data.missing }}"},
        {"n": {"$value": "data.missing"}},
        {"prompt": "{{ data.__class__.__mro__ }}"},
        {"prompt": "{{ 1 / data.zero }}"},
        {"prompt": "{{ data.update({'a': 2}) }}"},
        {"prompt": "{% for i in range(10000000) %}{% endfor %}"},
    ],
)
async def test_a_template_that_fails_is_an_error_event(running, tmp_path, request_) -> None:
    function = running(CONFIG_DIR=config(tmp_path, request=request_))
    reply = await function.post({"a": "hunter2", "zero": 0})
    assert reply.reason == "template-failed"
    assert "hunter2" not in reply.body.decode()


async def test_a_request_that_is_too_long_is_an_error_event(running, tmp_path: Path) -> None:
    reply = await running(CONFIG_DIR=config(tmp_path, max_chars=10)).post({"a": "x" * 11})
    assert reply.reason == "prompt-too-long"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"type": None}, "type is missing"),
        ({"type": 3}, "type must be of type str"),
        ({"typo": 3}, "unknown field typo"),
        ({"schema": "absent.json"}, "No such file"),
        ({"schema": {"type": "objet"}}, "schema: "),
        ({"request": {"messages": [{"content": "{{ a"}]}}, "request.messages[0].content: "),
        ({"request": {"n": {"$value": "a +"}}}, "request.n: "),
    ],
)
def test_a_wrong_configuration_ends_the_start(tmp_path: Path, changes, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        new().start({"CONFIG_DIR": config(tmp_path, **changes)})
    assert told in str(caught.value)
    assert str(tmp_path) in str(caught.value)
