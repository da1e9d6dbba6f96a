"""The one way in: requests become jobs by one script, one round trip, whoever asks.

Requests of one process that arrive while a call is under way travel together in the next one.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.codec import encode
from service.engine.errors import (
    ArqadeError,
    IdempotencyConflict,
    InvalidInput,
    QueueFull,
    Unavailable,
    UniqueConflict,
)
from service.engine.functions import Catalogue, Function
from service.engine.ids import new_id
from service.engine.record import options_of, payload_head
from service.engine.request import Request
from service.engine.scripts import Argument, Scripts

BATCH: Final = 500
IDEMPOTENCY_TTL: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One job on its way to Redis."""

    job_id: str
    queue: str
    arguments: tuple[str, str, bytes, str, bytes | str]


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of an entry: `job_id` is another's when `created` is false. `now` in ms, by Redis's clock."""

    job_id: str
    created: bool
    now: int


def prepare(request: Request, catalogue: Catalogue, *, max_pending: int | None = None) -> Entry:
    """Check a request and write it down. Raises FunctionNotRegistered or InvalidInput."""
    function = catalogue.get(request.function)
    queue = _queue_of(request, function)
    arguments = function.to_wire(function.validate(function.bind(request.args, request.input)))
    _check_options(request)
    try:
        head = payload_head(function.name, options_of(request, queue), arguments)
    except TypeError as error:
        raise InvalidInput.at("/input", f"has no JSON form: {error}", "not_json") from None
    job_id = new_id("job_")
    return Entry(
        job_id,
        queue,
        (job_id, keys.queue(queue), head, _when(request), _script_options(request, max_pending)),
    )


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
    if not 0 <= request.priority <= 9:
        raise InvalidInput.at("/priority", "lies between 0 and 9; higher starts first", "out_of_range")
    if request.max_attempts is not None and request.max_attempts < 1:
        raise InvalidInput.at("/max_attempts", "counts the first try too: at least 1", "out_of_range")


def _when(request: Request) -> str:
    if request.run_at is not None:
        return f"@{int(request.run_at.timestamp() * 1000)}"
    return f"+{int(request.delay * 1000)}" if request.delay else ""


def _script_options(request: Request, max_pending: int | None) -> bytes | str:
    options: dict[str, Any] = {
        "priority": request.priority or None,
        "unique": request.unique_key,
        "unique_ttl": int(request.unique_for * 1000) if request.unique_for else None,
        "on_conflict": request.on_conflict.value if request.unique_key else None,
        "max_pending": max_pending,
    }
    if request.idempotency_key is not None:
        options["idempotency"] = keys.idempotency(hashlib.sha256(request.idempotency_key.encode()).hexdigest())
        options["idempotency_ttl"] = IDEMPOTENCY_TTL
        options["fingerprint"] = fingerprint(request)
    given = {name: value for name, value in options.items() if value is not None}
    return orjson.dumps(given) if given else ""


def fingerprint(request: Request) -> str:
    """What makes two requests the same: all that was asked, in canonical JSON."""
    asked = {
        name: getattr(request, name)
        for name in Request.__dataclass_fields__
        if name not in {"idempotency_key", "traceparent"}
    }
    try:
        return hashlib.sha256(orjson.dumps(orjson.loads(encode(asked)), option=orjson.OPT_SORT_KEYS)).hexdigest()
    except TypeError as error:
        raise InvalidInput.at("/input", f"has no JSON form: {error}", "not_json") from None


class Enqueuer:
    """Sends entries, many at a time."""

    def __init__(self, scripts: Scripts, *, events_kept: int, ended_ttl: int) -> None:
        self._scripts = scripts
        self._lead: list[Argument] = [events_kept, ended_ttl]
        self._waiting: list[tuple[Entry, asyncio.Future[tuple[str, str, int]]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def send(self, entries: Sequence[Entry], requests: Sequence[Request]) -> "list[Enqueued | ArqadeError]":
        """Enqueue in order; each is answered on its own: UniqueConflict, IdempotencyConflict, QueueFull.

        Raises Unavailable; repeating the call is then safe.
        """
        replies = await asyncio.gather(*(self._submit(entry) for entry in entries))
        return [_judge(reply, request) for reply, request in zip(replies, requests, strict=True)]

    def _submit(self, entry: Entry) -> "asyncio.Future[tuple[str, str, int]]":
        future: asyncio.Future[tuple[str, str, int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_waiting(), name="arqade-enqueue")
        return future

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._send_batch(batch)
        finally:
            self._sender = None

    async def _send_batch(self, batch: "list[tuple[Entry, asyncio.Future[tuple[str, str, int]]]]") -> None:
        arguments = [*self._lead, *(argument for entry, _ in batch for argument in entry.arguments)]
        try:
            reply = await self._call(arguments)
        except (RedisError, OSError) as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(_unavailable(error))
            return
        now = cast("int", reply[0])
        for index, (_, future) in enumerate(batch):
            if not future.done():
                code, job_id = cast("bytes", reply[1 + 2 * index]), cast("bytes", reply[2 + 2 * index])
                future.set_result((code.decode(), job_id.decode(), now))

    async def _call(self, arguments: list[Argument]) -> list[Any]:
        """A dropped connection is tried once more at once: a repeated call changes nothing that the first one did."""
        try:
            return await self._scripts.call("enqueue", (), arguments)
        except RedisConnectionError:
            return await self._scripts.call("enqueue", (), arguments)

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._sender is not None:
            await asyncio.wait({self._sender})


def _unavailable(error: BaseException) -> Unavailable:
    unavailable = Unavailable()
    unavailable.__cause__ = error
    return unavailable


def _judge(reply: tuple[str, str, int], request: Request) -> "Enqueued | ArqadeError":
    code, job_id, now = reply
    match code:
        case "created" | "exists":
            return Enqueued(job_id, code == "created", now)
        case "conflict":
            return UniqueConflict(request.unique_key or "", job_id)
        case "mismatch":
            return IdempotencyConflict(request.idempotency_key or "")
        case _:
            return QueueFull(request.queue or keys.DEFAULT_QUEUE, 0)
