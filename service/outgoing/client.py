"""HTTP to where others name: each request goes to an address that was checked for it, whatever its name says later."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx

from service.outgoing.addresses import Address
from service.outgoing.destinations import AllowedHost, Destinations, Resolve, host_of, resolve
from service.version import VERSION

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for one address; a host may have several."""


class Outgoing:
    """Makes HTTP clients for URLs that come from outside. Nothing is shared between two of them but the rules.

    `tls` None: the usual certificates, or those that SSL_CERT_FILE names. Raises nothing and opens nothing until used.
    """

    def __init__(
        self,
        allowed: Sequence[AllowedHost] = (),
        *,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._destinations = Destinations(allowed, resolve)
        self._tls = tls

    @asynccontextmanager
    async def client(self, patience: float) -> AsyncGenerator[httpx.AsyncClient]:
        """A client with no memory, no proxy and no redirects; `patience` in seconds is for each wait, not for all.

        Its requests raise DestinationRefused, else what httpx's do.
        """
        if self._tls is None:  # reads hundreds of certificates
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        async with httpx.AsyncClient(
            transport=CheckedTransport(self._destinations, self._tls),
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": f"Arqade/{VERSION}"},
            timeout=httpx.Timeout(patience, connect=min(patience, CONNECT_TIMEOUT)),
        ) as client:
            yield client


class CheckedTransport(httpx.AsyncBaseTransport):
    """Puts the checked address into the URL; the host stays in the `Host` header and in what TLS asks for and verifies.

    So there is no second look-up that could answer otherwise (DNS rebinding). A connection serves one request: kept
    open, it would be taken for another host at the same address, whose certificate nobody has seen.
    """

    def __init__(self, destinations: Destinations, tls: ssl.SSLContext) -> None:
        self._destinations = destinations
        self._inner = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            addresses = await self._destinations.addresses(request.url)
        except OSError as error:
            raise httpx.ConnectError(f"{host_of(request.url)}: {error}", request=request) from error
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent: the next address may answer
        return await self._inner.handle_async_request(_pinned(request, addresses[-1]))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _pinned(request: httpx.Request, address: Address) -> httpx.Request:
    headers = request.headers.copy()
    headers["connection"] = "close"
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host_of(request.url)},
    )
