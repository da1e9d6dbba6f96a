"""The installation itself, for the few commands that cannot go over HTTP: they speak to its Redis."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from service import bootstrap
from service.dev.calls import CallError, Exit
from service.dev.redis_server import running_in
from service.dev.running import default_folder
from service.dev.stack import EXTERNAL
from service.engine import Engine, Unavailable
from service.settings import Settings, SettingsError


@asynccontextmanager
async def installation() -> AsyncGenerator[tuple[Settings, Engine]]:
    """The settings, and an engine on the Redis that they name: that of the development stack when they name none.

    Raises CallError when it does not answer.
    """
    settings = await asyncio.to_thread(_settings)
    engine = bootstrap.build_engine(settings)
    try:
        await engine.open()
        yield settings, engine
    except Unavailable:
        text = "Redis does not answer: start it, or say with ARQADE_REDIS_URL where it is"
        raise CallError(text, Exit.UNREACHABLE) from None
    finally:
        await engine.close()


def _settings() -> Settings:
    try:
        settings = Settings.load()
    except SettingsError as error:
        raise CallError(str(error), Exit.USAGE) from None
    if not any(os.environ.get(name) for name in EXTERNAL) and (url := running_in(default_folder() / "redis")):
        return settings.model_copy(update={"redis_url": SecretStr(url), "redis_username": None, "redis_password": None})
    return settings
