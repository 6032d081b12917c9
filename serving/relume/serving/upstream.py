"""A request as its predictor gets it, and the headers as its client gets them back."""

from collections.abc import Iterable, Mapping

import aiohttp
from multidict import CIMultiDict
from starlette.types import Scope
from yarl import URL

from relume.base.limits import HEADER_BYTES, HEADERS
from relume.base.prefixes import ADDRESSES, RawHeaders, below_prefix, host_of
from relume.serving.addresses import raw_path_of

HOP_BY_HOP = frozenset(
    b"connection http2-settings keep-alive proxy-authenticate proxy-authorization proxy-connection "
    b"te trailer transfer-encoding upgrade".split()
)
NOT_FORWARDED = HOP_BY_HOP | {
    b"expect",
    b"knative-serving-namespace",
    b"knative-serving-revision",
}
# The server in front of the plane writes its own.
NOT_RETURNED = HOP_BY_HOP | {b"date", b"server"}
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


def client_session(keepalive_s: float) -> aiohttp.ClientSession:
    """Return the session that all requests to predictors share; it adds and changes nothing."""
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


def forwarded_headers(
    headers: Iterable[tuple[bytes, bytes]], extra: Mapping[str, str]
) -> CIMultiDict[str]:
    """Return a request's headers for the predictor: with ours instead of the client's own."""
    result: CIMultiDict[str] = CIMultiDict()
    for raw, value in headers:
        name = raw.lower()
        if name not in NOT_FORWARDED and not name.startswith(b"relume-"):
            result.add(raw.decode("latin-1"), _text(value))
    result.update(extra)
    return result


def upstream_url(base_url: str, scope: Scope, raw_path: bytes) -> URL:
    """Return the predictor's address for a path that is still percent-encoded."""
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    return URL(base_url + _text(raw_path + query), encoded=True)


def returned_headers(
    headers: Iterable[tuple[bytes, bytes]], scope: Scope, raw_path: bytes, base_url: str
) -> RawHeaders:
    """Return an answer's headers for the client: without those of the connection.

    A redirect leads below the prefix that was taken off the path (`/serving/<ns>/<isvc>`,
    `/openai`), and never to the predictor's own port, which it names to a client without a Host.
    """
    lowered = [(raw.lower(), value) for raw, value in headers]
    kept = [header for header in lowered if header[0] not in NOT_RETURNED]
    if all(name not in ADDRESSES for name, _ in kept):
        return kept
    whole = raw_path_of(scope)
    prefix = whole.removesuffix(raw_path) if whole.endswith(raw_path) else whole
    internal = base_url.partition("//")[2]
    return below_prefix(kept, prefix, {host_of(scope["headers"])}, internal)


def _text(raw: bytes) -> str:
    """Decode so that the client library, which writes UTF-8, restores the same bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
