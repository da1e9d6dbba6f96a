"""A peer to call, with and without TLS, and a resolver that says what a test wants."""

import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.peer import Peer, make_certificate
from tests.peer import peer as make_peer


class Names:
    """A resolver: each host has a list of answers, and the last one stays."""

    def __init__(self, **hosts: list[list[str]]) -> None:
        self.hosts = hosts
        self.asked: list[str] = []

    async def __call__(self, host: str, _: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.hosts[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with make_peer() as made:
        yield made


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """For the host `peer`."""
    return make_certificate(tmp_path_factory.mktemp("certificate"), "peer")
