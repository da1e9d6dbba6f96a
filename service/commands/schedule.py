"""`arqade schedule …`: what is enqueued again and again; make one, pause it, run it now."""

from typing import Any, Final, cast

import click

from service.commands.ending import end_with
from service.commands.job import json_object
from service.commands.output import JSON_FLAG, print_json, print_rows
from service.commands.showing import Table, show, show_list
from service.dev.calls import Exit, Fields, api, call, segment

_ID: Final = click.argument("schedule_id")


def _row(one: Fields) -> tuple[object, ...]:
    when = one["cron"] or f"every {one['every']:g} s"
    zone = one["timezone"] if one["cron"] else None
    return (one["id"], one["function"], when, zone, one["next_at"], "paused" if one["paused"] else None)


_TABLE: Final = Table(("schedule", "function", "when", "time zone", "next", ""), _row)
_FIRES: Final = Table(
    ("due", "outcome", "job, or why there is none"),
    lambda one: (one["due"], one["outcome"], one["job_id"] or one["reason"]),
)


@click.group()
def schedule() -> None:
    """See what is enqueued again and again; make a schedule, pause it, run it now."""


@schedule.command("list")
@JSON_FLAG
def list_schedules(*, as_json: bool) -> None:
    """Print every schedule, those declared in code too."""
    end_with(show_list("/v1/schedules", _TABLE, as_json=as_json))


@schedule.command()
@click.argument("function")
@click.option("--cron", help="5 fields, or 6 with seconds first; or give --every.")
@click.option("--every", help="An interval such as 10m; or give --cron.")
@click.option("--timezone", help="In which --cron is read, such as Europe/Berlin.  [default: UTC]")
@click.option("--input", "input_", metavar="JSON", help="The function's arguments as an object.")
@click.option("--name", help="For people.")
@click.option("--queue", help="Instead of the function's own.")
@click.option("--overlap", help="While the job before is not done: skip, queue, allow or cancel_previous.")
@click.option("--catch-up", help="What becomes of missed ticks: once, all or skip.")
@click.option("--jitter", help="Fire each tick up to this much later, such as 30s.")
@JSON_FLAG
def create(function: str, input_: str | None, *, as_json: bool, **given: str | None) -> None:
    """Enqueue FUNCTION again and again."""
    body: dict[str, Any] = {"function": function, **{name: value for name, value in given.items() if value is not None}}
    if input_:
        body["input"] = json_object(input_, "--input")
    end_with(show("POST", "/v1/schedules", as_json=as_json, json=body))


@schedule.command()
@_ID
@JSON_FLAG
def get(schedule_id: str, *, as_json: bool) -> None:
    """Print a schedule."""
    end_with(show("GET", f"/v1/schedules/{segment(schedule_id)}", as_json=as_json))


@schedule.command()
@_ID
@JSON_FLAG
def pause(schedule_id: str, *, as_json: bool) -> None:
    """Let it fire no more."""
    end_with(show("POST", f"/v1/schedules/{segment(schedule_id)}/pause", as_json=as_json))


@schedule.command()
@_ID
@JSON_FLAG
def resume(schedule_id: str, *, as_json: bool) -> None:
    """Let it fire again, from its next tick on."""
    end_with(show("POST", f"/v1/schedules/{segment(schedule_id)}/resume", as_json=as_json))


@schedule.command()
@_ID
@JSON_FLAG
def trigger(schedule_id: str, *, as_json: bool) -> None:
    """Run its job now, and print the job."""
    end_with(show("POST", f"/v1/schedules/{segment(schedule_id)}/trigger", as_json=as_json))


@schedule.command("next")
@_ID
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True)
@JSON_FLAG
def next_ticks(schedule_id: str, count: int, *, as_json: bool) -> None:
    """Print when it is due next."""
    end_with(_next(f"/v1/schedules/{segment(schedule_id)}/upcoming", count, as_json=as_json))


@schedule.command()
@_ID
@JSON_FLAG
def fires(schedule_id: str, *, as_json: bool) -> None:
    """Print what became of its last ticks, the newest first."""
    end_with(show_list(f"/v1/schedules/{segment(schedule_id)}/fires", _FIRES, as_json=as_json))


@schedule.command()
@_ID
def delete(schedule_id: str) -> None:
    """Forget a schedule; jobs that it has enqueued go on. Those of the code are deleted there."""
    end_with(_delete(f"/v1/schedules/{segment(schedule_id)}"))


async def _next(path: str, count: int, *, as_json: bool) -> Exit:
    async with api() as client:
        ticks = cast("list[str]", (await call(client, "GET", path, params={"count": count})).json()["data"])
    print_json(ticks) if as_json else print_rows(("due",), [(tick,) for tick in ticks])
    return Exit.OK


async def _delete(path: str) -> Exit:
    async with api() as client:
        await call(client, "DELETE", path)
    return Exit.OK
