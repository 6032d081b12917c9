"""A redirect of a predictor leads to where the client can go: below the prefix that it asked."""

import pytest
from aiohttp import web

from .conftest import Staging

HOST = "plane.test:8080"


async def redirect(request: web.Request) -> web.StreamResponse:
    """Redirect to `?to=`, with HOST as the Host that the request came with."""
    to = request.query["to"].replace("HOST", request.headers["host"])
    return web.Response(status=307, headers={"location": to, "content-location": to})


@pytest.mark.parametrize(
    ("path", "to", "location"),
    [
        (
            "/openai/v1/completions/?model=summarize&to=http://HOST/v1/completions",
            None,
            f"http://{HOST}/openai/v1/completions",
        ),
        (
            "/serving/default/summarize/v1/completions/?to=http://HOST/v1/completions?x=1",
            None,
            f"http://{HOST}/serving/default/summarize/v1/completions?x=1",
        ),
        (
            "/serving/default/summarize?to=/docs",
            None,
            "/serving/default/summarize/docs",
        ),
        (
            "/v1/completions/?to=http://HOST/v1/completions",
            "summarize.default.example.com",
            "http://summarize.default.example.com/v1/completions",
        ),
        ("/serving/default/summarize/x?to=https://example.com/v1", None, "https://example.com/v1"),
        ("/serving/default/summarize/x?to=//example.com/v1", None, "//example.com/v1"),
        ("/serving/default/summarize/x?to=y/z", None, "y/z"),
        ("/serving/default/summarize/x?to=http://[", None, "http://["),
    ],
    ids=[
        "below /openai",
        "below /serving",
        "an absolute path, and a service without a slash",
        "by Host nothing was taken off",
        "another host",
        "another host without a scheme",
        "a relative path leads below the prefix by itself",
        "no URL at all",
    ],
)
async def test_a_redirect_keeps_the_prefix(
    stage: Staging, path: str, to: str | None, location: str
) -> None:
    async with stage(handler=redirect) as s:
        request = s.ask(path, headers={"host": to or HOST})
        await s.ready()
        await request.end()
        assert (request.status, request.headers["location"]) == (307, location)
        assert request.headers["content-location"] == location


async def test_the_predictor_s_own_port_is_not_told(stage: Staging) -> None:
    async with stage(handler=redirect) as s:
        first = s.ask("/serving/default/summarize/x?to=y", method="GET")
        own = (await s.ready()).base_url
        await first.end()
        told = await s.ask(f"/serving/default/summarize/x?to={own}/v1/x", method="GET").end()
        assert told.headers["location"] == "/serving/default/summarize/v1/x"
