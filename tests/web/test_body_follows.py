"""An answer whose body follows at once leaves in one write."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from relume.base.vocabulary import BODY_FOLLOWS
from relume.web.exchange import Exchange

HEAD = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n"


async def written(method: str, **more: Any) -> list[bytes]:
    """What is written for an answer of two bytes; `more` stands in its first message."""
    writes: list[bytes] = []
    protocol: Any = SimpleNamespace(
        expect_100_continue=False,
        access_log=False,
        server_state=SimpleNamespace(default_headers=[]),
        transport=SimpleNamespace(write=writes.append),
        flow=SimpleNamespace(write_paused=False),
        on_response_complete=lambda: None,
    )
    exchange = Exchange(protocol, {"method": method, "http_version": "1.1"}, keep_alive=True)
    start: Message = {"type": "http.response.start", "status": 202, **more}
    await exchange.send({**start, "headers": [(b"content-length", b"2")]})
    await exchange.send({"type": "http.response.body", "body": b"{}"})
    assert exchange.response_complete
    return writes


@pytest.mark.parametrize(("method", "sent"), [("POST", HEAD + b"{}"), ("HEAD", HEAD)])
async def test_head_and_body_leave_together(method: str, sent: bytes) -> None:
    assert await written(method, **{BODY_FOLLOWS: True}) == [sent]


async def test_a_head_waits_for_no_body_that_may_come_late() -> None:
    assert await written("POST") == [HEAD, b"{}"]
