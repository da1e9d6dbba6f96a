"""The composition root: Settings → Redis → Engine, functions and files. The only importer of `jobs`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jobs
from jobs.cleanup import sweep_files
from service import telemetry
from service.attempt_lines import AttemptLines
from service.engine import (
    Catalogue,
    Engine,
    EngineOptions,
    FileStore,
    RedisAddress,
    WorkerOptions,
    arq_functions,
    for_arq,
    queue_key,
)
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
    return Catalogue.from_package(jobs).with_defaults(result_ttl=settings.result_ttl)


def build_engine(settings: Settings) -> Engine:
    """An engine that is not yet connected."""
    options = EngineOptions(
        result_ttl=settings.result_ttl, failed_ttl=settings.failed_ttl, events_kept=settings.events_kept
    )
    return Engine(redis_address(settings), load_catalogue(settings), options)


def build_files(settings: Settings) -> FileStore:
    """Where uploaded files lie."""
    return FileStore(settings.data_dir / "files", max_size=settings.max_upload)


def resources(settings: Settings) -> Iterable[tuple[str, Any]]:
    """What every worker opens for its functions, by the name under which ARQ's `ctx` holds it."""
    yield "files", build_files(settings)
    yield "upload_ttl", settings.upload_ttl


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

    async def on_startup(self, ctx: dict[Any, Any]) -> None:
        """Open what every function may use; ARQ calls it before the first job."""
        writer = telemetry.configure(self.settings)
        if self.settings.environment == "production":
            self.lines.attach(writer)
        ctx.update(resources(self.settings))


def build_worker_parts(settings: Settings | None = None) -> WorkerParts:
    """Everything a worker needs, from the environment unless given. Raises SettingsError."""
    settings = settings or Settings.load()
    lines = AttemptLines()
    options = WorkerOptions(
        queues=tuple(queue.name for queue in settings.queues),
        weights=tuple(queue.weight for queue in settings.queues if queue.weight is not None),
        lease=settings.lease,
        failed_ttl=settings.failed_ttl,
        events_kept=settings.events_kept,
        on_ended=lines,
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
