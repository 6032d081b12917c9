"""Redacting and restoring events, with the mapping in a real key-value store."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from function import new
from function.func import Redact
from function.mapping import Placeholders
from function.settings import ConfigError
from function.store import Store
from nats_process import nats_server

CREATED = {"type": "com.example.ticket.created"}
SORTED = {"type": "com.example.ticket.sorted", "source": "/functions/extract"}
TICKET = {
    "title": "Paid twice",
    "body": "Priya paid twice from DE89 3704 0044 0532 0130 00. Answer to priya@example.com.",
    "name": "Priya Raman",
    "nested": [{"email": "other@example.net"}, 7, None, True],
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as address:
        yield address


async def test_nothing_personal_leaves_and_all_of_it_comes_back(running, url: str) -> None:
    function = running(NATS_URL=url)
    reply = await function.post(TICKET, **CREATED, correlationid="c1")
    assert reply.type == "com.example.ticket.redacted"
    assert reply.headers["ce-correlationid"] == "c1"
    told = reply.body.decode() + str(reply.headers)
    for value in ("Priya", "Raman", "DE89", "example.com", "example.net"):
        assert value not in told
    assert reply.data["body"] == "[NAME_1] paid twice from [IBAN_1]. Answer to [EMAIL_1]."
    assert reply.data["nested"][1:] == [7, None, True]

    answer = {"summary": "[NAME_2] ([EMAIL_1]) paid twice from [IBAN_1]; see [IBAN_9]."}
    restored = await running(NATS_URL=url).post(answer, **SORTED, correlationid="c1")
    assert restored.type == "com.example.ticket.done"
    assert restored.data == {
        "summary": "Priya Raman (priya@example.com) paid twice from "
        "DE89 3704 0044 0532 0130 00; see [IBAN_9]."
    }


async def test_a_repeated_delivery_gives_the_same_event(running, url: str) -> None:
    bodies = set()
    for _ in range(3):
        reply = await running(NATS_URL=url).post(TICKET, **CREATED, correlationid="c2")
        bodies.add((reply.headers["ce-id"], reply.body))
    assert len(bodies) == 1


async def test_an_event_without_correlation_gets_one(running, url: str) -> None:
    function = running(NATS_URL=url)
    first, again, other = [
        (await function.post({"a": "a@example.com"}, **CREATED, id=id_)).headers["ce-correlationid"]
        for id_ in ("x", "x", "y")
    ]
    assert first == again != other
    restored = await function.post({"a": "[EMAIL_1]"}, **SORTED, correlationid=first)
    assert restored.data == {"a": "a@example.com"}


async def test_events_of_one_correlation_share_a_mapping_also_at_once(running, url: str) -> None:
    mails = [f"m{i}@example.com" for i in range(8)]
    replies = await asyncio.gather(
        *(
            running(NATS_URL=url).post({"a": mail}, **CREATED, id=mail, correlationid="c3")
            for mail in mails
        )
    )
    given = [reply.data["a"] for reply in replies if reply.status == 200]
    assert len(given) == len(set(given)) == len(mails)
    for mail, name in zip(mails, given, strict=True):
        restored = await running(NATS_URL=url).post({"a": name}, **SORTED, correlationid="c3")
        assert restored.data == {"a": mail}


async def test_what_looks_like_a_placeholder_comes_back_as_it_was(running, url: str) -> None:
    function = running(NATS_URL=url)
    body = {"a": "write [EMAIL_1] to a@example.com"}
    clean = await function.post(body, **CREATED, correlationid="c4")
    assert clean.data == {"a": "write [TEXT_1] to [EMAIL_1]"}
    assert (await function.post(clean.data, **SORTED, correlationid="c4")).data == body


async def test_plain_text_is_redacted_too(running, url: str) -> None:
    function = running(NATS_URL=url)
    headers = {"ce-specversion": "1.0", "ce-id": "t", "ce-source": "/s", "ce-type": CREATED["type"]}
    reply = await function.send(headers | {"content-type": "text/plain"}, b"To a@example.com")
    assert (reply.headers["content-type"], reply.body) == ("text/plain", b"To [EMAIL_1]")


@pytest.mark.parametrize(
    ("data", "attributes", "reason"),
    [
        ({"a": "x"}, {"type": "com.example.odd"}, "unknown-type"),
        (b"\xff\xfe", CREATED, "invalid-data"),
        ({"a": ["x" * 10_001, {"b": "x" * 10_000}]}, CREATED, "text-too-long"),
        ({"a": "[EMAIL_1]"}, SORTED, "no-correlation"),
        ({"a": "[EMAIL_1]"}, {**SORTED, "correlationid": "never"}, "mapping-gone"),
    ],
)
async def test_what_cannot_be_done_is_an_error_event(
    running, url: str, data: object, attributes: dict[str, str], reason: str
) -> None:
    assert (await running(NATS_URL=url).post(data, **attributes)).reason == reason


async def test_without_the_store_the_broker_is_to_try_again(running) -> None:
    reply = await running(NATS_URL="nats://127.0.0.1:9").post(TICKET, **CREATED)
    assert (reply.status, reply.data["reason"]) == (503, "store-unavailable")
    assert reply.headers["retry-after"] == "2"
    assert "Priya" not in reply.body.decode()


async def test_data_without_placeholders_is_restored_without_the_store(running) -> None:
    reply = await running(NATS_URL="nats://127.0.0.1:9").post({"a": 1}, **SORTED)
    assert reply.data == {"a": 1}


async def test_a_restart_of_the_store_between_the_two_loses_nothing(running, tmp_path) -> None:
    with nats_server(tmp_path) as first:
        await running(NATS_URL=first).post({"a": "a@example.com"}, **CREATED, correlationid="c")
    with nats_server(tmp_path) as second:
        reply = await running(NATS_URL=second).post({"a": "[EMAIL_1]"}, **SORTED, correlationid="c")
    assert reply.data == {"a": "a@example.com"}


async def test_a_kill_at_any_await_of_the_store_leaves_what_can_be_repeated(
    running, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is delivered again, and leaves as if nothing had happened."""

    class Killed(BaseException):
        pass

    for number, name in enumerate(("get", "create")):
        for after in (False, True):
            correlation, real = f"k{number}{after}", getattr(Store, name)

            async def dies(self: Store, *args: object, after=after, real=real) -> object:
                if after:
                    await real(self, *args)
                raise Killed

            monkeypatch.setattr(Store, name, dies)
            with pytest.raises(Killed):
                await running(NATS_URL=url).post(TICKET, **CREATED, correlationid=correlation)
            monkeypatch.setattr(Store, name, real)
            reply = await running(NATS_URL=url).post(TICKET, **CREATED, correlationid=correlation)
            assert reply.data["name"].startswith("[NAME_")
            back = await running(NATS_URL=url).post(reply.data, **SORTED, correlationid=correlation)
            assert back.data == TICKET


async def test_nothing_personal_is_logged(running, url: str, caplog, monkeypatch) -> None:
    def fail(self: Placeholders, text: str, spans: object) -> str:
        raise RuntimeError(text)

    monkeypatch.setattr(Placeholders, "redact", fail)
    reply = await running(NATS_URL=url).post(TICKET, **CREATED)
    assert reply.reason == "internal"
    assert "RuntimeError" in caplog.text
    assert "Priya" not in caplog.text + reply.body.decode()


def config(folder: Path, **changes: object) -> dict[str, str]:
    (folder / "redact.yaml").write_text(json.dumps({"redact": {"a": "b"}} | changes))
    return {"CONFIG_DIR": str(folder), "NATS_URL": "nats://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"patterns": {"A": "("}}, "patterns.A"),
        ({"patterns": {"a": "x"}}, "capitals"),
        ({"redact": {"a": 1}}, "redact must map"),
        ({"keep_days": "7"}, "keep_days must be"),
    ],
)
def test_a_wrong_configuration_ends_the_start(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        new().start(config(tmp_path, **changes))


def test_without_a_store_the_start_ends(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NATS_URL"):
        Redact().start({})
