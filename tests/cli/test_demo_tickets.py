"""What `relume demo tickets` builds on; `make demo-tickets` runs it with the real model."""

import base64
import hashlib
import hmac
import json
import shutil
from pathlib import Path

import httpx
import pytest

from relume.cli.errors import DemoFailed
from relume.cli.machine.demo_plane import samples
from relume.cli.machine.tickets import (
    BROKER,
    FUNCTIONS,
    LAST_TRIGGER,
    MODEL_SERVICE,
    MOST_TICKETS,
    pipeline,
)
from relume.cli.machine.webhook import Webhook
from relume.cli.main import run
from relume.config.config_objects import by_key, variables_of
from tests.ports import own_port

TICKETS = samples() / "tickets"
SECRET = "cmVsdW1lLXRpY2tldHMtc2FtcGxlLWtleS0wMDE="


def test_the_pipeline_is_the_sample_with_its_functions_and_another_webhook() -> None:
    plan = pipeline(TICKETS, "http://127.0.0.1:1/tickets")
    assert [service.name for service in plan.services] == [MODEL_SERVICE]
    assert [function.name for function in plan.functions] == list(FUNCTIONS)
    assert BROKER in {broker.name for broker in plan.brokers}
    assert LAST_TRIGGER in {trigger.name for trigger in plan.triggers}
    (webhook_out,) = (f for f in plan.functions if f.name == "webhook-out")
    variables = variables_of(webhook_out, by_key(plan.objects))
    assert variables["WEBHOOK_URL"] == "http://127.0.0.1:1/tickets"
    assert variables["WEBHOOK_ALLOW_PRIVATE"] == "true"


def test_there_are_as_many_tickets_as_may_be_asked_for() -> None:
    assert len((TICKETS / "tickets.jsonl").read_text().splitlines()) == MOST_TICKETS


def test_where_the_functions_are_not_the_demo_says_so(tmp_path: Path) -> None:
    """The installed package has the samples and no functions."""
    folder = tmp_path / "relume" / "config" / "samples" / "tickets"
    shutil.copytree(TICKETS, folder)
    with pytest.raises(DemoFailed, match=r"functions/redact is not there.*clone of Relume"):
        pipeline(folder, "http://127.0.0.1:1/tickets")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--tickets", "5"], "--tickets belongs to another demo: write relume demo tickets"),
        (["tickets", "--tickets", "1"], "1 is not in the range 2<=x<=100"),
        (["ticket"], "'ticket' is not 'tickets'"),
    ],
    ids=["without the story", "too few", "another story"],
)
def test_wrong_options_are_refused(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", *argv]) == 2
    assert words in capsys.readouterr().err


def message(id_: str, data: object) -> tuple[dict[str, str], bytes]:
    """What webhook-out posts: a signed body."""
    event = {"id": id_, "subject": f"ticket-{id_}"}
    body = json.dumps({"type": "t", "timestamp": "now", "data": data, "event": event}).encode()
    digest = hmac.digest(base64.b64decode(SECRET), f"{id_}.1.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": id_, "webhook-timestamp": "1", "webhook-signature": signature}, body


async def test_the_webhook_goes_away_and_comes_back_with_what_it_had(tmp_path: Path) -> None:
    sorted_, error = {"category": "account", "urgency": "low"}, {"reason": "invalid-data"}
    webhook = Webhook(TICKETS / "tickets.py", tmp_path / "outcomes.jsonl", own_port())
    async with webhook, httpx.AsyncClient(trust_env=False) as client:

        async def post(id_: str, data: object, **changed: str) -> int:
            headers, body = message(id_, data)
            answer = await client.post(webhook.url, headers=headers | changed, content=body)
            return answer.status_code

        assert webhook.outcomes() == []
        assert await post("1", sorted_) == 204
        assert await post("1", sorted_) == 204
        assert await post("2", sorted_, **{"webhook-signature": "v1,AAAA"}) == 401
        await webhook.closes()
        with pytest.raises(httpx.ConnectError):
            await post("2", error)
        await webhook.opens()
        assert await post("2", error) == 204
        assert await post("1", sorted_) == 204
        assert [(o.subject, o.words) for o in webhook.outcomes()] == [
            ("ticket-1", "account, low"),
            ("ticket-2", "error: invalid-data"),
        ]


def test_a_line_that_is_half_written_is_read_later(tmp_path: Path) -> None:
    received = tmp_path / "outcomes.jsonl"
    _, body = message("1", {})
    received.write_bytes(body + b"\n" + body[:20])
    webhook = Webhook(TICKETS / "tickets.py", received, 1)
    assert [outcome.id for outcome in webhook.outcomes()] == ["1"]
