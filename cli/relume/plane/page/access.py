"""Who may see the page: people at this machine, and callers who have shown a key or a token.

The plane listens on loopback, so others come only through something in between, or through a name
that their DNS points to this machine (DNS rebinding: the browser then takes a foreign page for one
of this origin). So the address of the client and the name in Host are both looked at.
"""

from urllib.parse import urlsplit

from starlette.types import Scope

from relume.base.loopback import is_loopback
from relume.eventing.jobs.caller import caller_of
from relume.serving.addresses import header

REFUSAL = (
    "this page shows what runs on the machine, and nothing here says who may see it, so it is only "
    "for a browser on the machine itself: open http://127.0.0.1 with this port there, or forward "
    "the port with ssh -L"
)


def may_see(scope: Scope) -> bool:
    """Whether the page is shown to the one who asks."""
    if caller_of(scope).owner:
        return True
    client: tuple[str, int] | None = scope.get("client")
    return is_loopback(host_of(scope)) and (client is None or is_loopback(client[0]))


def host_of(scope: Scope) -> str:
    """The name in Host, without its port; "" where there is none, or none that can be read."""
    try:
        return urlsplit(f"//{header(scope, b'host') or ''}").hostname or ""
    except ValueError:
        return ""
