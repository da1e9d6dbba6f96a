"""Where a URL may lead: every address of its host is checked, and only a checked address is connected to."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Self

import httpx

from service.outgoing.addresses import Address, is_public

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host, as text, for a port. Raises OSError when there are none."""

PORTS: Final = {"https": 443, "http": 80}
_NAME: Final = re.compile(r"[a-z0-9._-]{1,253}")


class DestinationRefused(Exception):
    """The URL leads to where nobody may be sent; trying again changes nothing. The text may be shown to the caller."""


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host or network that may be called although it is internal, and without TLS. `port` None: on every port."""

    host: str | None
    network: IPv4Network | IPv6Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `host`, `host:port`, `10.0.0.0/8`, `10.0.0.7:8080` or `[::1]:8080`. Raises ValueError."""
        text = text.strip().lower()
        try:
            return cls(None, ip_network(text.strip("[]")), None)
        except ValueError:
            pass
        host, separator, port = text.rpartition(":")
        if not separator:
            return cls(_host_name(text), None, None)
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"'{text[:80]}': name a host, host:port or a network such as 10.0.0.0/8")
        try:
            return cls(None, ip_network(host.strip("[]")), int(port))
        except ValueError:
            return cls(_host_name(host), None, int(port))

    def covers(self, host: str, address: Address, port: int) -> bool:
        """Whether it lets a connection to `address`, the one of `host`, through."""
        if self.port not in (None, port):
            return False
        return host == self.host if self.network is None else address in self.network


def _host_name(text: str) -> str:
    """As URLs spell it: lower case, IDNA, no final dot. Raises ValueError."""
    try:
        url = httpx.URL(f"https://{text}/")
    except httpx.InvalidURL as error:
        raise ValueError(f"'{text[:80]}': {error}") from None
    if url.path != "/" or url.userinfo or url.port or url.query or not _NAME.fullmatch(host_of(url)):
        raise ValueError(f"'{text[:80]}': name a host, host:port or a network such as 10.0.0.0/8")
    return host_of(url)


def host_of(url: httpx.URL) -> str:
    """The host of a URL in ASCII, without the dot that may end a name."""
    return url.raw_host.decode("ascii").lower().rstrip(".")


async def resolve(host: str, port: int) -> Sequence[str]:
    """By the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Destinations:
    """Decides where URLs may lead. `allowed` names what is let through although it is not public."""

    def __init__(self, allowed: Sequence[AllowedHost] = (), resolve: Resolve = resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    async def addresses(self, url: httpx.URL) -> tuple[Address, ...]:
        """The addresses to connect to, all of them checked. They hold for this one connection: names change.

        Raises DestinationRefused, also when only one of several addresses is closed; OSError when the name does
        not resolve.
        """
        host, port = _check_form(url)
        found = await self._resolve(host, port)
        addresses = tuple(dict.fromkeys(ip_address(text.partition("%")[0]) for text in found))
        if not addresses:
            raise OSError(f"{host} has no address")
        trusted = [any(entry.covers(host, address, port) for entry in self._allowed) for address in addresses]
        # What internal names stand for is not for the caller to know, so no address is named.
        if not all(known or is_public(address) for known, address in zip(trusted, addresses, strict=True)):
            raise DestinationRefused(
                f"{host} is not on the public internet, and ARQADE_HTTP_ALLOW_HOSTS does not name it"
            )
        if url.scheme == "http" and not all(trusted):
            raise DestinationRefused(f"{host} is called without TLS, and ARQADE_HTTP_ALLOW_HOSTS does not name it")
        return addresses


def check_url(text: str) -> httpx.URL:
    """The URL that `text` is. Raises DestinationRefused for one that can lead nowhere, without asking the network."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise DestinationRefused(f"this is no URL: {error}") from None
    _check_form(url)
    return url


def _check_form(url: httpx.URL) -> tuple[str, int]:
    if url.scheme not in PORTS:
        raise DestinationRefused("a URL begins with https://, or with http:// where that is allowed")
    if url.userinfo:
        raise DestinationRefused("a URL carries no user and password: they belong into a header")
    host = host_of(url)
    if not host:
        raise DestinationRefused("the URL names no host")
    return host, url.port or PORTS[url.scheme]
