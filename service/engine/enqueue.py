"""The one way in: requests become jobs by one script, one round trip, whoever asks.

Requests of one process that arrive while a call is under way travel together in the next one.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, cast

import orjson
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.apart import apart
from service.engine.clock import to_ms
from service.engine.codec import encode_sorted
from service.engine.errors import (
    ArqadeError,
    IdempotencyConflict,
    InvalidInput,
    QueueFull,
    Unavailable,
    UniqueConflict,
    UniqueForeign,
)
from service.engine.functions import Catalogue, Function
from service.engine.ids import new_id
from service.engine.record import options_of, payload_head
from service.engine.request import Request
from service.engine.scripts import Argument, Scripts

BATCH: Final = 500
TOGETHER: Final = 16
"""How many single entries go in one call: the answers to some are written while Redis works on the others."""

MOST_WAITING: Final = 10_000
"""Entries that may wait for the call before theirs: more cannot be sent before their callers have given up."""

IDEMPOTENCY_TTL: Final = 24 * 3600 * 1000
ANY_QUEUE: Final = "*"
_NO_LIMITS: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One job on its way to Redis. `limit`: how many unfinished jobs its queue may hold, itself included."""

    job_id: str
    queue: str
    limit: int | None
    arguments: tuple[str, str, bytes, str, bytes | str]


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of an entry. `now` in ms, by Redis's clock.

    `created`: there is a new job. `deduplicated`: the job that holds the unique key answers. `replayed`: it was like
    that when this Idempotency-Key came for the first time.
    """

    job_id: str
    created: bool
    deduplicated: bool
    replayed: bool
    now: int


def prepare(
    request: Request,
    catalogue: Catalogue,
    *,
    max_pending: Mapping[str, int] = _NO_LIMITS,
    job_id: str | None = None,
    batch_id: str | None = None,
) -> Entry:
    """Check a request and write it down. Raises FunctionNotRegistered, InvalidInput or SecretMissing.

    `max_pending`: by queue, `*` for every other one. `job_id` and `batch_id` when the job is part of a batch.
    """
    function = catalogue.get(request.function)
    queue = _queue_of(request, function)
    limit = max_pending.get(queue, max_pending.get(ANY_QUEUE))
    arguments = function.to_wire(function.validate(function.bind(request.args, request.input)))
    _check_options(request)
    try:
        head = payload_head(function.name, options_of(request, queue, batch_id), arguments)
    except TypeError as error:
        raise InvalidInput.at("/input", f"has no JSON form: {error}", "not_json") from None
    job_id = job_id or new_id("job_")
    # A digest of what is sensitive could be guessed at; of its sealed form it cannot.
    options = _script_options(replace(request, input=arguments, args=()) if function.sensitive else request, limit)
    return Entry(job_id, queue, limit, (job_id, keys.queue(queue), head, _when(request), options))


def _queue_of(request: Request, function: Function) -> str:
    try:
        return keys.queue_name(keys.check_name(request.queue, "queue")) if request.queue else function.queue
    except ValueError as error:
        raise InvalidInput.at("/queue", str(error)) from None


def _check_options(request: Request) -> None:
    if request.delay is not None and request.run_at is not None:
        raise InvalidInput.at("/run_at", "give delay or run_at, not both", "conflict")
    if request.run_at is not None and request.run_at.tzinfo is None:
        raise InvalidInput.at("/run_at", "needs a time zone, such as a trailing Z", "timezone_aware")
    if request.unique_for is not None and request.unique_key is None:
        raise InvalidInput.at("/unique_for", "says for how long unique_key is held, and there is none", "conflict")
    if not 0 <= request.priority <= 9:
        raise InvalidInput.at("/priority", "lies between 0 and 9; higher starts first", "out_of_range")
    for number, earlier in enumerate(request.after):
        if not isinstance(earlier, str) or keys.NAME.fullmatch(earlier) is None:
            raise InvalidInput.at(f"/after/{number}", "the id of a job; only an atomic batch has places", "bad_id")
    if request.max_attempts is not None and request.max_attempts < 1:
        raise InvalidInput.at("/max_attempts", "counts the first try too: at least 1", "out_of_range")


def _when(request: Request) -> str:
    if request.run_at is not None:
        return f"@{to_ms(request.run_at)}"
    return f"+{int(request.delay * 1000)}" if request.delay else ""


def _script_options(request: Request, limit: int | None) -> bytes | str:
    options: dict[str, Any] = {}
    if request.priority:
        options["priority"] = request.priority
    if request.unique_key is not None:
        options["unique"] = request.unique_key
        options["on_conflict"] = request.on_conflict.value
        if request.caller is not None and (request.caller.functions or request.caller.queues):
            options["functions"], options["queues"] = request.caller.functions, request.caller.queues
        if request.unique_for:
            options["unique_ttl"] = int(request.unique_for * 1000)
    if request.after:
        options["after"], options["on_failure"] = request.after, request.on_failure.value
    if limit is not None:
        options["max_pending"] = limit
    if request.idempotency_key is not None:
        options["idempotency"] = idempotency_record(request.idempotency_key)
        options["idempotency_ttl"] = IDEMPOTENCY_TTL
        options["fingerprint"] = fingerprint(request)
    return orjson.dumps(options) if options else ""


def idempotency_record(key: str) -> str:
    """Where it is kept what a key was answered with; the key itself, which may be anything, is not."""
    return keys.idempotency(hashlib.sha256(key.encode()).hexdigest())


def fingerprint(request: Request) -> str:
    """What makes two requests the same: all that was asked, in canonical JSON."""
    try:
        return hashlib.sha256(encode_sorted([getattr(request, name) for name in _ASKED])).hexdigest()
    except TypeError as error:
        raise InvalidInput.at("/input", f"has no JSON form: {error}", "not_json") from None


_HOW: Final = frozenset({"idempotency_key", "traceparent", "caller"})
_ASKED: Final = tuple(name for name in Request.__dataclass_fields__ if name not in _HOW)


async def repeated(scripts: Scripts, name: str, script_keys: tuple[str, ...], arguments: list[Argument]) -> Any:
    """Call a script, and once more at once over a new connection when the first had dropped.

    For scripts that change nothing when they are repeated. Raises redis.exceptions.RedisError or OSError.
    """
    try:
        return await scripts.call(name, script_keys, arguments)
    except RedisConnectionError:
        return await scripts.call(name, script_keys, arguments)


_Reply = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _Parcel:
    """What one caller sends, at most BATCH entries, and what comes back for each."""

    entries: Sequence[Entry]
    replies: "asyncio.Future[list[_Reply]]"


class Enqueuer:
    """Sends entries, those of several callers at a time."""

    def __init__(self, scripts: Scripts, lead: tuple[int, int]) -> None:
        """`lead`: events kept, and for how many ms the record of a job is that another one replaced."""
        self._scripts = scripts
        self._lead = lead
        self._waiting: deque[_Parcel] = deque()
        self._entries_waiting = 0
        self._sender: asyncio.Task[None] | None = None

    async def send(self, entries: Sequence[Entry], requests: Sequence[Request]) -> "list[Enqueued | ArqadeError]":
        """Enqueue in order; each is answered on its own: UniqueConflict, UniqueForeign, IdempotencyConflict,
        QueueFull.

        Raises Unavailable, also when only the reply was lost: repeated, a request with the same
        `idempotency_key` is the same job, another one is a second.
        """
        replies: list[_Reply] = []
        for first in range(0, len(entries), BATCH):
            replies += await self._submit(entries[first : first + BATCH])
        return [judge(*reply, entry, request) for reply, entry, request in zip(replies, entries, requests, strict=True)]

    def _submit(self, entries: Sequence[Entry]) -> "asyncio.Future[list[_Reply]]":
        parcel = _Parcel(entries, asyncio.get_running_loop().create_future())
        if self._entries_waiting + len(entries) > MOST_WAITING:
            parcel.replies.set_exception(Unavailable())
            return parcel.replies
        self._waiting.append(parcel)
        self._entries_waiting += len(entries)
        if self._sender is None:
            self._sender = apart(self._send_waiting(), "arqade-enqueue")
        return parcel.replies

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                await self._send_some(self._next_parcels())
        finally:
            self._sender = None

    def _next_parcels(self) -> list[_Parcel]:
        parcels: list[_Parcel] = []
        size = 0
        while self._waiting and (not parcels or size + len(self._waiting[0].entries) <= TOGETHER):
            parcels.append(self._waiting.popleft())
            size += len(parcels[-1].entries)
        self._entries_waiting -= size
        return parcels

    async def _send_some(self, parcels: list[_Parcel]) -> None:
        arguments: list[Argument] = list(self._lead)
        for parcel in parcels:
            for entry in parcel.entries:
                arguments += entry.arguments
        try:
            reply = cast("list[Any]", await repeated(self._scripts, "enqueue", (), arguments))
            replies = [
                (code.decode(), id_.decode(), reply[0]) for code, id_ in zip(reply[1::2], reply[2::2], strict=True)
            ]
        except Exception as error:  # noqa: BLE001  # nothing may leave those who wait without an answer
            failure = unavailable(error) if isinstance(error, (RedisError, OSError)) else error
            for parcel in parcels:
                if not parcel.replies.done():
                    parcel.replies.set_exception(failure)
            return
        answers = iter(replies)
        for parcel in parcels:
            own = list(islice(answers, len(parcel.entries)))
            if not parcel.replies.done():
                parcel.replies.set_result(own)

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._sender is not None:
            await asyncio.wait({self._sender})


def unavailable(error: BaseException) -> Unavailable:
    """The error for callers, with Redis's own as its cause."""
    refusal = Unavailable()
    refusal.__cause__ = error
    return refusal


def judge(code: str, job_id: str, now: int, entry: Entry, request: Request) -> "Enqueued | ArqadeError":
    """What a code of judging.lua means for its caller."""
    match code:
        case "created" | "created_before" | "exists" | "exists_before":
            return Enqueued(
                job_id,
                created=code == "created",
                deduplicated=code.startswith("exists"),
                replayed=code.endswith("_before"),
                now=now,
            )
        case "conflict":
            return UniqueConflict(request.unique_key or "", job_id)
        case "foreign":
            return UniqueForeign(request.unique_key or "")
        case "mismatch":
            return IdempotencyConflict(request.idempotency_key or "")
        case "orphan":
            return InvalidInput.at("/after", f"there is no job '{job_id}' to run after", "unknown_job")
        case _:
            return QueueFull(entry.queue, entry.limit or 0)
