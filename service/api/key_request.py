"""The body of `POST /v1/keys` and how it becomes a key that gives no more than its maker has."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service import engine
from service.api.job_request import Span, Word
from service.api.problems import Problem, field_problem
from service.api.validated import validated

Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:*?-]{1,128}$")]


class KeyRequest(BaseModel):
    """Whom to let in, and to what."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"name": "shop", "scopes": ["enqueue", "read"], "functions": ["send_*"]}]},
    )

    name: Annotated[Word, Field(max_length=100, description="who will hold it; shown wherever the key is")]
    scopes: Annotated[list[engine.Scope], Field(min_length=1, max_length=4)]
    functions: Annotated[list[Pattern], Field(max_length=100, description="`*` and `?` allowed; empty = all")] = []
    queues: Annotated[list[Pattern], Field(max_length=100, description="`*` and `?` allowed; empty = all")] = []
    expires_in: Annotated[Span | None, Field(description="valid for this long; without it, until revoked")] = None


def read_key_request(body: Any, maker: engine.AccessKey | None, maker_id: str) -> engine.KeyRequest:
    """What the engine is asked for. Raises Problem, also when the key would give more than its maker's own."""
    if not isinstance(body, dict):
        raise field_problem("", 'the body is a JSON object such as {"name": "…", "scopes": ["read"]}', "object_type")
    asked = validated(KeyRequest, body)
    if maker is not None:
        _refuse_more_than(maker, asked)
    return engine.KeyRequest(
        name=asked.name,
        scopes=frozenset(asked.scopes),
        functions=tuple(asked.functions),
        queues=tuple(asked.queues),
        expires_in=asked.expires_in,
        created_by=maker_id,
    )


def lies_within(own: engine.Caller, other: engine.Caller) -> bool:
    """Whether `other` may do no more than `own`, which may then look at it and revoke it, however long it lives."""
    return (
        other.scopes <= own.scopes
        and _all_within(other.functions, own.functions)
        and _all_within(other.queues, own.queues)
    )


def _refuse_more_than(maker: engine.AccessKey, asked: KeyRequest) -> None:
    own = maker.caller
    if beyond := sorted(set(asked.scopes) - own.scopes):
        raise Problem("beyond-own-key", f"your key does not have {', '.join(beyond)}")
    for what, mine, given in (("functions", own.functions, asked.functions), ("queues", own.queues, asked.queues)):
        if not _all_within(given, mine):
            raise Problem("beyond-own-key", f"your key is for {what} {', '.join(mine)}")
    if maker.expires_at is not None:
        left = maker.expires_at - datetime.now(UTC)
        if asked.expires_in is None or timedelta(seconds=asked.expires_in) > left:
            raise Problem("beyond-own-key", f"your key expires at {maker.expires_at:%Y-%m-%dT%H:%M:%SZ}")


def _all_within(given: Sequence[str], own: tuple[str, ...]) -> bool:
    return not own or (bool(given) and all(_within(pattern, own) for pattern in given))


def _within(pattern: str, own: tuple[str, ...]) -> bool:
    """Of two patterns only equal ones are compared: whether one holds the other is not worth a theory."""
    is_name = not {"*", "?"} & set(pattern)
    return pattern in own or "*" in own or (is_name and engine.matches(own, pattern))
