"""Fetching what an event refers to: what is never asked, and what ends it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from relume.eventing.jobs.dataref import (
    BadDataHost,
    DatarefRefused,
    DatarefRules,
    Datarefs,
    DatarefTooLarge,
    DatarefUnavailable,
    hosts_named,
)
from relume.eventing.jobs.public_address import Check, why_refused


class Names(AbstractResolver):
    """DNS that gives the addresses of a table."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            {
                "hostname": host,
                "host": each,
                "port": port,
                "family": socket.AF_INET6 if ":" in each else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for each in self.addresses
        ]

    async def close(self) -> None: ...


class Host:
    """A server on loopback; `requests` counts what it was asked, `connections` who came."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._answer = answer
        self.requests: list[web.Request] = []
        self.connections = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Host"]:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.BaseRequest)
            self.requests.append(request)  # type: ignore[arg-type]
            return await self._answer(request)  # type: ignore[arg-type]

        server = web.Server(handle, handler_cancellation=True)
        loop = asyncio.get_running_loop()

        def connected() -> asyncio.Protocol:
            self.connections += 1
            return server()

        listening = await loop.create_server(connected, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()
            await server.shutdown(0)


def anything(_: str) -> None:
    """A check that lets a test reach its own server."""


def rules(host: Host, name: str = "data.example", **more: object) -> DatarefRules:
    hosts = frozenset({f"{name}:{host.port}"})
    return DatarefRules(hosts, frozenset({"http"}), **more)  # type: ignore[arg-type]


async def fetched(rules: DatarefRules, url: str, names: Names, check: Check = anything) -> bytes:
    async with (
        Datarefs(rules, resolver=names, check=check) as datarefs,
        datarefs.fetched(url) as it,
    ):
        return b"".join([part async for part in it.data])


def answering(**response: object) -> Host:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(**response)  # type: ignore[arg-type]

    return Host(answer)


async def test_an_allowed_reference_is_read() -> None:
    async with answering(body=b"[1,2]", content_type="application/json").serving() as host:
        url = f"http://data.example:{host.port}/a?signature=x"
        async with (
            Datarefs(rules(host), resolver=Names("127.0.0.1"), check=anything) as datarefs,
            datarefs.fetched(url) as it,
        ):
            assert it.content_type == "application/json"
            assert b"".join([part async for part in it.data]) == b"[1,2]"
        assert host.requests[0].path_qs == "/a?signature=x"
        assert host.requests[0].headers["Accept-Encoding"] == "identity"


async def test_nothing_is_allowed_by_default() -> None:
    names = Names("10.0.0.1")
    with pytest.raises(DatarefRefused, match="not among the allowed"):
        await fetched(DatarefRules(), "https://example.com/", names, why_refused)
    assert names.asked == []


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("data.example.com", "https://data.example.com/x"),
        ("Data.Example.com.", "https://data.example.com/x"),
        ("*.example.com", "https://a.b.example.com/x"),
        ("data.example.com:8443", "https://data.example.com:8443/x"),
        ("bücher.example", "https://bücher.example/x"),
        ("bücher.example", "https://xn--bcher-kva.example/x"),
        ("*.bücher.example:444", "https://a.xn--bcher-kva.example:444/x"),
        ("[2606:4700::1]:8443", "https://[2606:4700::1]:8443/x"),
    ],
)
def test_a_host_that_is_allowed_matches_in_each_way_to_write_it(written: str, url: str) -> None:
    DatarefRules(hosts=hosts_named("--data-from", [written])).checked(url)


@pytest.mark.parametrize(
    "written", ["https://x", "x/y", "x?y", "*", "*.", "a.*.b", "", "x y", "user@x", "x:99999"]
)
def test_a_host_that_no_url_could_match_is_refused(written: str) -> None:
    with pytest.raises(BadDataHost, match=r"--data-from .*: write a host"):
        hosts_named("--data-from", ["example.com", written])


@pytest.mark.parametrize(
    "url",
    [
        *("http://ok.example/", "ftp://ok.example/", "file:///etc/passwd", "gopher://ok.example/"),
        *("data:,x", "//ok.example/x", "ok.example", "", "/relative", "https:///x", "https://"),
        *("https://other.example/", "https://ok.example.evil/", "https://evilok.example/"),
        *("https://ok.example:8443/", "https://ok.example:0/", "https://ok.example:99999/"),
        *("https://user@ok.example/", "https://user:secret@ok.example/"),
        *("https://ok.example@evil.example/", "https://evil.example#@ok.example/"),
        *("https://evil.example\\@ok.example/", "https://evil.example?@ok.example/"),
        *(
            "https://[::1]/",
            "https://[ok.example]/",
            "https://127.0.0.1/",
            "https://below.example/",
        ),
        *("https://ok.example\u3002evil/", "https://deep.deep.below.example.x/"),
        "https://ok.example/" + "a" * 9000,
    ],
)
async def test_a_url_that_is_not_on_the_list_is_not_asked(url: str) -> None:
    names = Names("10.0.0.1")
    allowed = DatarefRules(frozenset({"ok.example", "*.below.example"}))
    with pytest.raises(DatarefRefused) as refused:
        await fetched(allowed, url, names, why_refused)
    assert names.asked == []
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        *("https://ok.example/", "https://OK.example/x?y#z", "https://ok.example:443/"),
        *("https://ok.example./", "https://a.below.example/", "https://a.b.below.example/"),
        *(
            "https://8443.example:8443/",
            "https://xn--bcher-kva.example/",
            "https://bücher.example/",
        ),
    ],
)
def test_a_url_on_the_list_is_allowed(url: str) -> None:
    names = {"ok.example", "*.Below.example", "8443.example:8443", "xn--bcher-kva.example"}
    assert DatarefRules(frozenset(names)).checked(url).scheme == "https"


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("64:ff9b::7f00:1",),
        ("0.0.0.0",),
        ("169.254.169.254",),
        ("10.0.0.1", "192.168.0.1"),
        ("fd00:ec2::254", "::1"),
    ],
)
async def test_a_public_name_with_a_private_address_is_not_connected_to(
    addresses: tuple[str, ...],
) -> None:
    async with answering(body=b"secret").serving() as host:
        url = f"http://data.example:{host.port}/"
        with pytest.raises(DatarefRefused, match="the address"):
            await fetched(rules(host), url, Names(*addresses), why_refused)
        assert host.connections == 0


@pytest.mark.parametrize(
    "literal",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "0.0.0.0"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "localhost"),
    ],
)
async def test_a_literal_address_that_is_allowed_by_mistake_is_not_connected_to(
    literal: str,
) -> None:
    async with answering(body=b"secret").serving() as host:
        names = {f"{each}:{host.port}" for each in (literal, literal.strip("[]"))}
        allowed = DatarefRules(frozenset(names), frozenset({"http"}))
        async with Datarefs(allowed) as datarefs:
            with pytest.raises(DatarefRefused):
                async with datarefs.fetched(f"http://{literal}:{host.port}/") as it:
                    async for _ in it.data:
                        pass
        assert host.connections == 0


async def test_the_address_is_checked_again_when_it_is_connected_to() -> None:
    """DNS that changes its mind between the answer and the connection has no effect."""
    asked: list[str] = []

    def at_first(address: str) -> str | None:
        asked.append(address)
        return None if len(asked) == 1 else "another address by now"

    async with answering(body=b"secret").serving() as host:
        with pytest.raises(DatarefRefused, match="another address by now"):
            url = f"http://data.example:{host.port}/"
            await fetched(rules(host), url, Names("127.0.0.1"), at_first)
        assert (host.connections, asked) == (0, ["127.0.0.1", "127.0.0.1"])


async def test_of_several_addresses_only_the_public_ones_are_tried() -> None:
    def only_loopback(address: str) -> str | None:
        return None if address == "127.0.0.1" else "not this one"

    async with answering(body=b"x").serving() as host:
        names = Names("10.1.2.3", "127.0.0.1", "fd00::1")
        url = f"http://data.example:{host.port}/"
        assert await fetched(rules(host), url, names, only_loopback) == b"x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with (
        answering(body=b"secret").serving() as other,
        answering(
            status=status, headers={"Location": f"http://127.0.0.1:{other.port}/"}
        ).serving() as host,
    ):
        with pytest.raises(DatarefRefused, match="redirects are not followed"):
            url = f"http://data.example:{host.port}/"
            await fetched(rules(host), url, Names("127.0.0.1"))
        assert (len(host.requests), other.connections) == (1, 0)


async def test_data_without_an_end_is_read_up_to_the_bound() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))
            sent += 65536

    async with Host(endless).serving() as host:
        url = f"http://data.example:{host.port}/"
        with pytest.raises(DatarefTooLarge, match="more than 1000000 bytes"):
            await fetched(rules(host, max_bytes=1_000_000), url, Names("127.0.0.1"))
        await asyncio.sleep(0.05)
        assert sent < 20_000_000  # what lies in the buffers of both ends


async def test_ten_gib_that_are_declared_are_not_read() -> None:
    async def huge(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(10 * 2**30)})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async with Host(huge).serving() as host:
        url = f"http://data.example:{host.port}/"
        with pytest.raises(DatarefTooLarge, match=str(10 * 2**30)):
            await fetched(rules(host), url, Names("127.0.0.1"))


async def test_a_slow_host_has_only_so_much_time() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    async with Host(slow).serving() as host:
        url = f"http://data.example:{host.port}/"
        with pytest.raises(DatarefUnavailable, match=r"not read within 0\.2 s"):
            await fetched(rules(host, within_s=0.2), url, Names("127.0.0.1"))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((code, DatarefRefused) for code in (204, 206, 400, 401, 403, 404, 410, 451)),
        *((code, DatarefUnavailable) for code in (408, 425, 429, 500, 502, 503, 504)),
    ],
)
async def test_which_answers_may_be_better_later(status: int, error: type[Exception]) -> None:
    async with answering(status=status).serving() as host:
        with pytest.raises(error, match=f"answered {status}"):
            url = f"http://data.example:{host.port}/x?signature=secret"
            await fetched(rules(host), url, Names("127.0.0.1"))


async def test_compressed_data_is_refused() -> None:
    async with answering(body=b"x", headers={"Content-Encoding": "gzip"}).serving() as host:
        with pytest.raises(DatarefRefused, match="compressed"):
            await fetched(rules(host), f"http://data.example:{host.port}/", Names("127.0.0.1"))


async def test_data_that_breaks_off_is_not_taken_for_all_of_it() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with Host(broken).serving() as host:
        with pytest.raises(DatarefUnavailable):
            await fetched(rules(host), f"http://data.example:{host.port}/", Names("127.0.0.1"))


async def test_the_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(body=b"secret").serving() as proxy, answering(body=b"x").serving() as host:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        url = f"http://data.example:{host.port}/"
        assert await fetched(rules(host), url, Names("127.0.0.1")) == b"x"
        assert proxy.connections == 0


async def test_a_message_does_not_repeat_what_may_be_secret() -> None:
    with pytest.raises(DatarefRefused) as refused:
        await fetched(DatarefRules(), "https://u:hush@x.example/p?signature=hush#hush", Names())
    assert "hush" not in str(refused.value)
    assert "x.example/p" in str(refused.value)
