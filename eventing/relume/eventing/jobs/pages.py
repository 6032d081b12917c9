"""Which pages in a browser may change jobs, queues and dead letters.

A browser sends a POST without a special header from any page to any address, and asks nobody
before. So where everybody may call, a page that its user opens could cancel all jobs. The other
doors need no such check: a request for a job has the header `Prefer`, and an event has a media type
or headers of its own, so a browser asks first, and the answer allows only what may pass.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from relume.base.errors import one_line
from relume.base.vocabulary import ORIGIN_ALLOWED
from relume.eventing.jobs.answers import NotAllowed
from relume.eventing.jobs.caller import caller_of

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}


def check_page(scope: Scope, what: str = "jobs or queues") -> None:
    """Raise NotAllowed for a change of `what` that a page of another origin asks for.

    A page passes where its origin was allowed, and where the caller has shown a key or a token: a
    browser asks before it sends those. Headers: the Fetch standard (`Origin`) and Fetch Metadata
    Request Headers (`Sec-Fetch-Site`). Programs send neither of them.
    """
    if scope["method"] in _READING or caller_of(scope).owner:
        return
    if (scope.get("state") or {}).get(ORIGIN_ALLOWED):
        return
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    foreign = headers.get("sec-fetch-site") == "cross-site"
    if foreign or (origin is not None and not _is_of_host(origin, headers.get("host", ""))):
        shown = one_line(origin or "another site")[:200]
        raise NotAllowed(
            f"a page of {shown} may not change {what}: to allow it, start "
            "relume up with --allowed-origin and the page's origin"
        )


def _is_of_host(origin: str, host: str) -> bool:
    """Whether an origin is that of the host that a request was sent to.

    A proxy may speak TLS for this program, so the scheme only says which port is meant.
    """
    try:
        page = urlsplit(origin)
        own = urlsplit(f"{page.scheme}://{host}")
        default = _PORTS.get(page.scheme)
        return (
            page.hostname is not None
            and page.hostname == own.hostname
            and (page.port or default) == (own.port or default)
        )
    except ValueError:
        return False
