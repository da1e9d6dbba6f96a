"""The HTTP application: `uvicorn --factory service.app:create_app`."""

import asyncio
import atexit
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp

from service import bootstrap, telemetry
from service.api import problem_handlers
from service.api.audit_entries import audit_entries
from service.api.batches import PATH as BATCH_PATH
from service.api.batches import batches
from service.api.bodies import BodyGuard
from service.api.docs import docs
from service.api.document import describe
from service.api.door import RateHeaders, needs_keys
from service.api.enqueue import enqueue
from service.api.events import events
from service.api.functions import functions
from service.api.health import health
from service.api.job_actions import job_actions
from service.api.job_events import job_events
from service.api.job_logs import job_logs
from service.api.jobs import jobs
from service.api.keys import keys
from service.api.last_resort import LastResort
from service.api.local_only import LocalOnly
from service.api.queues import queues
from service.api.request_id import RequestId
from service.api.routing import flat
from service.api.schedule_actions import schedule_actions
from service.api.schedules import schedules
from service.api.services import Services
from service.api.uploads import PATH as UPLOAD_PATH
from service.api.uploads import uploads
from service.api.workers import workers
from service.applications import STATE
from service.engine import Catalogue, Unavailable
from service.first_key import refuse_without_a_key
from service.settings import Settings
from service.stopping import on_stop_signal
from service.version import VERSION

_log = structlog.stdlib.get_logger("app")
_NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own looks into the environment six times for each request."""
_ROUTERS: Final = (
    enqueue,
    jobs,
    job_actions,
    job_events,
    job_logs,
    batches,
    schedules,
    schedule_actions,
    uploads,
    functions,
    queues,
    workers,
    keys,
    events,
    audit_entries,
    health,
    docs,
)


class Application(FastAPI):
    """FastAPI with our own OpenAPI document, in which each function has a path of its own."""

    def __init__(self, catalogue: Catalogue, **options: Any) -> None:
        super().__init__(**options)
        self._catalogue = catalogue

    def build_middleware_stack(self) -> ASGIApp:
        """Ours alone around the routes: what FastAPI puts outside and inside of them is done by LastResort, BodyGuard
        and the few routes that need it, and each request would pay for it.
        """
        app: ASGIApp = ExceptionMiddleware(self.router, handlers=self.exception_handlers)
        for layer, positional, named in reversed(self.user_middleware):
            app = layer(app, *positional, **named)
        return app

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(self, sorted(self._catalogue, key=lambda function: function.name))
        return self.openapi_schema


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; it connects when it is started, not here.

    Without `settings` it is the entry point of its process: it reads the environment and sets up logging.
    """
    if settings is not None:
        return _build(settings)
    settings = Settings.load()
    app = _build(settings, telemetry.configure(settings))
    atexit.register(gc.unfreeze)  # what is frozen at the end, some extensions report as leaked
    gc.freeze()  # what is loaded by now stays; looking through it again and again costs a third of a batch's time
    return app


def _build(settings: Settings, lines: telemetry.LineWriter | None = None) -> FastAPI:
    catalogue = bootstrap.load_catalogue(settings)
    app = Application(
        catalogue,
        title="Arqade",
        description="Jobs in over HTTP, plain Python functions run them, results back over HTTP.",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(settings, catalogue),
        telemetry=_NO_TELEMETRY,
    )
    app.router.routes.extend(flat(_ROUTERS))
    problem_handlers.install(app)
    # The last one added is the outermost.
    app.add_middleware(
        BodyGuard,
        max_body=settings.max_body,
        timeout=settings.body_timeout,
        own_limits={UPLOAD_PATH: None, BATCH_PATH: settings.max_batch_body},
    )
    if not settings.insecure and not needs_keys(settings):
        app.add_middleware(LocalOnly)
    app.add_middleware(LastResort)
    if settings.rate_limit is not None:
        app.add_middleware(RateHeaders)
    app.add_middleware(telemetry.RequestLines, writer=lines if settings.environment == "production" else None)
    app.add_middleware(RequestId)
    return app


def _lifespan(settings: Settings, catalogue: Catalogue) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
        await asyncio.to_thread(settings.data_dir.mkdir, parents=True, exist_ok=True)
        engine = bootstrap.build_engine(settings, catalogue)
        try:
            await engine.open()
        except Unavailable:
            _log.warning("redis_away", hint="serving anyway; /readyz tells when it is back")
        try:
            await refuse_without_a_key(engine, settings)
            app.state.services = Services(engine, bootstrap.build_files(settings), settings)
            with on_stop_signal(engine.feed.stop):
                yield {STATE: engine}
        finally:
            await engine.close()

    return lifespan
