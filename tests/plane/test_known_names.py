"""A name of somebody else that points to this machine shows nothing of what runs here."""

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from relume.plane.known_names import KnownNames


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("shown")(scope, receive, send)


async def status(path: str, host: str, *origins: str) -> int:
    transport = httpx.ASGITransport(KnownNames(everything, origins))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        answer = await http.get(path, headers={"Host": host})
    if answer.status_code == 403:
        assert answer.json()["reason"] == "unknown-name"
        assert "--allowed-origin" in answer.json()["error"]
    return answer.status_code


@pytest.mark.parametrize("path", ["/relume/status", "/relume/events", "/v1/jobs", "/v1/jobs/job_a"])
@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost:8080", 200),
        ("[::1]:8080", 200),
        ("10.0.0.7", 200),  # no name, so nobody's DNS can point it elsewhere
        ("rebound.example:8080", 403),
        ("localhost.rebound.example", 403),
        ("127.0.0.1.rebound.example", 403),
        ("[", 403),
    ],
)
async def test_what_runs_here_is_shown_under_names_of_this_machine(
    path: str, host: str, answered: int
) -> None:
    assert await status(path, host) == answered


async def test_a_host_of_an_allowed_origin_is_known() -> None:
    allowed = "https://relume.example"
    assert await status("/relume/status", "relume.example", allowed) == 200
    assert await status("/relume/status", "other.example", allowed) == 403
    assert await status("/relume/status", "other.example", "*") == 200


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/openai/v1/models", "/serving/a/b/v1/jobs"]
)
async def test_services_answer_to_every_name(path: str) -> None:
    assert await status(path, "summarize.default.example.com") == 200
