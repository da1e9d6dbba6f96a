"""Everything that can be set, in one frozen class. Read once by the composition root and passed in."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from service.engine import RESERVED_PREFIXES, check_name, seconds
from service.outgoing import AllowedHost, MailServer, split_address

PREFIX = "ARQADE_"

Seconds = Annotated[float, BeforeValidator(seconds)]


class ServedQueue(NamedTuple):
    """A queue that workers serve. `weight` None: in the order of the list."""

    name: str
    weight: int | None


def _served_queues(value: Any) -> Any:
    """`high,default` = strict order; `high=6,default=3` = in proportion."""
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    queues = tuple(part if isinstance(part, ServedQueue) else _served_queue(str(part)) for part in parts)
    if not queues or len({queue.weight is None for queue in queues}) > 1:
        raise ValueError("name at least one queue, and give each a weight (high=6,low=1) or none")
    return queues


def _served_queue(text: str) -> ServedQueue:
    name, separator, weight = text.partition("=")
    if separator and not (weight.isascii() and weight.isdigit() and int(weight) > 0):
        raise ValueError(f"'{text[:60]}': a weight is a whole number from 1")
    return ServedQueue(check_name(name, "queue"), int(weight) if separator else None)


def _listed(value: Any) -> list[Any]:
    """The parts of a list written with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)


def _allowed_hosts(value: Any) -> Any:
    return tuple(part if isinstance(part, AllowedHost) else AllowedHost.parse(str(part)) for part in _listed(value))


def _mailboxes(value: Any) -> Any:
    return tuple(mailbox for mailbox in map(str, _listed(value)) if split_address(mailbox))


def _cache_prefixes(value: Any) -> Any:
    """Prefixes of keys that are nobody's but the cache's: no key of ours may begin like one."""
    prefixes = tuple(str(part) for part in _listed(value))
    for prefix in prefixes:
        if any(reserved.startswith(prefix) or prefix.startswith(reserved) for reserved in RESERVED_PREFIXES):
            raise ValueError(f"'{prefix[:40]}': jobs themselves are kept below arq: and arqade:")
        if any(character in "*?[]\\" for character in prefix):
            raise ValueError(f"'{prefix[:40]}': a prefix is no pattern")
    return prefixes


def _queue_limits(value: Any) -> Any:
    """`100000` = of every queue; `bulk=500` = of that one, which may stand beside a number for all others."""
    if isinstance(value, dict):
        return cast("dict[str, int]", value)
    limits: dict[str, int] = {}
    for part in _listed(value):
        name, separator, number = str(part).rpartition("=")
        if not (number.isascii() and number.isdigit() and int(number) > 0):
            raise ValueError(f"'{str(part)[:60]}': a limit is a whole number from 1")
        limits[check_name(name, "queue") if separator else "*"] = int(number)
    return limits


class SettingsError(Exception):
    """The environment does not make a valid configuration; the text names each variable and what is wrong."""


class _SecretFiles(PydanticBaseSettingsSource):
    """`ARQADE_X_FILE=/run/secrets/x` sets the secret `x` to that file's content, without its last line break."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if path is None or "SecretStr" not in str(field.annotation):
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except OSError as error:
            raise SettingsError(f"{variable}: {error.strerror}: {path}") from None

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """Configuration from the environment, prefix `ARQADE_`. Durations take `90s`, `10m`, `2h`, `7d` or seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    environment: Literal["dev", "production"] = "production"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    data_dir: Path = Field(Path(".arqade"), description="uploads, and the embedded Redis of `dev`")

    # Redis
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// (TLS) or unix://; user and password in it",
    )
    redis_username: str | None = None
    redis_password: SecretStr | None = Field(None, description="wins over the one in the URL")
    redis_ca_file: Path | None = Field(None, description="CA bundle for rediss://; host names are always checked")
    redis_cert_file: Path | None = None
    redis_key_file: Path | None = None
    redis_sentinel: str | None = Field(
        None, description="host:port,host:port of Sentinels; the URL gives database and TLS"
    )
    redis_sentinel_master: str = "mymaster"
    redis_sentinel_password: SecretStr | None = None
    redis_connect_timeout: Seconds = 2.0
    redis_socket_timeout: Seconds = 5.0
    redis_max_connections: int = Field(64, ge=4)

    # worker
    queues: Annotated[tuple[ServedQueue, ...], NoDecode, BeforeValidator(_served_queues)] = Field(
        (ServedQueue("default", None),),
        description="`high,default`: the first is served first; `high=6,low=1`: by weight",
    )
    concurrency: int = Field(100, ge=1, le=100_000, description="jobs that one worker runs at a time")
    processes: int | None = Field(None, ge=1, le=1000, description="child processes of one worker; unset: one per CPU")
    jobs_per_process: int = Field(1000, ge=1, description="then a child process is replaced by a fresh one")
    nice: int = Field(
        10, ge=0, le=19, description="niceness of a worker: how far it steps back for what runs beside it"
    )
    lease: Seconds = Field(15.0, ge=1, description="a dead worker's job starts again after this long")
    grace_period: Seconds = Field(25.0, description="SIGTERM lets running jobs finish for this long")
    poll: Seconds = Field(1.0, gt=0, description="safety net for jobs of stock ARQ clients; ours are pushed")

    # enqueue
    max_pending: Annotated[dict[str, int], NoDecode, BeforeValidator(_queue_limits)] = Field(
        {}, description="unfinished jobs that a queue may hold: `100000`, or by queue: `100000,bulk=500000`"
    )

    # what functions may reach
    http_allow_hosts: Annotated[tuple[AllowedHost, ...], NoDecode, BeforeValidator(_allowed_hosts)] = Field(
        (), description="hosts and networks that may be called though internal or without TLS: `db,10.1.0.0/16,::1`"
    )
    mail_from: str | None = Field(None, description="the address that mail comes from")
    smtp_url: SecretStr | None = Field(
        None, description="smtp://user:password@host?tls=starttls (or none), smtps://; `ca_file=PATH` if need be"
    )
    report_to: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_mailboxes)] = Field(
        (), description="who gets `daily_report` by mail: `Ada <ada@example.org>,ops@example.org`"
    )
    cache_url: SecretStr | None = Field(None, description="Redis that `invalidate_cache` works on, if not this one")
    cache_prefixes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_cache_prefixes)] = Field(
        (), description="`shop:,page:`: what it may delete; nothing unless set"
    )

    # retention
    result_ttl: Seconds = Field(86_400.0, description="how long a succeeded job and its result are kept")
    failed_ttl: Seconds = Field(14 * 86_400.0, description="how long a failed, cancelled or expired job is kept")
    events_kept: int = Field(20_000, ge=100, description="entries of the event stream that are kept")
    upload_ttl: Seconds = Field(86_400.0, description="how long an uploaded file is kept")

    # HTTP
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    insecure: bool = Field(False, description="serve off loopback without keys")
    require_keys: bool = Field(False, description="every call needs a key, on loopback too")
    secret: SecretStr | None = Field(
        None, description="seals sensitive arguments and what is stored of keys; a change makes both invalid"
    )
    rate_limit: float | None = Field(None, gt=0, description="calls per second and key, in each API process")
    max_body: int = Field(256 * 1024, ge=1024, description="bytes of a JSON body")
    max_streams: int = Field(500, ge=1, description="event streams that one API process serves at a time")
    max_streams_per_caller: int = Field(100, ge=1, description="those of one key; without keys, of all callers")
    max_batch_body: int = Field(16 * 1024 * 1024, ge=1024, description="bytes of a batch of jobs")
    body_timeout: Seconds = Field(
        30.0, gt=0, description="within which a JSON body, and each 64 KiB of an upload, must come in"
    )
    max_upload: int = Field(1024 * 1024 * 1024, ge=1, description="bytes of an uploaded file")

    @field_validator("redis_url", "cache_url")
    @classmethod
    def _known_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url

    @field_validator("mail_from")
    @classmethod
    def _one_address(cls, sender: str | None) -> str | None:
        return None if sender is None else split_address(sender) and sender

    @field_validator("smtp_url")
    @classmethod
    def _whole_mail_server(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is not None:
            if not info.data.get("mail_from"):
                raise ValueError("needs ARQADE_MAIL_FROM beside it")
            MailServer.parse(url.get_secret_value(), info.data["mail_from"])
        return url

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment. Raises SettingsError that names every wrong variable and never shows a value."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            lines = (f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors(include_input=False))
            raise SettingsError("\n".join(lines)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SecretFiles(settings_cls)


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + str(location[0]).upper() if location else f"{PREFIX}*"
