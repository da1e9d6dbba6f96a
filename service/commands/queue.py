"""`arqade queue …`: how the queues stand; pause, resume and purge them."""

import sys
from collections.abc import Sequence
from typing import Final, cast

import click

from service.commands.ending import end_with
from service.commands.output import JSON_FLAG, Fields, print_json, print_rows
from service.dev.calls import Exit, api, call, listed, segment

_NAME: Final = click.argument("name")
_HEADINGS: Final = ("queue", "due", "running", "scheduled", "latency s", "workers", "paused")


@click.group()
def queue() -> None:
    """See how the queues stand; pause, resume and purge them."""


@queue.command("list")
@JSON_FLAG
def list_queues(*, as_json: bool) -> None:
    """Print every queue."""
    end_with(_list(as_json=as_json))


@queue.command()
@_NAME
@click.option("--reason", help="Shown wherever the queue is.")
@JSON_FLAG
def pause(name: str, reason: str | None, *, as_json: bool) -> None:
    """Start no more of a queue's jobs; running ones go on."""
    end_with(_steer(f"/v1/queues/{segment(name)}/pause", {"reason": reason} if reason else {}, as_json=as_json))


@queue.command()
@_NAME
@JSON_FLAG
def resume(name: str, *, as_json: bool) -> None:
    """Start a queue's jobs again."""
    end_with(_steer(f"/v1/queues/{segment(name)}/resume", None, as_json=as_json))


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
    end_with(_purge(name, as_json=as_json))


async def _list(*, as_json: bool) -> Exit:
    async with api() as client:
        found = await listed(client, "/v1/queues")
    _print(found, as_json=as_json)
    return Exit.OK


async def _steer(path: str, body: Fields | None, *, as_json: bool) -> Exit:
    async with api() as client:
        now = cast("Fields", (await call(client, "POST", path, json=body)).json())
    if as_json:
        print_json(now)
    else:
        _print([now], as_json=False)
    return Exit.OK


async def _purge(name: str, *, as_json: bool) -> Exit:
    async with api() as client:
        # Thousands of jobs a second: a very long queue takes longer than any other call.
        answer = await call(client, "POST", f"/v1/queues/{segment(name)}/purge", json={"confirm": name}, timeout=None)
    done = cast("Fields", answer.json())
    print_json(done) if as_json else print_rows(("queue", "purged"), [(done["queue"], done["purged"])])
    return Exit.OK


def _print(queues: Sequence[Fields], *, as_json: bool) -> None:
    if as_json:
        print_json(queues)
        return
    print_rows(_HEADINGS, [_row(one) for one in queues])


def _row(one: Fields) -> tuple[object, ...]:
    depth, paused = one["depth"], cast("Fields | None", one["paused"])
    reason = "" if paused is None else paused["reason"] or "yes"
    return (one["name"], *(depth[part] for part in ("due", "running", "scheduled")), one["latency_s"], one["workers"],
            reason)  # fmt: skip
