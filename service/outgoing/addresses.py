"""Which IP addresses belong to the public internet: all that a stranger's URL may lead to.

`ipaddress.is_global` of Python 3.11 takes NAT64, 6to4, multicast and mapped addresses for public; so this is a table
of its own, from the IANA special-purpose registries (RFC 6890 and its updates) and the registry of multicast.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address

_CLOSED_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, RFC 791: Linux takes 0.0.0.0 for loopback
        "10.0.0.0/8",  # private use, RFC 1918
        "100.64.0.0/10",  # shared by carriers, RFC 6598; some clouds answer here with metadata
        "127.0.0.0/8",  # loopback, RFC 1122
        "168.63.129.16/32",  # Azure's own services, seen from inside of its machines only
        "169.254.0.0/16",  # link-local, RFC 3927, with the metadata of most clouds
        "172.16.0.0/12",  # private use, RFC 1918
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "192.168.0.0/16",  # private use, RFC 1918
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast, RFC 5771
        "240.0.0.0/4",  # reserved, RFC 1112, with the broadcast address
    )
)

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All of IPv6 that is given out, RFC 4291; loopback, unique local, link-local and multicast lie outside of it."""

_CLOSED_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, RFC 2928: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 7526: leads to whatever IPv4 address is inside
        "3fff::/20",  # documentation, RFC 9637
    )
)

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""IPv4 as seen from a network that has IPv6 alone, RFC 6052: the address inside decides."""


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could reach `address` too."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _CLOSED_V6)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped
