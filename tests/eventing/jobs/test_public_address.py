"""Which addresses are connected to for somebody from outside."""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.jobs.public_address import AddressRefused, socket_to, why_refused

# IANA IPv4 and IPv6 Special-Purpose Address Registries, what is not globally reachable; multicast.
NOT_PUBLIC_4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    "168.63.129.16/32",
)
NOT_PUBLIC_6 = (
    *("::/128", "::1/128", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:2::/48"),
    *("2001:db8::/32", "2001:10::/28", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7"),
    *("fe80::/10", "fec0::/10", "ff00::/8", "4000::/3", "8000::/2"),
)
PUBLIC_4 = ("1.1.1.0/24", "8.8.8.0/24", "93.184.0.0/16", "140.82.112.0/20", "223.255.254.0/24")
PUBLIC_6 = ("2606:4700::/32", "2a00:1450::/32", "2001:4860::/32", "2600::/16")


def inside4(networks: tuple[str, ...]) -> st.SearchStrategy[IPv4Address]:
    return st.sampled_from(networks).flatmap(
        lambda each: st.ip_addresses(network=IPv4Network(each)).map(IPv4Address)
    )


def inside6(networks: tuple[str, ...]) -> st.SearchStrategy[IPv6Address]:
    return st.sampled_from(networks).flatmap(
        lambda each: st.ip_addresses(network=IPv6Network(each)).map(IPv6Address)
    )


def forms(address: IPv4Address) -> list[str]:
    """The forms in which an IPv4 address can be given to `connect`."""
    number = int(address)
    return [
        str(address),
        f"::ffff:{address}",
        str(IPv6Address((0xFFFF << 32) + number)),
        str(IPv6Address(int(IPv6Address("64:ff9b::")) + number)),
    ]


@given(inside4(NOT_PUBLIC_4))
def test_no_form_of_an_ipv4_address_that_is_not_public_is_connected_to(
    address: IPv4Address,
) -> None:
    for form in forms(address):
        assert why_refused(form), form


@given(inside6(NOT_PUBLIC_6))
def test_no_ipv6_address_that_is_not_public_is_connected_to(address: IPv6Address) -> None:
    assert why_refused(str(address))
    assert why_refused(f"{address}%eth0")


@given(st.ip_addresses(v=4), st.ip_addresses(v=6, network="2600::/64"))
def test_an_address_of_isatap_is_refused(inner: IPv4Address, prefix: IPv6Address) -> None:
    network = int(prefix) >> 64 << 64
    for mark in (0x00005EFE, 0x02005EFE):
        assert why_refused(str(IPv6Address(network + (mark << 32) + int(inner))))


@given(inside4(PUBLIC_4))
def test_a_public_ipv4_address_may_be_connected_to(address: IPv4Address) -> None:
    assert [why_refused(form) for form in forms(address)] == [None] * 4


@given(inside6(PUBLIC_6))
def test_a_public_ipv6_address_may_be_connected_to(address: IPv6Address) -> None:
    if (int(address) >> 32 & 0xFFFF_FFFF) not in (0x00005EFE, 0x02005EFE):
        assert why_refused(str(address)) is None


@pytest.mark.parametrize(
    "metadata",
    [
        "169.254.169.254",  # AWS, Azure, GCP and most others
        "169.254.170.2",  # ECS
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # GCP
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure's host
        "fe80::a9fe:a9fe",
    ],
)
def test_metadata_services_are_refused(metadata: str) -> None:
    assert why_refused(metadata)


@pytest.mark.parametrize("text", ["", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert why_refused(text)


@given(st.text(max_size=40))
def test_any_text_has_an_answer(text: str) -> None:
    why_refused(text)


def test_there_is_no_socket_to_a_refused_address(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(socket, "socket", lambda *args: made.append(args))
    make = socket_to()
    with pytest.raises(AddressRefused, match="loopback"):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))
    with pytest.raises(AddressRefused, match="loopback"):
        make((socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 80, 0, 0)))
    assert made == []
    make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 80)))
    assert made == [(socket.AF_INET, socket.SOCK_STREAM, 0)]
