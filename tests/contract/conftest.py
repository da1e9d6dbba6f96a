"""Fixtures of the wire contract."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from arq.connections import ArqRedis

from tests.contract.parties import JSON, Parties


@pytest.fixture
async def parties(redis_url: str) -> AsyncIterator[Parties]:
    """Stock ARQ and ours, on the test's Redis."""
    async with AsyncExitStack() as exits:
        yield Parties(redis_url, exits)


@pytest.fixture
async def client(parties: Parties) -> ArqRedis:
    """A stock client that writes JSON, as a team does that shares queues with us."""
    return await parties.client(**JSON)


@pytest.fixture
async def pickling(parties: Parties) -> ArqRedis:
    """A stock client as it comes: with pickle."""
    return await parties.client()
