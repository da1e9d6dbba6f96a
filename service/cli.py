"""The command line. Data goes to stdout, messages to stderr; each command imports what is heavy by itself.

Exit codes: 0 ok, 1 error, 2 usage, 3 job failed, 4 not allowed, 5 not found, 6 conflict, 7 unreachable,
8 job cancelled or expired, 124 waited for too long.
"""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    import uvicorn

    from service.settings import Settings


_WORKER = "worker_settings.WorkerSettings"
_FOLDER = click.Path(exists=True, dir_okay=False, path_type=Path)


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from service.version import VERSION

    click.echo(f"arqade {VERSION}")
    context.exit()


@click.group("arqade", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version)
def main() -> None:
    """Arqade: jobs in over HTTP, plain Python functions run them, results back over HTTP."""


@main.command()
@click.option(
    "--port", default=8000, show_default=True, envvar="ARQADE_PORT", help="If it is taken, the next free one."
)
@click.option("--ephemeral", is_flag=True, help="Keep nothing: data lives in a temporary folder.")
@click.option("--reload/--no-reload", default=True, show_default=True, help="Restart when a file in jobs/ changes.")
def dev(port: int, *, ephemeral: bool, reload: bool) -> None:
    """Run Redis, the API and a worker on this machine, until Ctrl-C."""
    from service.dev.command import STACK_ERRORS, develop
    from service.dev.running import default_folder
    from service.dev.stack import Options

    try:
        _run(develop(Options(default_folder(), port, ephemeral, reload)))
    except STACK_ERRORS as error:
        _fail(str(error))


@main.command()
@click.argument("file", type=_FOLDER, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the job's result as it is.")
def demo(file: Path | None, *, as_json: bool) -> None:
    """Summarise a CSV file (default: one that comes along) with a real job on a real worker."""
    from service.dev.calls import CallError
    from service.dev.command import STACK_ERRORS, cancel_on_signal
    from service.dev.demo import SHIPPED, demonstrate
    from service.dev.running import default_folder
    from service.dev.stack import Options

    async def run() -> int:
        cancel_on_signal()
        return await demonstrate(file or SHIPPED, Options(default_folder(), reload=False), as_json=as_json)

    try:
        sys.exit(_run(run()))
    except CallError as error:
        _fail(str(error), error.code)
    except STACK_ERRORS as error:
        _fail(str(error))


@main.command()
@click.option("--host", help="Where to listen (ARQADE_HOST).")
@click.option("--port", type=int, help="Where to listen (ARQADE_PORT).")
@click.option("--fd", type=int, help="Serve on this listening socket, inherited from whoever started the command.")
@click.option("--insecure", is_flag=True, help="Serve off loopback, where anybody who reaches it may use it.")
def serve(host: str | None, port: int | None, fd: int | None, *, insecure: bool) -> None:
    """Serve the HTTP API."""
    import os

    asked = {"HOST": host, "PORT": port, "INSECURE": "1" if insecure else None}
    os.environ.update({f"ARQADE_{name}": str(value) for name, value in asked.items() if value is not None})
    from service.settings import Settings, SettingsError

    try:
        server = _server(Settings.load())
        server.config.load()  # makes the application, which may refuse to serve like that
    except SettingsError as error:
        _fail(str(error))
    _serve(server, fd)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """Run a worker: the same as `arq worker_settings.WorkerSettings`, which also says what may follow."""
    import os

    os.execv(sys.executable, [sys.executable, "-m", "arq", _WORKER, *arguments])  # noqa: S606  # becomes the worker


@main.group()
def job() -> None:
    """Look at jobs, over HTTP."""


@job.command("get")
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="The whole job, as it is.")
def get_job(job_id: str, *, as_json: bool) -> None:
    """Print a job."""
    from service.dev.job_commands import get

    _call(get(job_id, as_json=as_json))


@job.command("wait")
@click.argument("job_id")
@click.option("--timeout", type=float, help="Seconds after which to give up, with exit code 124.")
@click.option("--json", "as_json", is_flag=True, help="The whole job, as it is.")
def wait_for_job(job_id: str, timeout: float | None, *, as_json: bool) -> None:
    """Wait until a job is done and print it; the exit code tells how it ended."""
    from service.dev.job_commands import wait

    _call(wait(job_id, timeout=timeout, as_json=as_json))


def _call(calling: Coroutine[Any, Any, int]) -> NoReturn:
    from service.dev.calls import CallError

    try:
        sys.exit(_run(calling))
    except CallError as error:
        _fail(str(error), error.code)


def _run(calling: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    try:
        return asyncio.run(calling)
    except (asyncio.CancelledError, KeyboardInterrupt):
        _fail("stopped before it was done")


def _fail(text: str, code: int = 1) -> NoReturn:
    click.echo(f"arqade: {text}", err=True)
    sys.exit(code)


def _server(settings: "Settings") -> "uvicorn.Server":
    import uvicorn

    config = uvicorn.Config(
        "service.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,  # the application's own logs say it all
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _serve(server: "uvicorn.Server", fd: int | None) -> None:
    import socket

    try:
        server.run(sockets=None if fd is None else [socket.socket(fileno=fd)])
    except SystemExit as end:  # uvicorn's code for a failed start means something else here
        sys.exit(1 if end.code else 0)
    if not server.started:
        sys.exit(1)


if __name__ == "__main__":
    main()
