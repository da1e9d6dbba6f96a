"""`arqade worker`: run a worker; `arqade worker …`: look at those that run, and tell one to stop."""

import os
import sys
from typing import Final, NoReturn

import click

from service.commands.ending import end_with
from service.commands.output import JSON_FLAG
from service.commands.showing import Table, show, show_list
from service.dev.calls import Fields, segment

_SETTINGS: Final = "worker_settings.WorkerSettings"


def _row(one: Fields) -> tuple[object, ...]:
    names = ("id", "state", "host", "pid", "running", "slots")
    return (*(one[name] for name in names), ",".join(one["queues"]), one["seen_at"])


_TABLE: Final = Table(("worker", "state", "host", "pid", "running", "slots", "queues", "seen"), _row)


class _WorkerCommand(click.Group):
    """A group whose name alone is a command too: what is none of its commands is for ARQ."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "run", run, args


@click.group(
    cls=_WorkerCommand,
    invoke_without_command=True,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    subcommand_metavar="[--burst | --check | --watch DIR | COMMAND]",
)
@click.pass_context
def worker(context: click.Context) -> None:
    """Run a worker, or see those that run and tell one to stop.

    Without a command it runs one: the same as `arq worker_settings.WorkerSettings`, which takes what follows.
    """
    if context.invoked_subcommand is None:
        _become_worker(())


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run a worker."""
    _become_worker(arguments)


def _become_worker(arguments: tuple[str, ...]) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", "arq", _SETTINGS, *arguments])  # noqa: S606  # becomes the worker


@worker.command("list")
@JSON_FLAG
def list_workers(*, as_json: bool) -> None:
    """Print every worker that lives."""
    end_with(show_list("/v1/workers", _TABLE, as_json=as_json))


@worker.command()
@click.argument("worker_id")
@JSON_FLAG
def drain(worker_id: str, *, as_json: bool) -> None:
    """Tell a worker to finish what it runs and end."""
    end_with(show("POST", f"/v1/workers/{segment(worker_id)}/drain", _TABLE, as_json=as_json))


@worker.command()
@click.argument("worker_id")
@JSON_FLAG
def quiet(worker_id: str, *, as_json: bool) -> None:
    """Tell a worker to take no new jobs."""
    end_with(show("POST", f"/v1/workers/{segment(worker_id)}/quiet", _TABLE, as_json=as_json))


@worker.command()
@click.argument("worker_id")
@JSON_FLAG
def unquiet(worker_id: str, *, as_json: bool) -> None:
    """Tell a worker to take jobs again."""
    end_with(show("POST", f"/v1/workers/{segment(worker_id)}/unquiet", _TABLE, as_json=as_json))
