"""By which names this machine is asked what runs on it.

Somebody else's name can point to this machine (DNS rebinding). A browser then takes the page that
came under that name for one of this origin: it asks without `Origin`, and lets the page read the
answer. So what shows or changes what runs here answers to loopback names, to addresses, and to the
hosts of `--allowed-origin`. Services answer to every name, because their own names are made up.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.loopback import is_loopback
from relume.eventing.jobs.caller import caller_of
from relume.eventing.jobs.front import is_about_jobs
from relume.plane.control import PREFIX
from relume.plane.page.access import host_of
from relume.serving.addresses import header


class KnownNames:
    """An ASGI application in front of another one; it guards `/relume/` and the paths of jobs."""

    def __init__(self, app: ASGIApp, allowed_origins: Collection[str]) -> None:
        """allowed_origins: of `relume up --allowed-origin`; `*` is every name."""
        self._app = app
        self._any = "*" in allowed_origins
        self._names = {urlsplit(origin).hostname for origin in allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _shows(scope["path"]) and not self._knows(scope):
            name = host_of(scope)[:200]
            message = (
                f"{name} is not known as a name of this machine: ask 127.0.0.1, or start "
                "relume up with --allowed-origin and this name as an origin"
            )
            refusal = JSONResponse({"error": message, "reason": "unknown-name"}, 403)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        name = host_of(scope)
        return (
            self._any
            or not header(scope, b"host")  # no browser sends none
            or is_loopback(name)
            or _is_address(name)
            or name in self._names
            or bool(caller_of(scope).owner)
        )


def _shows(path: str) -> bool:
    return path.startswith(PREFIX) or is_about_jobs(path)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
