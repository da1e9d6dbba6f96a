"""From connection settings to pools, by redis-py's URL parser: percent-decoded credentials, checked host names."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import redis
from arq.connections import ArqRedis
from arq.connections import RedisSettings as ArqRedisSettings
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from service.engine.circuit import WatchedPool, WatchedSentinelPool
from service.engine.codec import decode, encode
from service.engine.links import LINKS

SOCKET_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is and how to speak to it. Durations in seconds. Nothing of it is shown by `repr`."""

    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_master: str = "mymaster"
    sentinel_password: str | None = field(default=None, repr=False)
    connect_timeout: float = 2.0
    socket_timeout: float = SOCKET_TIMEOUT
    max_connections: int = 64

    def target(self) -> dict[str, Any]:
        """Host, port, path, database and credentials."""
        parsed = cast("dict[str, Any]", dict(parse_url(self.url)))
        if self.username is not None:
            parsed["username"] = self.username
        if self.password is not None:
            parsed["password"] = self.password
        return parsed

    def _link(self) -> dict[str, Any]:
        """Timeouts, and for TLS what is checked of the peer."""
        target = self.target()
        link: dict[str, Any] = {
            "socket_timeout": self.socket_timeout,
            "socket_connect_timeout": self.connect_timeout,
            "health_check_interval": 15,
        }
        if target.get("connection_class") is not UnixDomainSocketConnection:
            link["socket_keepalive"] = True
        if target.get("connection_class") is SSLConnection:
            files = {
                "ssl_ca_certs": self.ca_file,
                "ssl_certfile": self.cert_file,
                "ssl_keyfile": self.key_file,
            }
            link |= {"ssl_check_hostname": True, "ssl_cert_reqs": "required", **files}
        return link

    def open_pool(self, *, watched: bool = False) -> ArqRedis:
        """A pooled client that speaks JSON. Connects when first used.

        `watched`: while Redis is away, calls fail at once; for who has callers of his own, not for a worker.
        """
        if self.sentinels:
            redis_ = self._sentinel_client(WatchedSentinelPool if watched else SentinelConnectionPool)
        else:
            options = {**self.target(), **self._link()}
            options["connection_class"] = LINKS[options.get("connection_class", Connection)]
            pool = (WatchedPool if watched else BlockingConnectionPool)(
                max_connections=self.max_connections,
                timeout=cast("Any", self.socket_timeout),
                **cast("Mapping[str, Any]", options),
            )
            redis_ = ArqRedis(pool_or_conn=pool)
            redis_.auto_close_connection_pool = True
        redis_.job_serializer, redis_.job_deserializer = encode, decode
        return redis_

    def _sentinel_client(self, pool_class: type[SentinelConnectionPool]) -> ArqRedis:
        options = {**self.target(), **self._link()}
        tls = options.pop("connection_class", None) is SSLConnection
        options = {k: v for k, v in options.items() if k not in {"host", "port"}}
        sentinel = Sentinel(
            list(self.sentinels),
            sentinel_kwargs={
                "password": self.sentinel_password,
                "socket_timeout": self.connect_timeout,
                "ssl": tls,
            },
            ssl=tls,
            **options,
        )
        chosen = {"redis_class": ArqRedis, "connection_pool_class": pool_class}
        return cast("ArqRedis", cast("Any", sentinel).master_for(self.sentinel_master, **chosen))

    def for_arq(self) -> "AddressSettings":
        """The same address as ARQ's settings object, which ARQ's own `--check` reads."""
        return AddressSettings.of(self)


class AddressSettings(ArqRedisSettings):
    """ARQ's RedisSettings that knows its full address, and shows no secret in `repr` (ARQ's shows the password)."""

    address: RedisAddress

    @classmethod
    def of(cls, address: RedisAddress) -> "AddressSettings":
        target = address.target()
        tls = target.get("connection_class") is SSLConnection
        settings = cls(
            host=list(address.sentinels) if address.sentinels else target.get("host", "localhost"),
            port=int(target.get("port", 6379)),
            unix_socket_path=target.get("path"),
            database=int(target.get("db", 0)),
            username=target.get("username"),
            password=target.get("password"),
            ssl=tls,
            ssl_ca_certs=address.ca_file,
            ssl_certfile=address.cert_file,
            ssl_keyfile=address.key_file,
            ssl_check_hostname=tls,
            conn_timeout=cast("int", address.connect_timeout),
            sentinel=bool(address.sentinels),
            sentinel_master=address.sentinel_master,
        )
        settings.address = address
        return settings

    def __repr__(self) -> str:
        return f"AddressSettings({self.address!r})"


async def fit_out(pool: ArqRedis, seconds: float = SOCKET_TIMEOUT) -> None:
    """Give a pool that ARQ opened what ours have: our links, and the timeout that ARQ leaves out.

    Without it, a link that went silent would hold it for ever. Sentinel's links stay as they are.
    """
    connections = cast("Any", pool.connection_pool)
    connections.connection_class = LINKS.get(connections.connection_class, connections.connection_class)
    if connections.connection_kwargs.get("socket_timeout") is None:
        connections.connection_kwargs["socket_timeout"] = seconds
    await connections.disconnect()
    connections.reset()


def blocking_twin(pool: ArqRedis) -> "redis.Redis":
    """A blocking client to the same server, for a thread that must not depend on the event loop."""
    source = cast("Any", pool.connection_pool)
    if isinstance(source, SentinelConnectionPool):
        return _blocking_sentinel(source)
    kind: type[Any] = redis.Connection
    if issubclass(source.connection_class, UnixDomainSocketConnection):
        kind = redis.UnixDomainSocketConnection
    elif issubclass(source.connection_class, SSLConnection):
        kind = redis.SSLConnection
    known = {name for cls in kind.__mro__ if cls is not object for name in inspect.signature(cls.__init__).parameters}
    options = {k: v for k, v in source.connection_kwargs.items() if k in known and k not in {"retry", "parser_class"}}
    options["socket_timeout"] = options.get("socket_timeout") or SOCKET_TIMEOUT
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind, max_connections=2, **options))


def _blocking_sentinel(source: Any) -> "redis.Redis":
    manager = source.sentinel_manager
    nodes = [node.connection_pool.connection_kwargs for node in manager.sentinels]
    options = {
        k: v for k, v in source.connection_kwargs.items() if k not in {"connection_pool", "retry", "host", "port"}
    }
    tls = issubclass(source.connection_class, SSLConnection)
    sentinel = redis.Sentinel(
        [(node["host"], node["port"]) for node in nodes],
        sentinel_kwargs=manager.sentinel_kwargs,
        ssl=tls,
        **options,
    )
    return cast("redis.Redis", cast("Any", sentinel).master_for(source.service_name))
