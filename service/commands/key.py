"""`arqade key …`: let callers in, and shut them out."""

from typing import Final

import click

from service.commands.ending import end_with
from service.commands.installation import installation
from service.commands.output import JSON_FLAG, print_json
from service.commands.showing import Table, show_list
from service.dev.calls import CallError, Exit, Fields, api, call, segment
from service.engine import Deed, InvalidInput, IssuedKey, KeyRequest, Scope, seconds

_LISTS: Final = ("scopes", "functions", "queues")


def _row(one: Fields) -> tuple[object, ...]:
    return (one["id"], one["name"], *(",".join(one[part]) for part in _LISTS), one["expires_at"], one["last_used_at"])


_TABLE: Final = Table(("key", "name", *_LISTS, "expires", "last used"), _row)


@click.group()
def key() -> None:
    """Make, list and revoke the keys that callers need."""


@key.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="Repeat for more.",
)
@click.option("--function", "functions", multiple=True, help="For this one only, such as send_*; may be repeated.")
@click.option("--queue", "queues", multiple=True, help="For this one only; may be repeated.")
@click.option("--expires-in", help="Valid for this long: 90d; else until it is revoked.")
@JSON_FLAG
def create(
    name: str,
    scopes: tuple[str, ...],
    functions: tuple[str, ...],
    queues: tuple[str, ...],
    expires_in: str | None,
    *,
    as_json: bool,
) -> None:
    """Make a key and print its token, which is shown this once.

    The first one has to come from somewhere: it is written to Redis, so whoever reaches Redis can make one.
    """
    try:
        life = seconds(expires_in)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires-in") from None
    asked = KeyRequest(
        name=name,
        scopes=frozenset(Scope(scope) for scope in scopes),
        functions=functions,
        queues=queues,
        expires_in=life,
        created_by="command line",
    )
    end_with(_create(asked, as_json=as_json))


@key.command("list")
@JSON_FLAG
def list_keys(*, as_json: bool) -> None:
    """Print the keys, over HTTP and so with one that has the scope admin."""
    end_with(show_list("/v1/keys", _TABLE, as_json=as_json))


@key.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Let a key in no more, over HTTP and so with one that has the scope admin."""
    end_with(_revoke(key_id))


async def _create(asked: KeyRequest, *, as_json: bool) -> Exit:
    async with installation() as (_, engine):
        try:
            issued = await engine.credentials.create(asked)
        except InvalidInput as error:
            raise CallError(str(error), Exit.USAGE) from None
        await engine.audit.write(
            Deed(
                action="key.create",
                target=issued.key.id,
                caller_id="local",
                caller_name=asked.created_by,
                address=None,
                request_id="",
                details=asked.details,
            )
        )
    if as_json:
        print_json(_shown(issued))
    else:
        click.echo(f"{issued.key.id}: keep this token, it is not shown again", err=True)
        click.echo(issued.token)
    return Exit.OK


def _shown(issued: IssuedKey) -> Fields:
    who, expires = issued.key.caller, issued.key.expires_at
    return {
        "id": issued.key.id,
        "name": who.name,
        "scopes": sorted(who.scopes),
        "functions": who.functions,
        "queues": who.queues,
        "expires_at": expires.isoformat() if expires else None,
        "token": issued.token,
    }


async def _revoke(key_id: str) -> Exit:
    async with api() as client:
        await call(client, "DELETE", f"/v1/keys/{segment(key_id)}")
    click.echo(f"{key_id} is revoked", err=True)
    return Exit.OK
