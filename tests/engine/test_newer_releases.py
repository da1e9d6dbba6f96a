"""During a rolling upgrade, what a newer release has written hides nothing of what this one understands."""

import json
from typing import Any

import pytest

from service.engine import Deed, KeyNotFound, KeyRequest, ScheduleRequest, Scope, job
from tests.stage import Stage


@job()
async def greet() -> None: ...


async def test_a_page_of_schedules_is_full_when_more_follow(stage: Stage, inspector: Any) -> None:
    """A shorter one says that it is the last: what follows a schedule that is not understood, or gone, was not seen."""
    engine = await stage.engine(greet)
    made = [(await engine.schedules.create(ScheduleRequest(function="greet", every=60))).id for _ in range(7)]
    for unknown in made[:3]:
        inspector.hset(f"arqade:schedule:{unknown}", "spec", '{"function":"greet","colour":"red"}')
    inspector.delete(f"arqade:schedule:{made[4]}")
    assert [one.id for one in await engine.schedules.page(None, 2)] == [made[3], made[5]]
    assert [one.id for one in await engine.schedules.page(made[5], 2)] == [made[6]]


async def test_a_key_with_an_unknown_scope_hides_no_other(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine()
    asked = KeyRequest(name="shop", scopes=frozenset({Scope.READ}))
    known, newer = [(await engine.credentials.create(asked)).key.id for _ in range(2)]
    about = json.loads(inspector.hget(f"arqade:key:{newer}", "about"))
    inspector.hset(f"arqade:key:{newer}", "about", json.dumps(about | {"scopes": ["dance"]}))
    assert [key.id for key in await engine.credentials.all()] == [known]
    assert await engine.credentials.usable()
    with pytest.raises(KeyNotFound):
        await engine.credentials.get(newer)
    await engine.credentials.revoke(newer)


async def test_an_audit_entry_that_says_more_is_read(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine()
    deed = Deed(
        action="queue.pause", target="default", caller_id="key_1", caller_name="me", address=None, request_id="req_1"
    )
    await engine.audit.write(deed)
    ((_, fields),) = inspector.xrange("arqade:audit")
    inspector.xadd("arqade:audit", {"d": json.dumps(json.loads(fields["d"]) | {"mood": "good"})})
    assert [entry.deed for entry in await engine.audit.read()] == [deed, deed]
