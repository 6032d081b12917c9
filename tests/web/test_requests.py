"""Requests that RFC 9110 and 9112 allow or forbid, and that few clients send."""

import asyncio

import pytest
from served import Echo, answers, serving
from starlette.types import Receive, Scope, Send

from relume.web.hops import sent_on


@pytest.mark.parametrize(
    "target", [b"http://a.b:81/x?q=1", b"HTTP://a.b:81", b"http://u:p@a.b:81/"]
)
async def test_an_absolute_url_names_the_host_whatever_the_header_says(target: bytes) -> None:
    """RFC 9112 §3.2.2; a client that takes the plane for its proxy sends this."""
    async with serving(Echo()) as port:
        for header in (b"Host: other\r\n", b""):
            request = b"GET " + target + b" HTTP/1.1\r\n" + header + b"\r\n"
            [(status, _, said)] = await answers(port, request)
            assert (status, said["headers"]["host"]) == (200, "a.b:81")
            assert said["path"] == ("/x" if b"/x" in target else "/")


async def test_two_host_headers_are_refused() -> None:
    """RFC 9112 §3.2: one would be routed by, and the other one be sent on."""
    async with serving(Echo()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        async with asyncio.timeout(60):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_a_status_without_a_name_is_sent() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        head = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 999, "headers": head})
        await send({"type": "http.response.body", "body": b"{}"})

    async with serving(app) as port:
        [(status, _, body)] = await answers(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (status, body) == (999, {})


def test_a_field_that_the_message_says_to_be_its_connection_s_is_not_sent_on() -> None:
    """RFC 9110 §7.6.1."""
    headers = [
        (b"Connection", b"keep-alive, X-Hop"),
        (b"connection", b"content-length,host"),
        (b"x-hop", b"1"),
        (b"host", b"a"),
        (b"content-length", b"2"),
        (b"x-kept", b"3"),
    ]
    assert dict(sent_on(headers)) == {"host": "a", "content-length": "2", "x-kept": "3"}
