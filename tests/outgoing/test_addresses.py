"""Which addresses are public, by our own table."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.outgoing.addresses import is_public

PUBLIC = ["8.8.8.8", "93.184.216.34", "192.0.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
CLOSED = [
    *("0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1"),
    *("2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "4000::1"),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_what_anybody_reaches(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", CLOSED)
def test_what_only_some_reach(text: str) -> None:
    assert not is_public(ip_address(text))


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_never_more_than_python_lets_through_but_for_its_two_odd_ones(address: IPv4Address) -> None:
    """`is_global` is true of multicast in 3.11, which is why there is a table; otherwise ours is the stricter one."""
    assert not is_public(address) or address.is_global or str(address).startswith(("192.0.0.9", "192.0.0.10"))


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_ipv4_address_inside_decides(inner: IPv4Address) -> None:
    assert is_public(IPv6Address(b"\0" * 10 + b"\xff\xff" + inner.packed)) is is_public(inner)
    assert is_public(IPv6Address(IPv6Address("64:ff9b::").packed[:12] + inner.packed)) is is_public(inner)
    assert not is_public(IPv6Address(b"\x20\x02" + inner.packed + b"\0" * 10)), "6to4 leads anywhere"
