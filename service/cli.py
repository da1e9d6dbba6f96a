"""The command line. Data goes to stdout, messages to stderr; each command imports what is heavy by itself.

Exit codes: 0 ok, 1 error, 2 usage or a value that does not fit, 3 job failed, 4 not allowed, 5 not found, 6 conflict,
7 unreachable, 8 job cancelled or expired, 124 waited for too long.
"""

import sys
from collections.abc import Coroutine, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

if TYPE_CHECKING:
    import uvicorn

    from service.settings import Settings


LATE: Final[Mapping[str, str]] = {
    "doctor": "Look for what is wrong, and say how to mend it.",
    "job": "Look at a job, wait for it, cancel it, run it again.",
    "key": "Make, list and revoke the keys that callers need.",
    "queue": "See how the queues stand; pause, resume and purge them.",
    "run": "Enqueue a job, its arguments as flags.",
    "schedule": "See what is enqueued again and again; make a schedule, pause it, run it now.",
    "worker": "Run a worker, or see those that run and tell one to stop.",
}
"""Commands in modules of service/commands that are loaded when they are used, and what `--help` says of them."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from service.version import VERSION

    click.echo(f"arqade {VERSION}")
    context.exit()


class _Commands(click.Group):
    """Knows the late commands by name, so that `--help` and the quick ones do not wait for their modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LATE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LATE:
            return getattr(import_module(f"service.commands.{cmd_name}"), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        helps = {name: command.get_short_help_str(100) for name, command in self.commands.items()} | dict(LATE)
        with formatter.section("Commands"):
            formatter.write_dl(sorted(helps.items()))


@click.group("arqade", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version)
def main() -> None:
    """Arqade: jobs in over HTTP, plain Python functions run them, results back over HTTP."""


@main.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    envvar="ARQADE_PORT",
    help="If it is taken, the next free one.",
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
@click.argument("file", type=_FILE, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the job's result as it is.")
def demo(file: Path | None, *, as_json: bool) -> None:
    """Summarise a CSV file (default: one that comes along) with a real job on a real worker."""
    from service.commands.ending import end_with
    from service.dev.command import STACK_ERRORS, cancel_on_signal
    from service.dev.demo import SHIPPED, demonstrate
    from service.dev.running import default_folder
    from service.dev.stack import Options

    async def run() -> int:
        cancel_on_signal()
        return await demonstrate(file or SHIPPED, Options(default_folder(), reload=False), as_json=as_json)

    try:
        end_with(run())
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
    from service.first_key import check_keys
    from service.settings import Settings, SettingsError

    try:
        settings = Settings.load()
        _run(check_keys(settings))
        server = _server(settings)
        server.config.load()  # makes the application: what is wrong with it is said here
    except SettingsError as error:
        _fail(str(error))
    _serve(server, fd)


@main.command()
def openapi() -> None:
    """Print the OpenAPI document of the API, with a path for each function in jobs/."""
    from service.api.document import as_text
    from service.app import create_app
    from service.settings import Settings, SettingsError

    try:
        sys.stdout.write(as_text(create_app(Settings.load()).openapi()))
    except SettingsError as error:
        _fail(str(error))


def _run(calling: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    try:
        return asyncio.run(calling)
    except (asyncio.CancelledError, KeyboardInterrupt):
        _fail("stopped before it was done")


def _fail(text: str) -> NoReturn:
    from service.commands.ending import fail

    fail(text)


def _server(settings: "Settings") -> "uvicorn.Server":
    import uvicorn

    from service.api.heads import HeadGuard

    config = uvicorn.Config(
        "service.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=HeadGuard,
        ws="none",
        lifespan="on",
        log_config=None,  # the application's own logs say it all
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _heard(number: int, frame: object) -> None:
    """Nothing is left to do."""


def _serve(server: "uvicorn.Server", fd: int | None) -> None:
    import signal
    import socket

    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises it again when it has stopped; that was all of it
        signal.signal(number, _heard)
    try:
        server.run(sockets=None if fd is None else [socket.socket(fileno=fd)])
    except SystemExit as end:  # uvicorn's code for a failed start means something else here
        sys.exit(1 if end.code else 0)
    if not server.started:
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="arqade")
