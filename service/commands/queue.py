"""`arqade queue …`: how the queues stand; pause, resume and purge them."""

import sys
from typing import Final, cast

import click

from service.commands.ending import end_with
from service.commands.output import JSON_FLAG
from service.commands.showing import Table, show, show_list
from service.dev.calls import Fields, segment

_NAME: Final = click.argument("name")


def _row(one: Fields) -> tuple[object, ...]:
    depth, paused = one["depth"], cast("Fields | None", one["paused"])
    reason = "" if paused is None else paused["reason"] or "yes"
    return (one["name"], *(depth[part] for part in ("due", "running", "scheduled")), one["latency_s"], one["workers"],
            reason)  # fmt: skip


_TABLE: Final = Table(("queue", "due", "running", "scheduled", "latency s", "workers", "paused"), _row)
_PURGED: Final = Table(("queue", "purged"), lambda one: (one["queue"], one["purged"]))


@click.group()
def queue() -> None:
    """See how the queues stand; pause, resume and purge them."""


@queue.command("list")
@JSON_FLAG
def list_queues(*, as_json: bool) -> None:
    """Print every queue."""
    end_with(show_list("/v1/queues", _TABLE, as_json=as_json))


@queue.command()
@_NAME
@click.option("--reason", help="Shown wherever the queue is.")
@JSON_FLAG
def pause(name: str, reason: str | None, *, as_json: bool) -> None:
    """Start no more of a queue's jobs; running ones go on."""
    body = {"reason": reason} if reason else {}
    end_with(show("POST", f"/v1/queues/{segment(name)}/pause", _TABLE, as_json=as_json, json=body))


@queue.command()
@_NAME
@JSON_FLAG
def resume(name: str, *, as_json: bool) -> None:
    """Start a queue's jobs again."""
    end_with(show("POST", f"/v1/queues/{segment(name)}/resume", _TABLE, as_json=as_json))


@queue.command()
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON_FLAG
def purge(name: str, *, yes: bool, as_json: bool) -> None:
    """Cancel every job that waits in a queue; running ones go on."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("without a terminal to ask at, say --yes")
        click.confirm(f"Cancel every job that waits in '{name}'?", abort=True, err=True)
    # Thousands of jobs a second: a very long queue takes longer than any other call.
    path, body = f"/v1/queues/{segment(name)}/purge", {"confirm": name}
    end_with(show("POST", path, _PURGED, as_json=as_json, json=body, timeout=None))
