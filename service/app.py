"""The HTTP application: `uvicorn --factory service.app:create_app`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI

from service import bootstrap, telemetry
from service.api import problem_handlers
from service.api.bodies import BodyLimit
from service.api.docs import docs
from service.api.document import describe
from service.api.functions import functions
from service.api.health import health
from service.api.job_actions import job_actions
from service.api.jobs import jobs
from service.api.last_resort import LastResort
from service.api.local_only import LocalOnly, is_loopback
from service.api.request_id import RequestId
from service.api.routing import flat
from service.api.services import Services
from service.api.uploads import PATH as UPLOAD_PATH
from service.api.uploads import uploads
from service.engine import Unavailable
from service.settings import Settings, SettingsError
from service.version import VERSION

_log = structlog.stdlib.get_logger("app")


class Application(FastAPI):
    """FastAPI with our own OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(self)
        return self.openapi_schema


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; it connects when it is started, not here.

    Without `settings` it is the entry point of its process: it reads the environment and sets up logging.
    Raises SettingsError when it would serve other machines without keys.
    """
    if settings is None:
        settings = Settings.load()
        telemetry.configure(settings)
    if not settings.insecure and not is_loopback(settings.host):
        raise SettingsError(
            f"ARQADE_HOST={settings.host} would let everybody in, as there are no keys yet: "
            "serve on 127.0.0.1, or set ARQADE_INSECURE=1 where something else keeps strangers out"
        )
    app = Application(
        title="Arqade",
        description="Jobs in over HTTP, plain Python functions run them, results back over HTTP.",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(settings),
    )
    app.router.routes.extend(flat((jobs, job_actions, uploads, functions, health, docs)))
    problem_handlers.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, max_body=settings.max_body, streaming=frozenset({UPLOAD_PATH}))
    if not settings.insecure:
        app.add_middleware(LocalOnly)
    app.add_middleware(LastResort)
    app.add_middleware(telemetry.RequestLines)
    app.add_middleware(RequestId)
    return app


def _lifespan(settings: Settings) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        await asyncio.to_thread(settings.data_dir.mkdir, parents=True, exist_ok=True)
        engine = bootstrap.build_engine(settings)
        try:
            await engine.open()
        except Unavailable:
            _log.warning("redis_away", hint="serving anyway; /readyz tells when it is back")
        try:
            app.state.services = Services(engine, bootstrap.build_files(settings), settings)
            yield
        finally:
            await engine.close()

    return lifespan
