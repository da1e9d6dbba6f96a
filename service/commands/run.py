"""`arqade run FUNCTION --argument value …`: enqueue a job, its arguments as flags of the command."""

from collections.abc import Mapping
from typing import Any, Final, cast

import click

from service.commands.ending import end_with
from service.commands.flags import flag_names, flags_of, given, missing
from service.commands.job import finished, json_object
from service.commands.output import JSON_FLAG, print_json, print_record
from service.dev.calls import Exit, Fields, api, call, exit_code, no_result, segment


def _ours() -> list[click.Option]:
    return [
        click.Option(["--input", "input_"], metavar="JSON", help="Arguments as an object; flags win over it."),
        click.Option(["--queue"], help="Instead of the function's own."),
        click.Option(["--priority"], type=click.IntRange(0, 9), help="Higher starts first."),
        click.Option(["--delay"], help="Start this much later: 90s, 10m, 2h, 7d or seconds."),
        click.Option(["--unique-key"], help="No second job with this key while the first is not done."),
        click.Option(["--tag", "tags"], multiple=True, help="May be repeated."),
        click.Option(["--wait"], is_flag=True, help="Wait and print the result; the exit code tells how it ended."),
        click.Option(["--timeout"], type=float, help="Seconds to wait at most (exit code 124)."),
    ]


_TAKEN: Final = frozenset({"--json", "--help", *(flag for option in _ours() for flag in option.opts)})
_FIELDS: Final = ("queue", "priority", "delay", "unique_key", "tags")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("function")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(context: click.Context, function: str, arguments: tuple[str, ...]) -> None:
    """Enqueue a job, its arguments as flags.

    As in `arqade run hello --name you --wait`. `arqade run FUNCTION --help` lists the flags of FUNCTION. An argument
    that is called like a flag of this command has --arg- before its name.
    """
    end_with(_run(context, function, list(arguments)))


async def _run(context: click.Context, function: str, arguments: list[str]) -> Exit:
    async with api() as client:
        described = cast("Fields", (await call(client, "GET", f"/v1/functions/{segment(function)}")).json())
        asked = _parsed(context, described, arguments)
        job = cast("Fields", (await call(client, "POST", "/v1/jobs", json=_body(described, asked))).json())
    if not asked["wait"]:
        print_json(job) if asked["as_json"] else print_record(job)
        return Exit.OK
    return await _finish(cast("str", job["id"]), asked)


def _parsed(context: click.Context, described: Fields, arguments: list[str]) -> Mapping[str, Any]:
    """What the flags say. Raises click.UsageError; `--help` ends here."""
    command = click.Command(
        described["name"],
        params=[*flags_of(described["input_schema"], _TAKEN), *_ours()],
        help=described["doc"],
        context_settings={"help_option_names": context.help_option_names},
    )
    root = context.find_root().info_name
    asked = JSON_FLAG(command).make_context(f"{root} run {described['name']}", arguments).params
    if asked["timeout"] is not None and not asked["wait"]:
        own = flag_names(described["input_schema"], _TAKEN).get("timeout")
        raise click.UsageError("--timeout is for --wait" + (f"; the function's own is {own}" if own else ""))
    return asked


def _body(described: Fields, asked: Mapping[str, Any]) -> Fields:
    values = {**(json_object(asked["input_"], "--input") if asked["input_"] else {}), **given(asked)}
    if left_out := missing(described["input_schema"], values):
        flag = flag_names(described["input_schema"], _TAKEN)[left_out[0]]
        raise click.UsageError(f"{described['name']} needs {flag}")
    options = {name: asked[name] for name in _FIELDS if asked[name] not in (None, ())}
    return {"function": described["name"], "input": values, **options}


async def _finish(job_id: str, asked: Mapping[str, Any]) -> Exit:
    """Print the result. Raises CallError for a job that ends without one."""
    job = await finished(job_id, timeout=asked["timeout"])
    if asked["as_json"]:
        print_json(job)
        return exit_code(job)
    if job["state"] != "succeeded":
        raise no_result(job)
    async with api() as client:
        print_json((await call(client, "GET", f"/v1/jobs/{job_id}/result")).json())
    return Exit.OK
