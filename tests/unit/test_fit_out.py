"""A pool that ARQ opened, for a team that gives a worker ARQ's own settings."""

from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from service.engine.connection import SOCKET_TIMEOUT, fit_out
from service.engine.links import LINKS


@pytest.mark.parametrize("kind", [Connection, UnixDomainSocketConnection, SSLConnection])
@pytest.mark.parametrize(("given", "kept"), [(None, SOCKET_TIMEOUT), (1.5, 1.5)])
async def test_it_gets_our_links_and_a_timeout(
    kind: type[AbstractConnection], given: float | None, kept: float
) -> None:
    pool = ArqRedis(pool_or_conn=ConnectionPool(connection_class=kind, socket_timeout=given))
    await fit_out(pool)
    link = cast("Any", pool.connection_pool).make_connection()
    assert (type(link), link.socket_timeout) == (LINKS[kind], kept)
    await pool.aclose()
