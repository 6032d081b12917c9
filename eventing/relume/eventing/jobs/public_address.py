"""Whether an address may be connected to on behalf of somebody from outside: public ones only.

A name is not checked, because it can mean another address a moment later. `socket_to` checks the
address of each connection when it is made, after DNS and for literals in the URL alike, so nothing
between the check and the connection can change the address.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

# What aiohttp gives to a socket factory: family, type, protocol, canonical name, address.
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
# Says why an address is refused; None: it is not.
Check = Callable[[str], str | None]

# What `is_global` of some Python versions takes for public, or what is public by its number only.
_SPECIAL_IPV4 = tuple(
    IPv4Network(each)
    for each in (
        "168.63.129.16/32",  # the host of virtual machines of Azure
        "192.0.0.0/24",  # protocol assignments (RFC 6890); metadata of Oracle's cloud
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
    )
)
_SPECIAL_IPV6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments, Teredo among them (RFC 2928, RFC 4380)
        "2002::/16",  # 6to4 (RFC 3056): it leads to any IPv4 address
        "3fff::/20",  # documentation (RFC 9637)
    )
)
# Everything that IANA gives out as global unicast lies here (RFC 4291 §2.4).
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
# The second half of an interface identifier of ISATAP is an IPv4 address (RFC 5214 §6.1).
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_IPV4_MASK = 0xFFFF_FFFF


class AddressRefused(OSError):
    """The address is not a public one; nothing was sent to it."""


def why_refused(address: str) -> str | None:
    """Why `address` (as it is given to `connect`) is not connected to; None where it is.

    An IPv6 address that is an IPv4 address in another form is judged as that one. What cannot be
    read as an address is refused.
    """
    try:
        # The zone of an address, as in fe80::1%eth0, says through which card it is reached.
        read = ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address} is not an IP address"
    if isinstance(read, IPv6Address):
        number = int(read)
        if (number >> 32 & _IPV4_MASK) in _ISATAP:
            return f"{address} is an address of ISATAP"
        if read.ipv4_mapped is not None or read in _NAT64:
            read = IPv4Address(number & _IPV4_MASK)
    kinds = {
        "unspecified": read.is_unspecified,
        "loopback": read.is_loopback,
        "link-local": read.is_link_local,
        "multicast": read.is_multicast,
        "private or reserved": not read.is_global or read.is_reserved or _is_special(read),
    }
    kind = next((kind for kind, applies in kinds.items() if applies), None)
    return None if kind is None else f"the address {address} is {kind}"


def socket_to(check: Check = why_refused) -> Callable[[AddressInfo], socket.socket]:
    """A socket factory (`aiohttp.TCPConnector(socket_factory=...)`) for checked addresses.

    It raises AddressRefused before there is a socket.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if (why := check(str(address[0]))) is not None:
            raise AddressRefused(why)
        return socket.socket(family, kind, protocol)

    return make


def _is_special(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return any(address in each for each in _SPECIAL_IPV4)
    return address not in _GLOBAL_UNICAST or any(address in each for each in _SPECIAL_IPV6)
