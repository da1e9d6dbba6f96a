"""Where no key is needed, only this machine is served, and no web page can talk to it behind its user's back."""

import asyncio
import socket

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Message

from service.api.door import needs_keys
from service.api.local_only import LocalOnly, is_loopback
from service.settings import Settings
from tests.api.conftest import Serve


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "arqade.example.com"])
def test_others_need_a_key_unless_told_otherwise(host: str) -> None:
    assert needs_keys(Settings.load(host=host))
    assert not needs_keys(Settings.load(host=host, insecure=True))
    assert needs_keys(Settings.load(host=host, insecure=True, require_keys=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert not needs_keys(Settings.load(host=host))


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[", "a@b"])
async def test_a_name_that_resolves_to_loopback_is_not_enough(api: httpx.AsyncClient, host: str) -> None:
    answer = await api.get("/livez", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "not-local")


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "[::1]:8000", "127.0.0.1:1"])
async def test_names_of_this_machine(api: httpx.AsyncClient, host: str) -> None:
    assert (await api.get("/livez", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_another_site_cannot_write(api: httpx.AsyncClient, origin: str) -> None:
    for path in ("/v1/uploads", "/v1/jobs", "/v1/jobs/job_1/cancel"):
        answer = await api.post(path, content=b"x", headers={"origin": origin})
        assert (answer.status_code, answer.json()["code"]) == (403, "not-local")
    assert (await api.get("/livez", headers={"origin": origin})).status_code == 200


async def test_our_own_page_can(api: httpx.AsyncClient) -> None:
    origin = str(api.base_url).rstrip("/")
    assert (await api.post("/v1/uploads", content=b"x", headers={"origin": origin})).status_code == 201


def own_address() -> str | None:
    """An address of this machine that is not loopback. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(("address", "status"), [("192.168.1.5", 403), ("::ffff:10.0.0.1", 403), ("127.0.0.1", 200)])
async def test_what_comes_in_on_another_address_is_refused(address: str, status: int) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": "/livez", "server": (address, 8000), "headers": headers}
    await LocalOnly(Response("in"))(scope, receive, send)
    assert sent[0]["status"] == status


async def test_a_server_that_was_bound_elsewhere_refuses_all(serve: Serve) -> None:
    address = own_address()
    if address is None or is_loopback(address):
        return  # a machine without a network; the test above has shown the rule
    api = await serve(host=address)
    answer = await api.get("/livez", headers={"host": "localhost"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not-local")
    open_to_all = await serve(host=address, insecure=True)
    assert (await open_to_all.get("/livez")).status_code == 200


async def test_a_request_without_a_host(api: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(b"GET /livez HTTP/1.0\r\n\r\n")
    assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()
