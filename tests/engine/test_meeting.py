"""A caller with allow-lists meets only jobs that they hold, when another job has the unique key."""

from typing import Any

import pytest

from service.engine import (
    BatchMode,
    BatchRefused,
    Caller,
    Engine,
    Job,
    JobState,
    OnConflict,
    Request,
    UniqueForeign,
    job,
    matches,
)
from tests.stage import Stage, ask

PATTERNS = (
    "*",
    "mail",
    "m*",
    "*l",
    "*a*i*",
    "ma?l",
    "?",
    "????",
    "mail?",
    "**",
    "*.b-*",
    "m.il",
    "%a*",
    "*" * 60 + "x",
)
NAMES = ("mail", "m", "mmail", "mailx", "a.b-c", "axb-c", "default", "x" * 100)


@job()
async def mine() -> None: ...


@job(result_ttl=0)
async def theirs() -> None: ...


def limited(**lists: tuple[str, ...]) -> Caller:
    return Caller("key_1", "shop", frozenset(), **lists)


@pytest.fixture
async def engine(stage: Stage) -> Engine:
    return await stage.engine(mine, theirs)


async def test_redis_reads_patterns_as_the_keys_do(engine: Engine) -> None:
    holders = await engine.enqueue_many([ask("mine", queue=name, unique_key=name) for name in NAMES])
    assert all(isinstance(holder, Job) for holder in holders)
    pairs = [(pattern, name) for pattern in PATTERNS for name in NAMES]
    outcomes = await engine.enqueue_many(
        [ask("mine", unique_key=name, caller=limited(queues=(pattern,))) for pattern, name in pairs]
    )
    for (pattern, name), outcome in zip(pairs, outcomes, strict=True):
        assert isinstance(outcome, Job if matches((pattern,), name) else UniqueForeign), (pattern, name)


@pytest.mark.parametrize("how", OnConflict)
@pytest.mark.parametrize(
    ("caller", "held_by"),
    [
        (limited(functions=("mine",)), ask("theirs", unique_key="k")),
        (limited(functions=("mine", "theirs"), queues=("default",)), ask("mine", queue="other", unique_key="k")),
        (limited(functions=("mine",)), ask("theirs", unique_key="k", delay=3600.0, unique_for=60.0)),
    ],
)
async def test_a_foreign_holder_neither_answers_nor_gives_way(
    engine: Engine, how: OnConflict, caller: Caller, held_by: Request
) -> None:
    holder = await engine.enqueue(held_by)
    request = ask("mine", unique_key="k", on_conflict=how, caller=caller)
    batch = await engine.batches.enqueue([request, ask("mine")])
    with pytest.raises(BatchRefused) as refused:
        await engine.batches.enqueue([request], BatchMode.ATOMIC)
    with pytest.raises(UniqueForeign) as alone:
        await engine.enqueue(request)
    for error in (alone.value, batch.outcomes[0], refused.value.refusals[0]):
        assert isinstance(error, UniqueForeign)
        assert holder.id not in str(error)
    assert (await engine.get(holder.id)).state is holder.state
    assert batch.batch.refused == 1


async def test_one_s_own_holder_is_met_also_within_one_call(engine: Engine) -> None:
    caller = limited(functions=("mine",), queues=("def*",))
    own: dict[str, Any] = {"unique_key": "k", "caller": caller}
    first, again, instead = await engine.enqueue_many(
        [ask("mine", **own), ask("mine", **own), ask("mine", **own, on_conflict=OnConflict.REPLACE)]
    )
    assert isinstance(first, Job)
    assert isinstance(again, Job)
    assert isinstance(instead, Job)
    assert again.deduplicated
    assert again.id == first.id
    assert (await engine.get(first.id)).state is JobState.CANCELLED
    theirs_first = await engine.enqueue_many(
        [ask("theirs", unique_key="t"), ask("mine", unique_key="t", caller=caller)]
    )
    assert [type(outcome) for outcome in theirs_first] == [Job, UniqueForeign]


async def test_a_key_that_outlives_its_job_is_as_foreign_as_the_job_was(stage: Stage, engine: Engine) -> None:
    for function, key in (("mine", "m"), ("theirs", "gone")):
        await engine.enqueue(ask(function, unique_key=key, unique_for=3600.0))
    await stage.run_until_empty(mine, theirs)
    known = await engine.enqueue(ask("mine", unique_key="m", caller=limited(functions=("mine",), queues=("default",))))
    assert (known.deduplicated, known.state) == (True, JobState.SUCCEEDED)
    for key in ("m", "gone"):
        with pytest.raises(UniqueForeign):
            await engine.enqueue(ask("theirs", unique_key=key, caller=limited(functions=("theirs",))))
