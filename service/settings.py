"""Everything that can be set, in one frozen class. Read once by the composition root and passed in."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from service.engine import check_name, seconds

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
    lease: Seconds = Field(15.0, ge=1, description="a dead worker's job starts again after this long")
    grace_period: Seconds = Field(25.0, description="SIGTERM lets running jobs finish for this long")
    poll: Seconds = Field(1.0, gt=0, description="safety net for jobs of stock ARQ clients; ours are pushed")

    # retention
    result_ttl: Seconds = Field(86_400.0, description="how long a succeeded job and its result are kept")
    failed_ttl: Seconds = Field(14 * 86_400.0, description="how long a failed, cancelled or expired job is kept")
    events_kept: int = Field(20_000, ge=100, description="entries of the event stream that are kept")
    upload_ttl: Seconds = Field(86_400.0, description="how long an uploaded file is kept")

    # HTTP
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    insecure: bool = Field(False, description="serve off loopback without keys")
    max_body: int = Field(256 * 1024, ge=1024, description="bytes of a JSON body")
    max_upload: int = Field(1024 * 1024 * 1024, ge=1, description="bytes of an uploaded file")

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
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
