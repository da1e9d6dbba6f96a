"""URLs that strangers choose: what they lead to is checked, and what was checked is what is connected to."""

import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.outgoing import AllowedHost, DestinationRefused, Destinations, Outgoing, check_url
from tests.outgoing.conftest import Names
from tests.peer import Peer
from tests.peer import peer as make_peer

LOOPBACK = (AllowedHost.parse("127.0.0.1"),)


async def get(outgoing: Outgoing, url: str, **options: str) -> httpx.Response:
    async with outgoing.client(5) as client:
        return await client.get(url, headers=options)


async def test_this_machine_is_not_to_be_reached(peer: Peer) -> None:
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "localhost."):
        with pytest.raises(DestinationRefused, match="not on the public internet"):
            await get(Outgoing(), f"https://{host}:{peer.port}/")
    assert peer.connections == 0


async def test_what_is_allowed_is_reached_also_without_tls(peer: Peer) -> None:
    response = await get(Outgoing(LOOPBACK), f"http://127.0.0.1:{peer.port}/a?b=c")

    assert response.status_code == 200
    assert (peer.asked[0].method, peer.asked[0].target) == ("GET", "/a?b=c")
    assert peer.asked[0].headers["host"] == f"127.0.0.1:{peer.port}"
    assert peer.asked[0].headers["user-agent"].startswith("Arqade/")
    assert peer.asked[0].headers["connection"] == "close"


async def test_the_checked_address_is_the_one_that_is_called(peer: Peer) -> None:
    """Were the name looked up again for the connection, the real `localhost` would answer."""
    names = Names(localhost=[["127.0.0.2"], ["127.0.0.1"]])
    outgoing = Outgoing([AllowedHost.parse("127.0.0.2")], resolve=names)

    with pytest.raises(httpx.ConnectError):
        await get(outgoing, f"http://localhost:{peer.port}/")

    assert (names.asked, peer.connections) == (["localhost"], 0)


async def test_a_name_is_checked_again_for_each_request(peer: Peer) -> None:
    names = Names(moving=[["127.0.0.1"], ["127.0.0.3"]])
    async with Outgoing(LOOPBACK, resolve=names).client(5) as client:
        assert (await client.get(f"http://moving:{peer.port}/")).status_code == 200
        with pytest.raises(DestinationRefused):
            await client.get(f"http://moving:{peer.port}/")
    assert peer.connections == 1


async def test_one_closed_address_among_public_ones_is_enough_to_refuse(peer: Peer) -> None:
    for addresses in (["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1111", "fe80::1%eth0"]):
        with pytest.raises(DestinationRefused):
            await get(Outgoing(resolve=Names(mixed=[addresses])), f"https://mixed:{peer.port}/")
    assert peer.connections == 0


async def test_the_next_address_is_tried_when_the_first_does_not_answer(peer: Peer) -> None:
    names = Names(two=[["127.0.0.9", "127.0.0.1"]])
    outgoing = Outgoing([AllowedHost.parse("127.0.0.0/8")], resolve=names)
    async with outgoing.client(5) as client:
        response = await client.post(f"http://two:{peer.port}/", content=b"body")

    assert (response.status_code, peer.asked[0].body) == (200, b"body")
    assert peer.asked[0].headers["host"] == f"two:{peer.port}"


async def test_a_public_host_is_called_with_tls_only(peer: Peer) -> None:
    with pytest.raises(DestinationRefused, match="without TLS"):
        await get(Outgoing(resolve=Names(public=[["8.8.8.8"]])), f"http://public:{peer.port}/")


async def test_tls_asks_for_the_host_and_verifies_it(certificate: tuple[Path, ssl.SSLContext]) -> None:
    authority, server = certificate
    names = Names(peer=[["127.0.0.1"]], other=[["127.0.0.1"]])
    outgoing = Outgoing(LOOPBACK, resolve=names, tls=ssl.create_default_context(cafile=authority))
    async with make_peer(server) as made, outgoing.client(5) as client:
        assert (await client.get(f"https://peer:{made.port}/")).status_code == 200
        assert made.asked[0].headers["host"] == f"peer:{made.port}"
        # The same address and port: an open connection must not be taken for that of the other host.
        with pytest.raises(httpx.ConnectError, match="certificate is not valid for 'other'"):
            await client.get(f"https://other:{made.port}/")
        assert made.names == ["peer", "other"]
        assert len(made.asked) == 1


async def test_a_certificate_that_nobody_knows_is_refused(certificate: tuple[Path, ssl.SSLContext]) -> None:
    async with make_peer(certificate[1]) as made:
        with pytest.raises(httpx.ConnectError, match="self-signed"):
            await get(Outgoing(LOOPBACK, resolve=Names(peer=[["127.0.0.1"]])), f"https://peer:{made.port}/")


async def test_redirects_proxies_and_cookies_are_not_followed_used_or_kept(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    peer.will("302 Found", location="http://127.0.0.1:9/", set_cookie="a=b")
    outgoing = Outgoing(LOOPBACK)

    assert (await get(outgoing, f"http://127.0.0.1:{peer.port}/")).status_code == 302
    await get(outgoing, f"http://127.0.0.1:{peer.port}/")

    assert len(peer.asked) == 2
    assert "cookie" not in peer.asked[1].headers


@pytest.mark.parametrize(
    ("entry", "url", "lets_through"),
    [
        ("db.internal", "http://db.internal/", True),
        ("db.internal", "http://DB.internal./", True),
        ("db.internal", "http://x.db.internal/", False),
        ("db.internal:81", "http://db.internal:81/", True),
        ("db.internal:81", "http://db.internal/", False),
        ("10.0.0.0/8", "http://db.internal/", True),
        ("10.1.0.0/16", "http://db.internal/", False),
        ("10.0.0.7:80", "http://db.internal/", True),
        ("10.0.0.7:81", "http://db.internal/", False),
        ("bücher.internal", "http://xn--bcher-kva.internal/", True),
    ],
)
async def test_entries_of_the_allow_list(entry: str, url: str, *, lets_through: bool) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) != ("", 0)
        return ["10.0.0.7"]

    destinations = Destinations([AllowedHost.parse(entry)], resolve)
    if lets_through:
        assert [str(address) for address in await destinations.addresses(httpx.URL(url))] == ["10.0.0.7"]
    else:
        with pytest.raises(DestinationRefused):
            await destinations.addresses(httpx.URL(url))


@pytest.mark.parametrize(
    "text", ["", "a b", "host:0", "host:x", "host:99999", "http://host", "host/path", "u@host", "10.0.0.0/8:80/x"]
)
def test_an_entry_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name a host|Invalid"):
        AllowedHost.parse(text)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "https://",
        "https://user:pw@example.com/",
        "https://a@b@c/",
        "//x",
    ],
)
def test_urls_that_lead_nowhere_are_refused_without_asking_the_network(url: str) -> None:
    with pytest.raises(DestinationRefused):
        check_url(url)


SPELLINGS = [
    *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0"),
    *("0.0.0.0", "localhost", "LOCALHOST", "loc%61lhost", "127.0.0.1%00", "127。0。0。1", "①②⑦.⓪.⓪.①"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[::1%25lo]", "[::1%lo]"),
]
DISGUISES: list[Callable[[str], str]] = [
    lambda host: host,
    lambda host: f"{host}.",
    lambda host: f"example.com@{host}",
    lambda host: f"user:pw@{host}",
    lambda host: f"{host}#@example.com",
    lambda host: f"{host}\\@example.com",
    lambda host: f"example.com%2f@{host}",
    lambda host: f" {host}",
    lambda host: f"\t{host}\n",
]


@given(st.sampled_from(SPELLINGS), st.sampled_from(DISGUISES), st.sampled_from(["http", "https", "HTTPS"]))
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_spelling_of_this_machine_gets_through(
    peer: Peer, host: str, spelled: Callable[[str], str], scheme: str
) -> None:
    before, _, after = spelled(host).partition("#")
    url = f"{scheme}://{before}:{peer.port}/" + (f"#{after}" if after else "")
    with pytest.raises((DestinationRefused, httpx.InvalidURL, httpx.ConnectError)):
        await get(Outgoing(), url)
    assert peer.connections == 0
