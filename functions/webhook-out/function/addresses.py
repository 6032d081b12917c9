"""Which addresses a webhook may be sent to: by default none inside the own network.

A name is resolved once for each delivery and the connection goes to the address that was checked,
so that a name whose answer changes in between (DNS rebinding) gains nothing.
"""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


class AddressError(Exception):
    """The endpoint may not be called. The message says why."""


@dataclass(frozen=True)
class Endpoint:
    """A URL that was checked once, when the function started."""

    url: str
    scheme: str
    host: str
    port: int
    allow_private: bool


def endpoint_of(url: str, *, allow_private: bool) -> Endpoint:
    """Check the form of a URL. Raises AddressError. `allow_private` permits plain HTTP, too."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise AddressError(f"{url}: the port is wrong") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AddressError(f"{url}: must be an https URL with a host")
    if parts.scheme == "http" and not allow_private:
        raise AddressError(f"{url}: must use https; set WEBHOOK_ALLOW_PRIVATE=true to permit http")
    if parts.username or parts.password:
        raise AddressError("the URL of the webhook must not contain a password")
    standard = 443 if parts.scheme == "https" else 80
    return Endpoint(url, parts.scheme, parts.hostname, port or standard, allow_private)


async def permitted_address(endpoint: Endpoint) -> str:
    """The address to connect to. Raises AddressError for a private one, OSError for none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not endpoint.allow_private:
        for address in addresses:
            if not is_public(address):
                raise AddressError(f"{endpoint.host} has an address that is not public")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether the address is one of the public internet, also where IPv6 embeds an IPv4 one."""
    ip = ipaddress.ip_address(address.split("%")[0])
    embedded = None
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if embedded is not None:
        return embedded.is_global and not embedded.is_multicast
    return ip.is_global and not ip.is_multicast
