"""A request as its predictor gets it, and the headers as its client gets them back."""

from collections.abc import Iterable, Mapping

import aiohttp
from aiohttp.client import IDEMPOTENT_METHODS
from multidict import CIMultiDict
from starlette.types import Scope
from yarl import URL

from relume.base.prefixes import ADDRESSES, RawHeaders, below_prefix, host_of
from relume.base.vocabulary import NOT_BEGUN_HEADER
from relume.serving.addresses import raw_path_of
from relume.web.hops import HOP_BY_HOP, NOT_RETURNED, named_by_connection, sent_on, url_behind

NOT_FORWARDED = HOP_BY_HOP | {
    b"expect",
    b"knative-serving-namespace",
    b"knative-serving-revision",
}

# A plane in front of this one must not take a predictor's word for ours.
_NOT_FOR_CLIENTS = NOT_RETURNED | {NOT_BEGUN_HEADER.encode()}


def forwarded_headers(
    headers: Iterable[tuple[bytes, bytes]], extra: Mapping[str, str]
) -> CIMultiDict[str]:
    """Return a request's headers for the predictor: with ours instead of the client's own."""
    theirs = (each for each in headers if not each[0].lower().startswith(b"relume-"))
    result = sent_on(theirs, NOT_FORWARDED)
    result.update(extra)
    return result


def upstream_url(base_url: str, scope: Scope, raw_path: bytes) -> URL:
    """Return the predictor's address for a path that is still percent-encoded."""
    return url_behind(base_url, raw_path, scope["query_string"])


def returned_headers(
    headers: Iterable[tuple[bytes, bytes]],
    extra: Mapping[str, str],
    scope: Scope,
    raw_path: bytes,
    base_url: str,
) -> RawHeaders:
    """Return an answer's headers for the client: `extra` instead of the predictor's own of a name.

    Those of the connection are left out.

    A redirect leads below the prefix that was taken off the path (`/serving/<ns>/<isvc>`,
    `/openai`), and never to the predictor's own port, which it names to a client without a Host.
    """
    lowered = [(raw.lower(), value) for raw, value in headers]
    ours = {name.encode(): value.encode() for name, value in extra.items()}
    gone = _NOT_FOR_CLIENTS | ours.keys()
    named = named_by_connection(lowered)
    kept = [each for each in lowered if each[0] not in gone and each[0] not in named]
    kept += ours.items()
    if all(name not in ADDRESSES for name, _ in kept):
        return kept
    whole = raw_path_of(scope)
    prefix = whole.removesuffix(raw_path) if whole.endswith(raw_path) else whole
    internal = base_url.partition("//")[2]
    return below_prefix(kept, prefix, {host_of(scope["headers"])}, internal)


def is_refused(error: Exception) -> bool:
    """Whether nobody listens at the predictor's port: it is ending, or has ended."""
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionRefusedError
    )


def is_unsent(error: Exception, method: str) -> bool:
    """Whether nobody has listened, so that nothing of the request was sent.

    That is not known of a GET and its like: aiohttp tries such a request twice itself, and the
    connection that is refused may be the second one.
    """
    return is_refused(error) and method not in IDEMPOTENT_METHODS
