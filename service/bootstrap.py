"""The composition root: Settings → Redis → Engine, functions and files. The only importer of `jobs`."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jobs
from jobs.cleanup import sweep_files
from jobs.daily_report import REPORT_TO
from jobs.invalidate_cache import Cache
from service import telemetry
from service.attempt_lines import AttemptLines
from service.engine import (
    Catalogue,
    Engine,
    EngineOptions,
    FileStore,
    RedisAddress,
    Vault,
    WorkerOptions,
    arq_functions,
    for_arq,
    queue_key,
)
from service.outgoing import MailServer, Outgoing
from service.settings import Settings


def redis_address(settings: Settings) -> RedisAddress:
    """Where Redis is, from the settings."""
    return RedisAddress(
        url=settings.redis_url.get_secret_value(),
        username=settings.redis_username,
        password=settings.redis_password.get_secret_value() if settings.redis_password else None,
        ca_file=_text(settings.redis_ca_file),
        cert_file=_text(settings.redis_cert_file),
        key_file=_text(settings.redis_key_file),
        sentinels=tuple(_host_port(part) for part in (settings.redis_sentinel or "").split(",") if part),
        sentinel_master=settings.redis_sentinel_master,
        sentinel_password=settings.redis_sentinel_password.get_secret_value()
        if settings.redis_sentinel_password
        else None,
        connect_timeout=settings.redis_connect_timeout,
        socket_timeout=settings.redis_socket_timeout,
        max_connections=settings.redis_max_connections,
    )


def _text(path: Any) -> str | None:
    return str(path) if path is not None else None


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    return (host, int(port)) if host else (text.strip(), 26379)


def load_catalogue(settings: Settings) -> Catalogue:
    """Every `@job` function in the package `jobs`, with the service's defaults."""
    catalogue = Catalogue.from_package(jobs).with_defaults(result_ttl=settings.result_ttl)
    secret = settings.secret.get_secret_value().encode() if settings.secret else b""
    return catalogue.sealing_with(Vault(secret)) if secret else catalogue


def build_engine(settings: Settings, catalogue: Catalogue | None = None) -> Engine:
    """An engine that is not yet connected; `catalogue` if it is loaded already."""
    options = EngineOptions(
        result_ttl=settings.result_ttl,
        failed_ttl=settings.failed_ttl,
        events_kept=settings.events_kept,
        secret=settings.secret.get_secret_value().encode() if settings.secret else b"",
        max_pending=settings.max_pending,
    )
    return Engine(redis_address(settings), load_catalogue(settings) if catalogue is None else catalogue, options)


def build_files(settings: Settings) -> FileStore:
    """Where uploaded files lie."""
    return FileStore(settings.data_dir / "files", max_size=settings.max_upload)


@asynccontextmanager
async def resources(settings: Settings) -> AsyncGenerator[dict[str, Any]]:
    """What every worker opens for its functions, by the name under which ARQ's `ctx` holds it."""
    opened: dict[str, Any] = {
        "files": build_files(settings),
        "upload_ttl": settings.upload_ttl,
        "outgoing": Outgoing(settings.http_allow_hosts),
        "engine": (engine := build_engine(settings)),
        REPORT_TO: settings.report_to,
    }
    if settings.smtp_url is not None and settings.mail_from is not None:
        opened["mail_server"] = MailServer.parse(settings.smtp_url.get_secret_value(), settings.mail_from)
    pool = cache_address(settings).open_pool()  # connects when it is first used
    try:
        yield opened | {"cache": Cache(pool, settings.cache_prefixes)}
    finally:
        await engine.close()
        await pool.aclose(close_connection_pool=True)


def cache_address(settings: Settings) -> RedisAddress:
    """Where `invalidate_cache` deletes: the Redis of the jobs, unless told otherwise."""
    if settings.cache_url is None:
        return redis_address(settings)
    return RedisAddress(
        url=settings.cache_url.get_secret_value(),
        connect_timeout=settings.redis_connect_timeout,
        socket_timeout=settings.redis_socket_timeout,
    )


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What `worker_settings.py` hands to ARQ, made from the settings."""

    settings: Settings
    functions: list[Any]
    sweep_files: Any
    redis_settings: Any
    queue_name: str
    options: WorkerOptions
    lines: AttemptLines
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def on_startup(self, ctx: dict[Any, Any]) -> None:
        """Open what every function may use; ARQ calls it before the first job."""
        writer = telemetry.configure(self.settings)
        if self.settings.environment == "production":
            self.lines.attach(writer)
        ctx.update(await self.opened.enter_async_context(resources(self.settings)))

    async def on_shutdown(self, _: dict[Any, Any]) -> None:
        """Close it again; ARQ calls it after the last job."""
        await self.opened.aclose()


def build_worker_parts(settings: Settings | None = None) -> WorkerParts:
    """Everything a worker needs, from the environment unless given. Raises SettingsError."""
    settings = settings or Settings.load()
    lines = AttemptLines()
    options = WorkerOptions(
        queues=tuple(queue.name for queue in settings.queues),
        weights=tuple(queue.weight for queue in settings.queues if queue.weight is not None),
        lease=settings.lease,
        nice=settings.nice,
        failed_ttl=settings.failed_ttl,
        events_kept=settings.events_kept,
        on_ended=lines,
        processes=settings.processes,
        jobs_per_child=settings.jobs_per_process,
        max_pending=settings.max_pending,
    )
    return WorkerParts(
        settings=settings,
        functions=arq_functions(load_catalogue(settings)),
        sweep_files=for_arq(sweep_files),
        redis_settings=redis_address(settings).for_arq(),
        queue_name=queue_key(settings.queues[0].name),
        options=options,
        lines=lines,
    )
