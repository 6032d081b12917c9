"""Addresses in an answer's headers, for what answers below a path that it does not know of.

A server behind a path such as `/serving/default/summarize` is asked for the rest of the path. When
it redirects, it names a path of its own, and a client that follows would leave the prefix.
"""

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

#: The headers that hold an address: RFC 9110 §10.2.2 and §8.7.
ADDRESSES = frozenset({b"location", b"content-location"})
RawHeaders = list[tuple[bytes, bytes]]


def below_prefix(
    headers: Iterable[tuple[bytes, bytes]],
    prefix: bytes,
    hosts: Collection[str],
    internal_host: str = "",
) -> RawHeaders:
    """Return headers, names in lower case, with `prefix` before the path of each own address.

    An address is own when it is an absolute path, or a URL whose host and port are one of `hosts`
    or `internal_host`. Of a URL at `internal_host`, which clients cannot reach, the path is left.
    """
    return [
        (name, _moved(value, prefix, hosts, internal_host) if name in ADDRESSES else value)
        for name, value in headers
    ]


def host_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return what a request's Host header says, or an empty text."""
    return next((value.decode("latin-1") for name, value in headers if name == b"host"), "")


def _moved(address: bytes, prefix: bytes, hosts: Collection[str], internal_host: str) -> bytes:
    try:
        parts = urlsplit(address.decode("latin-1"))
    except ValueError:
        return address
    own = parts.netloc in hosts if parts.netloc else not parts.scheme
    internal = internal_host != "" and parts.netloc == internal_host
    if not (own or internal) or not parts.path.startswith("/"):
        return address
    moved = parts._replace(path=prefix.decode("latin-1") + parts.path)
    if internal:
        moved = moved._replace(scheme="", netloc="")
    return moved.geturl().encode("latin-1")
