"""Batches: up to 10,000 jobs in one call, each decided on its own or all of them or none.

A job's id is made of its batch's id and its index. A call that is repeated under its Idempotency-Key thus asks for the
same jobs: what the first one did is not done twice, and what it left undone is completed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.batch import (
    Batch,
    BatchJob,
    BatchKey,
    BatchMode,
    NewBatch,
    Outcome,
    count_states,
    job_id_of,
    new_batch_id,
    refusals_of,
)
from service.engine.clock import to_datetime
from service.engine.enqueue import IDEMPOTENCY_TTL, Entry, idempotency_record, judge, repeated
from service.engine.errors import (
    ArqadeError,
    BatchNotFound,
    BatchRefused,
    IdempotencyConflict,
    InvalidInput,
    Unavailable,
)
from service.engine.model import JobState
from service.engine.request import Request
from service.engine.scripts import Argument, Scripts
from service.engine.sequences import MOST_LINKS, resolved

PART: Final = 500
_PARTS_AT_ONCE: Final = 4
_STATES_AT_ONCE: Final = 100
_STATES: Final[Mapping[bytes, JobState | None]] = {b"": None} | {state.value.encode(): state for state in JobState}


@dataclass(slots=True)
class _Call:
    """A batch on its way. Until Redis answers, an outcome is Unavailable."""

    requests: Sequence[Request | None]
    mode: BatchMode
    key: BatchKey | None
    batch_id: str = field(default_factory=new_batch_id)
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    replayed: bool = False
    functions: set[str] = field(default_factory=set[str])
    queues: set[str] = field(default_factory=set[str])
    cut: bool = False
    begun_at: int = 0

    def __post_init__(self) -> None:
        self.outcomes = [Unavailable()] * len(self.requests)

    def part(self, first: int) -> range:
        return _part(self.mode, first, len(self.requests))

    def follows(self, index: int) -> bool:
        """Whether a job is to run after others, which may have ended already."""
        request = self.requests[index]
        return request is not None and any(isinstance(earlier, str) for earlier in request.after)

    def resolved(self, index: int, request: Request) -> Request:
        """With ids instead of the places of earlier jobs. Raises InvalidInput."""
        earlier = range(index if self.mode is BatchMode.ATOMIC else 0)
        if not request.after:
            return request
        return resolved(request, lambda place: job_id_of(self.batch_id, place) if place in earlier else None)


def _part(mode: BatchMode, first: int, size: int) -> range:
    """The indices that go to Redis in one call."""
    return range(first, size if mode is BatchMode.ATOMIC else min(first + PART, size))


class Batches:
    """Enqueues batches and tells how they stand. Every method raises Unavailable when Redis does not answer."""

    def __init__(
        self, redis: Redis, scripts: Scripts, prepare: Callable[[Request, str, str], Entry], lead: tuple[int, int]
    ) -> None:
        """`prepare`: makes an entry of a request, the id of its job and that of its batch.

        `lead`: events kept, and for how many ms the record of a batch is, or that of a job which another one replaced.
        """
        self._redis: Any = redis  # redis-py's own annotations are partial
        self._scripts = scripts
        self._write_down = prepare
        self._lead = lead

    async def enqueue(
        self,
        requests: Sequence[Request | None],
        mode: BatchMode = BatchMode.PARTIAL,
        key: BatchKey | None = None,
    ) -> NewBatch:
        """Enqueue a batch. None stands for a request that was found unfit before.

        An atomic batch is one script; a partial one is several. When some of these get no answer, their jobs say
        Unavailable; with a `key` the whole call does, as repeating it then goes on where it stopped.

        Raises IdempotencyConflict, BatchNotFound when nothing is kept of the batch that its key made, InvalidInput for
        too many `after`, and BatchRefused when it is atomic and some of it cannot be.
        """
        if sum(len(request.after) for request in requests if request is not None) > MOST_LINKS:
            raise InvalidInput.at("/jobs", f"their `after` name more than {MOST_LINKS:,} jobs", "too_many")
        call = _Call(requests, mode, key)
        await self._begin(call)
        gate = asyncio.Semaphore(_PARTS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for first in range(call.part(0).stop, len(requests), PART):
                await gate.acquire()
                if call.cut:
                    break
                entries = await self._prepare(call, call.part(first))
                group.create_task(self._go_on(gate, call, call.part(first), entries))
        if call.cut and (key is not None or not any(isinstance(outcome, BatchJob) for outcome in call.outcomes)):
            raise Unavailable
        return await self._answer(call)

    async def _begin(self, call: _Call) -> None:
        """Send the first part, which tells whether an earlier call has made the batch."""
        part = call.part(0)
        entries = await self._prepare(call, part)
        word, text = await self._send(call, part, entries)
        if word == b"known":
            call.batch_id, call.replayed = text.decode(), True
            entries = await self._prepare(call, part)
            word, text = await self._send(call, part, entries)
        if word == b"purged":
            raise BatchNotFound(call.batch_id)
        if word == b"mismatch":
            raise IdempotencyConflict(call.key.key if call.key else "")
        if word == b"refused":
            raise BatchRefused(refusals_of(call.batch_id, _others(call, entries, text)))
        _note(call, part, entries, word, text)

    async def _go_on(self, gate: asyncio.Semaphore, call: _Call, part: range, entries: dict[int, Entry]) -> None:
        try:
            _note(call, part, entries, *await self._send(call, part, entries))
        finally:
            gate.release()

    async def _prepare(self, call: _Call, part: range) -> dict[int, Entry]:
        """Write down what can be. Why the others cannot be becomes their outcome."""
        entries: dict[int, Entry] = {}
        for index in part:
            request = call.requests[index]
            try:
                if request is None:
                    call.outcomes[index] = None
                else:
                    job_id = job_id_of(call.batch_id, index)
                    entries[index] = self._write_down(call.resolved(index, request), job_id, call.batch_id)
                    call.functions.add(request.function)
                    call.queues.add(entries[index].queue)
            except ArqadeError as error:
                call.outcomes[index] = error
            if index % PART == PART - 1:
                await asyncio.sleep(0)  # others have their turn, and what was sent before gets on its way
        return entries

    async def _send(self, call: _Call, part: range, entries: Mapping[int, Entry]) -> tuple[bytes, bytes]:
        """The answer of enqueue_batch.lua; two empty words when there is none."""
        unfit = [index for index in part if index not in entries]
        arguments: list[Argument] = [
            *self._lead,
            call.batch_id,
            len(call.requests),
            call.mode.value,
            part.start,
            call.key.fingerprint if call.key else "",
            IDEMPOTENCY_TTL,
            ",".join(f'[{index},"unfit",""]' for index in unfit),
            *(argument for entry in entries.values() for argument in entry.arguments),
        ]
        records = keys.batch(call.batch_id), idempotency_record(call.key.key) if call.key else ""
        try:
            begun_at, word, text = await repeated(self._scripts, "enqueue_batch", records, arguments)
        except (RedisError, OSError):
            return b"", b""
        call.begun_at = call.begun_at or begun_at
        return word, text

    async def _answer(self, call: _Call) -> NewBatch:
        """The outcomes, after a look at the jobs that were there before this call."""
        jobs = [(index, job) for index, job in enumerate(call.outcomes) if isinstance(job, BatchJob)]
        old = [(index, job) for index, job in jobs if call.replayed or job.deduplicated or call.follows(index)]
        for (index, job), state in zip(old, await self._states([job.job_id for _, job in old]), strict=True):
            call.outcomes[index] = BatchJob(job.job_id, state, job.deduplicated)
        states, purged = count_states(job.state for job in call.outcomes if isinstance(job, BatchJob))
        batch = Batch(
            id=call.batch_id,
            mode=call.mode,
            created_at=to_datetime(call.begun_at),
            size=len(call.outcomes),
            refused=len(call.outcomes) - len(jobs),
            states=states,
            purged=purged,
            functions=frozenset(call.functions),
            queues=frozenset(call.queues),
        )
        return NewBatch(batch, call.outcomes, call.replayed)

    async def get(self, batch_id: str) -> Batch:
        """How its jobs stand, which is asked of each, a hundred at a time. Raises BatchNotFound."""
        try:
            record = cast("dict[bytes, bytes]", await self._redis.hgetall(keys.batch(batch_id)))
        except (RedisError, OSError) as error:
            raise Unavailable from error
        if not record:
            raise BatchNotFound(batch_id)
        size, mode = int(record[b"size"]), BatchMode(record[b"mode"].decode())
        ids: list[str] = []
        sent = 0
        for first in sorted(int(name) for name in record if name.isdigit()):
            part, others = _part(mode, first, size), _parse(record[b"%d" % first])
            sent += len(part)
            ids.extend(job_id_of(batch_id, index) for index in part if index not in others)
            ids.extend(job_id for code, job_id in others.values() if code == "exists")
        states, purged = count_states(await self._states(ids))
        return Batch(
            id=batch_id,
            mode=mode,
            created_at=to_datetime(int(record[b"created_at"])),
            size=size,
            refused=sent - len(ids),
            states=states,
            purged=purged,
            functions=_named(record, b"f:"),
            queues=_named(record, b"q:"),
        )

    async def _states(self, ids: Sequence[str]) -> list[JobState | None]:
        """None for a job of which nothing is kept."""
        states: list[JobState | None] = []
        try:
            while part := ids[len(states) : len(states) + _STATES_AT_ONCE]:
                reply = await repeated(self._scripts, "states", (), list(part))
                states.extend(_STATES[word] for word in cast("list[bytes]", reply))
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return states


def _named(record: Mapping[bytes, bytes], mark: bytes) -> frozenset[str]:
    return frozenset(name.removeprefix(mark).decode() for name in record if name.startswith(mark))


def _parse(text: bytes) -> dict[int, tuple[str, str]]:
    """By index, code and job id of what was not simply created."""
    return {index: (code, job_id) for index, code, job_id in cast("list[tuple[int, str, str]]", orjson.loads(text))}


def _others(call: _Call, entries: Mapping[int, Entry], text: bytes) -> dict[int, Outcome]:
    """The outcomes of what was not simply created. What was decided once stays, whatever would be decided now."""
    found: dict[int, Outcome] = {}
    for index, (code, job_id) in _parse(text).items():
        request, entry = call.requests[index], entries.get(index)
        if code == "exists":
            found[index] = BatchJob(job_id, None, deduplicated=True)
        elif request is None or entry is None:
            found[index] = call.outcomes[index]
        elif code == "unfit":
            found[index] = InvalidInput.at("", "it did not fit when the batch was made", "unfit")
        else:
            refusal = judge(code, job_id, 0, entry, request)
            found[index] = refusal if isinstance(refusal, ArqadeError) else BatchJob(job_id, None)
    return found


def _note(call: _Call, part: range, entries: Mapping[int, Entry], word: bytes, text: bytes) -> None:
    """Fill in the outcomes of a part. Anything but `done` leaves them open."""
    if word != b"done":
        call.cut = True
        return
    others = _others(call, entries, text)
    for index in part:
        created = BatchJob(job_id_of(call.batch_id, index), _first_state(call.requests[index], call.begun_at))
        call.outcomes[index] = others.get(index, created)


def _first_state(request: Request | None, now: int) -> JobState:
    if request is None:
        return JobState.QUEUED
    later = request.run_at > to_datetime(now) if request.run_at else bool(request.delay or request.after)
    return JobState.SCHEDULED if later else JobState.QUEUED
