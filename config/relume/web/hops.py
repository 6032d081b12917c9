"""What a proxy does to a message between its client and the server behind it.

RFC 9110 §7.6.1: the fields of a connection end with it; everything else goes on as it came.
"""

from collections.abc import Container, Iterable

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from relume.base.limits import HEADER_BYTES, HEADERS

HOP_BY_HOP = frozenset(
    b"connection http2-settings keep-alive proxy-authenticate proxy-authorization proxy-connection "
    b"te trailer transfer-encoding upgrade".split()
)
# The server in front writes its own.
NOT_RETURNED = HOP_BY_HOP | {b"date", b"server"}
_NEVER = frozenset({b"host", b"content-length"})
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


def client_session(keepalive_s: float) -> aiohttp.ClientSession:
    """Return a session for all requests to servers behind us; it adds and changes nothing."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=NO_TIMEOUT,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        max_headers=HEADERS,
    )


def named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> Container[bytes]:
    """Return the names of the fields that a message says to be those of its connection.

    Host and Content-Length are never: a message without them would be another one.
    """
    told = [value for raw, value in headers if raw.lower() == b"connection"]
    return {name.strip().lower() for name in b",".join(told).split(b",")} - _NEVER if told else ()


def sent_on(
    headers: Iterable[tuple[bytes, bytes]], dropped: Container[bytes] = HOP_BY_HOP
) -> CIMultiDict[str]:
    """Return a request's headers for the server behind, without those in `dropped`."""
    headers = tuple(headers)
    named = named_by_connection(headers)
    result: CIMultiDict[str] = CIMultiDict()
    for raw, value in headers:
        if raw.lower() not in dropped and raw.lower() not in named:
            result.add(raw.decode("latin-1"), text_of(value))
    return result


def url_behind(base_url: str, raw_path: bytes, query: bytes) -> URL:
    """Return the address behind for a path and a query that are still percent-encoded."""
    asked = raw_path + b"?" + query if query else raw_path
    return URL(base_url + text_of(asked), encoded=True)


def text_of(raw: bytes) -> str:
    """Decode so that the client library, which writes UTF-8, restores the same bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
