"""Data that an event names instead of carrying it: the extension `dataref` of CloudEvents.

Whoever can post an event could have us fetch any URL. So nothing is fetched that the configuration
does not allow by scheme and host, nothing from an address that is not public (`public_address`),
no redirect is followed, no proxy of the environment is asked, and neither the size nor the time is
left to the server.
"""

import contextlib
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from relume.base.errors import InvalidInput, RelumeError
from relume.base.limits import HEADER_BYTES, MIB
from relume.base.vocabulary import DATAREF
from relume.eventing.jobs.public_address import AddressRefused, Check, socket_to, why_refused

_PORTS = {"https": 443, "http": 80}
_CONNECT_WITHIN_S = 10.0
_LONGEST_URL = 8192
# A name or an address, as it stands in a URL that was read.
_HOST = re.compile(r"[a-z0-9_-][a-z0-9._:-]*")


class DatarefRefused(InvalidInput):
    """The reference is not fetched, or what it leads to cannot be used; another try ends alike."""

    reason = "dataref-refused"


class DatarefTooLarge(InvalidInput):
    """What the reference leads to is larger than the bound."""

    reason = "dataref-too-large"


class DatarefUnavailable(RelumeError):
    """The host of the reference did not answer, or not with the data; it may answer later."""

    reason = "dataref-unavailable"
    retryable = True


class BadDataHost(InvalidInput):
    """A host from which data may be fetched cannot be one; the message names it and the fix."""

    reason = "bad-host"


def hosts_named(option: str, texts: Iterable[str]) -> frozenset[str]:
    """The hosts of `DatarefRules` that people have written. Raises BadDataHost.

    A name outside of ASCII becomes the one that stands in a URL (IDNA). What no URL could match is
    refused: it would allow nothing, and nobody would be told.
    """
    found = set[str]()
    for text in texts:
        wild = "*." if text.startswith("*.") else ""
        try:
            url = URL(f"https://{text.removeprefix(wild)}")
            host, port = (url.raw_host or "").removesuffix(".").lower(), url.explicit_port
            alone = (url.raw_path, url.raw_query_string, url.raw_user) == ("/", "", None)
        except ValueError:
            host, port, alone = "", None, False
        if not alone or not _HOST.fullmatch(host):
            raise BadDataHost(
                f"{option} {text}: write a host, such as data.example.com, *.example.com or "
                "data.example.com:8443"
            )
        found.add(f"{wild}{host}" if port is None else f"{wild}{host}:{port}")
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class DatarefRules:
    """What may be fetched.

    `hosts` are names as they stand in the URL, `*.example.com` for all names below example.com, and
    with `:PORT` for a port that is not the scheme's own; none is allowed by default. `max_bytes`
    bounds what is read, `within_s` the whole exchange in seconds.
    """

    hosts: frozenset[str] = frozenset()
    schemes: frozenset[str] = frozenset({"https"})
    max_bytes: int = 64 * MIB
    within_s: float = 30.0

    def checked(self, reference: object) -> URL:
        """The URL of a reference that may be fetched. Raises DatarefRefused."""
        text = str(reference)
        if len(text) > _LONGEST_URL:
            raise DatarefRefused(f"{DATAREF}: the URL is longer than {_LONGEST_URL} characters")
        try:
            # Read by the client's own parser: two parsers could find two hosts.
            url = URL(text)
            host, port = (url.raw_host or "").removesuffix(".").lower(), url.explicit_port
        except ValueError as error:
            raise DatarefRefused(f"{DATAREF}: not a URL: {error}") from None
        shown = _shown(url)
        if url.scheme not in self.schemes or url.scheme not in _PORTS:
            allowed = ", ".join(sorted(self.schemes)) or "none"
            raise DatarefRefused(f"{shown}: the scheme may be: {allowed}")
        if url.raw_user is not None or url.raw_password is not None:
            raise DatarefRefused(f"{shown}: write the URL without a user and a password")
        if not self._allows(host, _PORTS[url.scheme] if port is None else port, url.scheme):
            raise DatarefRefused(
                f"{shown}: this host is not among the allowed ones; send the data in the event"
            )
        return url

    def _allows(self, host: str, port: int, scheme: str) -> bool:
        names, above = [host], host.partition(".")[2]
        while above:
            names.append(f"*.{above}")
            above = above.partition(".")[2]
        allowed = {each.lower() for each in self.hosts}
        if port == _PORTS[scheme] and not allowed.isdisjoint(names):
            return True
        return not allowed.isdisjoint(f"{name}:{port}" for name in names)


@dataclass(frozen=True, slots=True)
class Referred:
    """What is being fetched: its media type, and its data as it comes."""

    content_type: str | None
    data: AsyncIterator[bytes]


class Datarefs:
    """Fetches references, an asynchronous context manager.

    `resolver` and `check` stand for DNS and for the rule of public addresses, `tls` for the
    certificates of public hosts, each for tests.
    """

    def __init__(
        self,
        rules: DatarefRules,
        *,
        resolver: AbstractResolver | None = None,
        check: Check = why_refused,
        tls: ssl.SSLContext | bool = True,
    ) -> None:
        self.rules = rules
        self._resolver = resolver
        self._check = check
        self._tls = tls
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=16,
                # A connection that is kept was checked once; a new one is checked again.
                force_close=True,
                use_dns_cache=False,
                resolver=_Filtered(self._resolver or ThreadedResolver(), self._check),
                socket_factory=socket_to(self._check),
                ssl=self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "relume", "Accept-Encoding": "identity"},
            # Compressed data would have another size than what was counted.
            auto_decompress=False,
            trust_env=False,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @contextlib.asynccontextmanager
    async def fetched(self, reference: object) -> AsyncGenerator[Referred, None]:
        """What a reference leads to, within `rules`.

        Entering it and reading the data raise DatarefRefused, DatarefTooLarge and
        DatarefUnavailable. Nothing more is read once the bound is passed.
        """
        url = self.rules.checked(reference)
        limits = aiohttp.ClientTimeout(total=self.rules.within_s, sock_connect=_CONNECT_WITHIN_S)
        async with contextlib.AsyncExitStack() as stack:
            with self._told(url):
                got = self._session.get(url, allow_redirects=False, timeout=limits)
                response = await stack.enter_async_context(got)
            _check_answer(response, _shown(url), self.rules.max_bytes)
            yield Referred(response.headers.get("Content-Type"), self._read(response, url))

    async def _read(self, response: aiohttp.ClientResponse, url: URL) -> AsyncIterator[bytes]:
        size, most = 0, self.rules.max_bytes
        while True:
            with self._told(url):
                part = await response.content.readany()
            if not part:
                return
            size += len(part)
            if size > most:
                raise DatarefTooLarge(f"{_shown(url)}: the data has more than {most} bytes")
            yield part

    @contextlib.contextmanager
    def _told(self, url: URL) -> Iterator[None]:
        """Turns the errors of the client into ours, which name the reference."""
        shown = _shown(url)
        try:
            yield
        except aiohttp.InvalidURL as error:
            raise DatarefRefused(f"{shown}: not a URL that can be fetched: {error}") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise DatarefRefused(f"{shown}: {error.os_error}") from None
            raise DatarefUnavailable(f"{shown}: {error.os_error}") from None
        except TimeoutError:
            words = f"{shown}: not read within {self.rules.within_s:g} s"
            raise DatarefUnavailable(words) from None
        except (aiohttp.ClientError, OSError) as error:
            raise DatarefUnavailable(f"{shown}: {type(error).__name__}") from None


class _Filtered(AbstractResolver):
    """DNS without the addresses that are not connected to."""

    def __init__(self, resolver: AbstractResolver, check: Check) -> None:
        self._resolver = resolver
        self._check = check

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        refused = {each["host"]: self._check(each["host"]) for each in found}
        if kept := [each for each in found if refused[each["host"]] is None]:
            return kept
        raise AddressRefused("; ".join(filter(None, refused.values())) or "it has no address")

    async def close(self) -> None:
        await self._resolver.close()


def _shown(url: URL) -> str:
    """The URL for people; its query and its user may hold secrets."""
    return f"{DATAREF} {url.scheme}://{url.raw_authority.rpartition('@')[2]}{url.raw_path}"[:300]


def _check_answer(response: aiohttp.ClientResponse, shown: str, most: int) -> None:
    status = response.status
    if status in (408, 425, 429) or status >= 500:
        raise DatarefUnavailable(f"{shown}: the host answered {status}")
    if status != 200:
        redirected = "; redirects are not followed" if 300 <= status < 400 else ""
        raise DatarefRefused(f"{shown}: the host answered {status}{redirected}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise DatarefRefused(f"{shown}: the host compressed the data, which was not asked for")
    declared = response.content_length
    if declared is not None and declared > most:
        raise DatarefTooLarge(f"{shown}: {declared} bytes; it may have {most}")
