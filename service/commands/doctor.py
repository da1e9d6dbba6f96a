"""`arqade doctor`: what is wrong with an installation, each thing with its fix."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import click

from service.api.door import needs_keys, needs_none
from service.commands.ending import end_with
from service.commands.installation import installation
from service.commands.output import JSON_FLAG, print_json, print_rows
from service.dev.calls import Exit
from service.engine import Engine, Function, QueueInfo, WorkerInfo, WorkerState
from service.settings import Settings

_OLDEST: Final = (6, 2)
_SKEW: Final = 1.0
_BLOCKED: Final = 1.0
_MOST_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` is empty when it is as it should be."""

    check: str
    found: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        return not self.fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of an installation. `redis` is as Engine.ping tells it."""

    redis: Mapping[str, Any]
    workers: Sequence[WorkerInfo]
    queues: Sequence[QueueInfo]
    functions: Sequence[Function]
    host: str
    needs_keys: bool
    usable_key: bool


@click.command()
@JSON_FLAG
def doctor(*, as_json: bool) -> None:
    """Look for what is wrong, and say how to mend it.

    The exit code is 1 if there is anything.
    """
    end_with(_examine(as_json=as_json))


async def _examine(*, as_json: bool) -> Exit:
    async with installation() as (settings, engine):
        findings = list(examine(await gather(settings, engine)))
    if as_json:
        print_json([{**asdict(one), "ok": one.ok} for one in findings])
    else:
        print_rows(
            ("", "check", "found", "fix"),
            [("ok" if one.ok else "WRONG", one.check, one.found, one.fix) for one in findings],
        )
    return Exit.OK if all(one.ok for one in findings) else Exit.ERROR


async def gather(settings: Settings, engine: Engine) -> Facts:
    """Ask Redis, once for each thing."""
    return Facts(
        redis=await engine.ping(),
        workers=await engine.workers.all(),
        queues=await engine.queues.get_many(await engine.queues.names()),
        functions=engine.functions,
        host=settings.host,
        needs_keys=needs_keys(settings) or (not needs_none(settings) and await engine.credentials.exist()),
        usable_key=await engine.credentials.usable(),
    )


def examine(facts: Facts) -> Iterator[Finding]:
    """Everything that is looked at, in the order in which it is worth mending."""
    yield _version(facts.redis)
    yield _eviction(facts.redis)
    yield _persistence(facts.redis)
    yield _clock(facts.redis)
    yield _workers(facts.workers)
    yield from _blocked(facts.workers)
    yield _functions(facts)
    yield _queues(facts)
    yield _keys(facts)


def _version(redis: Mapping[str, Any]) -> Finding:
    version = str(redis["redis_version"])
    known = tuple(int(part) for part in version.split(".")[:2])
    return Finding("redis", f"{version}, {redis['round_trip_ms']} ms", "" if known >= _OLDEST else "use 6.2 or newer")


def _eviction(redis: Mapping[str, Any]) -> Finding:
    policy = str(redis["maxmemory_policy"])
    fix = "CONFIG SET maxmemory-policy noeviction, also in redis.conf: a full Redis throws jobs away"
    return Finding("eviction", policy, "" if policy == "noeviction" else fix)


def _persistence(redis: Mapping[str, Any]) -> Finding:
    if not redis["aof_enabled"]:
        fix = "CONFIG SET appendonly yes, also in redis.conf: a restart goes back to the last snapshot"
        return Finding("persistence", "no append-only file", fix)
    if not redis["aof_ok"]:
        return Finding("persistence", "the last write of the append-only file failed", "look at Redis's log and disk")
    return Finding("persistence", "append-only file")


def _clock(redis: Mapping[str, Any]) -> Finding:
    ahead = float(redis["clock_ahead"])
    found = f"Redis's is {abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    fix = "set both by NTP: what is stored is Redis's time, logs and ids are by the machine's"
    return Finding("clock", found, "" if abs(ahead) < _SKEW else fix)


def _workers(workers: Sequence[WorkerInfo]) -> Finding:
    states = [worker.state for worker in workers]
    serving = states.count(WorkerState.SERVING)
    found = ", ".join(f"{states.count(state)} {state}" for state in WorkerState if state in states) or "none"
    if serving:
        return Finding("workers", found)
    quiet = next((worker.id for worker in workers if worker.state is WorkerState.QUIET), None)
    return Finding("workers", found, f"arqade worker unquiet {quiet}" if quiet else "start one: arqade worker")


def _blocked(workers: Sequence[WorkerInfo]) -> Iterator[Finding]:
    for worker in workers:
        if worker.loop_lag >= _BLOCKED:
            found = f"the event loop of {worker.id} has not answered for {worker.loop_lag:.1f} s"
            yield Finding("event loop", found, f"its log says which line blocks (host {worker.host}, pid {worker.pid})")


def _functions(facts: Facts) -> Finding:
    unserved = [
        function
        for function in facts.functions
        if not any(worker.serves(function.queue, function.name) for worker in facts.workers)
    ]
    if not unserved:
        return Finding("functions", f"all {len(facts.functions)} have a worker")
    queues = ", ".join(sorted({function.queue for function in unserved}))
    fix = f"start workers with this version of jobs/ that serve {queues} (ARQADE_QUEUES)"
    return Finding("functions", f"without a worker: {_named(function.name for function in unserved)}", fix)


def _queues(facts: Facts) -> Finding:
    stuck = [
        queue.name
        for queue in facts.queues
        if queue.due and not queue.paused and not any(worker.serves(queue.name) for worker in facts.workers)
    ]
    paused = [queue.name for queue in facts.queues if queue.paused and queue.due]
    if stuck:
        fix = f"start workers with ARQADE_QUEUES naming them, or `arqade queue purge {stuck[0]}`"
        return Finding("queues", f"jobs wait where nobody serves: {_named(stuck)}", fix)
    if paused:
        return Finding("queues", f"jobs wait in paused ones: {_named(paused)}", f"arqade queue resume {paused[0]}")
    return Finding("queues", f"{sum(queue.due for queue in facts.queues)} jobs due")


def _keys(facts: Facts) -> Finding:
    there_are = "there is one that lets callers in" if facts.usable_key else "none lets anybody in"
    needed = "needed" if facts.needs_keys else "not needed"
    fix = "arqade key create NAME --scope admin" if facts.needs_keys and not facts.usable_key else ""
    return Finding("keys", f"{there_are}, and that is {needed} at {facts.host}", fix)


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more
