"""`arqade job …`: look at a job, wait for it, steer it."""

import asyncio
import json
import sys
from typing import Final, cast

import click

from service.commands.ending import end_with
from service.commands.output import JSON_FLAG, print_json, print_record, print_rows
from service.commands.showing import show
from service.dev.calls import CallError, Exit, Fields, api, exit_code, followed, listed, segment, watch_job

_SAME: Final = frozenset({"job_id", "function", "queue"})
_ID: Final = click.argument("job_id")


@click.group()
def job() -> None:
    """Look at a job, wait for it, cancel it, run it again."""


@job.command()
@_ID
@JSON_FLAG
def get(job_id: str, *, as_json: bool) -> None:
    """Print a job."""
    end_with(show("GET", f"/v1/jobs/{segment(job_id)}", as_json=as_json))


@job.command()
@_ID
@click.option("--timeout", type=float, help="Seconds after which to give up, with exit code 124.")
@JSON_FLAG
def wait(job_id: str, timeout: float | None, *, as_json: bool) -> None:
    """Wait until a job is done and print it; the exit code tells how it ended."""
    end_with(_wait(job_id, timeout=timeout, as_json=as_json))


@job.command()
@_ID
@click.option("--reason", help="Stored with the job.")
@JSON_FLAG
def cancel(job_id: str, reason: str | None, *, as_json: bool) -> None:
    """Cancel a job: a waiting one at once, a running one by asking its worker."""
    body = {"reason": reason} if reason else {}
    end_with(show("POST", f"/v1/jobs/{segment(job_id)}/cancel", as_json=as_json, json=body))


@job.command()
@_ID
@JSON_FLAG
def retry(job_id: str, *, as_json: bool) -> None:
    """Run a job that failed, was cancelled or expired again, under the same id."""
    end_with(show("POST", f"/v1/jobs/{segment(job_id)}/retry", as_json=as_json))


@job.command()
@_ID
@click.option("--change", metavar="JSON", help='What shall differ, such as {"input": {…}, "queue": "bulk"}.')
@JSON_FLAG
def replay(job_id: str, change: str | None, *, as_json: bool) -> None:
    """Enqueue a new job like this one."""
    body = json_object(change, "--change") if change else {}
    end_with(show("POST", f"/v1/jobs/{segment(job_id)}/replay", as_json=as_json, json=body))


@job.command()
@_ID
@click.option("--follow", is_flag=True, help="And what happens, until the job is done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events(job_id: str, *, follow: bool, as_json: bool) -> None:
    """Print what has happened to a job, oldest first."""
    end_with(_events(f"/v1/jobs/{segment(job_id)}/events", follow=follow, as_json=as_json))


@job.command()
@_ID
@click.option("--follow", is_flag=True, help="And what it logs, until it is done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def logs(job_id: str, *, follow: bool, as_json: bool) -> None:
    """Print what a job has logged, oldest line first."""
    end_with(_logs(f"/v1/jobs/{segment(job_id)}/logs", follow=follow, as_json=as_json))


async def _wait(job_id: str, *, timeout: float | None, as_json: bool) -> Exit:  # noqa: ASYNC109  # it is the user's
    seen = await finished(job_id, timeout=timeout)
    print_json(seen) if as_json else print_record(seen)
    return exit_code(seen)


async def finished(job_id: str, *, timeout: float | None) -> Fields:  # noqa: ASYNC109  # it is the user's
    """The job when it is done. Raises CallError, also after `timeout` seconds."""
    seen: Fields = {}
    try:
        async with asyncio.timeout(timeout), api() as client:
            async for now in watch_job(client, job_id):
                seen = now
    except TimeoutError:
        raise CallError(f"job {job_id} is not done after {timeout:g} s", Exit.WAITED_TOO_LONG) from None
    return seen


async def _events(path: str, *, follow: bool, as_json: bool) -> Exit:
    async with api() as client:
        if not follow:
            _print_events(await listed(client, path), as_json=as_json)
            return Exit.OK
        async for event in followed(client, path):
            _print_events([event], as_json=as_json)
            sys.stdout.flush()
    return Exit.OK


def _print_events(found: list[Fields], *, as_json: bool) -> None:
    if as_json:
        for event in found:
            print_json(event)
    else:
        print_rows(("time", "event", "more"), [(one["timestamp"], one["type"], _more(one["data"])) for one in found])


def _more(data: Fields) -> Fields | None:
    """What is not the same in every line."""
    return {name: value for name, value in data.items() if name not in _SAME} or None


async def _logs(path: str, *, follow: bool, as_json: bool) -> Exit:
    async with api() as client:
        if not follow:
            _print_lines(await listed(client, path), as_json=as_json)
            return Exit.OK
        async for event in followed(client, path):
            if event["type"] == "job.log":
                data = {name: value for name, value in event["data"].items() if name not in _SAME}
                _print_lines([{"at": event["timestamp"], **data}], as_json=as_json)
                sys.stdout.flush()
    return Exit.OK


def _print_lines(found: list[Fields], *, as_json: bool) -> None:
    if as_json:
        for line in found:
            print_json(line)
    else:
        rows = [(line["at"], line["level"], line["event"], line["fields"] or None) for line in found]
        print_rows(("time", "level", "event", "more"), rows)


def json_object(text: str, option: str) -> Fields:
    """A JSON object that was given as an option. Raises click.BadParameter."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.BadParameter(f"{option} is a JSON object")
    return cast("Fields", value)
