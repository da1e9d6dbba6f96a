"""Everything ends here: outcomes are written down, those of one event-loop turn in one call, each under its token."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import orjson
import structlog
from arq.worker import JobExecutionFailed
from redis.exceptions import OutOfMemoryError, RedisError

from service.engine import keys
from service.engine.clock import RedisClock
from service.engine.codec import Serializer, encode
from service.engine.model import JobState
from service.engine.outcome import Ending, Finish, HandBack
from service.engine.run import Run
from service.engine.scripts import Argument, Scripts, in_parts

BATCH: Final = 250
RESULT_MAX: Final = 64 * 1024 * 1024
"""Bytes. Redis cuts a link that sends much more, each time it is tried, and no other outcome would get through."""
_RETRY_AFTER: Final = (0.05, 0.2, 0.5, 1.0)
_EVENT: Final = {state: f"job.{state}" for state in JobState}
log = structlog.get_logger("arqade.finish")


class Ended(NamedTuple):
    """An attempt whose end is recorded (or was refused because another owns the job). `at` in ms, Redis's clock."""

    run: Run
    ending: Ending
    at: int
    recorded: bool

    @property
    def outcome(self) -> str:
        """How the attempt ended, in a word."""
        if self.ending is None or not self.recorded:
            return "disowned"
        if self.ending.attempt_state is not None:
            return self.ending.attempt_state.value
        return self.ending.state.value if isinstance(self.ending, Finish) else self.ending.phase


Listener = Callable[[Sequence[Ended]], None]


class _Pending(NamedTuple):
    run: Run
    ending: Finish | HandBack
    at: int


class Finisher:
    """Collects endings and writes them. Keeps them, and tries again, for as long as Redis is away."""

    def __init__(
        self,
        scripts: Scripts,
        clock: RedisClock,
        listener: Listener,
        *,
        serializer: Serializer | None,
        events_kept: int,
    ) -> None:
        self._scripts = scripts
        self._clock = clock
        self._listener = listener
        self._serializer = serializer
        self._events_kept = events_kept
        self._pending: list[_Pending] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, run: Run, ending: Ending) -> None:
        """Take over an ended attempt; it is written at the end of this turn of the loop."""
        at = self._clock.now()
        if ending is None:
            self._listener((Ended(run, None, at, recorded=False),))
            return
        self._pending.append(_Pending(run, ending, at))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write(), name="arqade-finish")

    @property
    def waiting(self) -> int:
        """Endings that are not written yet."""
        return len(self._pending)

    async def drain(self, within: float | None = None) -> None:
        """Return when everything is written, or give up after `within` seconds: the leases then run out."""
        try:
            async with asyncio.timeout(within):
                while self._task is not None:
                    await asyncio.wait({self._task})
        except TimeoutError:
            log.error("outcomes not recorded, Redis does not answer", jobs=len(self._pending))
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait({self._task})

    async def catch_up(self, within: float = 1.0) -> None:
        """Return when what is pending now is written, or after `within` seconds: then all but an outage is over."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=within)

    async def _write(self) -> None:
        try:
            while self._pending:
                batch = self._pending[:BATCH]
                ended = await self._record(batch)
                del self._pending[: len(batch)]
                self._listener(ended)
        finally:
            self._task = None

    async def _record(self, batch: list[_Pending]) -> list[Ended]:
        answers: dict[int, bool] = {}
        for name, ends, largest in (("finish", True, 3), ("reschedule", False, 7)):
            written = [self._written(item) for item in batch if isinstance(item.ending, Finish) is ends]
            for part in in_parts([item for item in written if item[1]], largest):
                arguments = [argument for _, words in part for argument in words]
                answers |= zip((key for key, _ in part), await self._call(name, arguments), strict=True)
        return [Ended(item.run, item.ending, item.at, answers.get(id(item), False)) for item in batch]

    def _written(self, item: _Pending) -> tuple[int, tuple[Argument, ...]]:
        """An ending as its script takes it. One that cannot be written down must not keep back the others."""
        try:
            finish = isinstance(item.ending, Finish)
            return id(item), self._finish_arguments(item) if finish else self._hand_back_arguments(item)
        except Exception:
            log.exception("an outcome cannot be written down; its lease will run out", job_id=item.run.job_id)
            return id(item), ()

    async def _call(self, name: str, arguments: list[Argument]) -> list[bool]:
        """Insist: the work is done, and a repeated call is answered like the first."""
        tries, full = 0, False
        while True:
            try:
                answers = await self._scripts.call(name, (), [self._events_kept, *arguments], full=full)
                return [bool(answer) for answer in answers]
            except (RedisError, OSError) as error:
                if name == "finish" and isinstance(error, OutOfMemoryError):
                    arguments, full = _without_results(arguments), True
                log.warning("outcome not recorded yet", script=name, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RETRY_AFTER[min(tries, len(_RETRY_AFTER) - 1)])
                tries += 1

    def _finish_arguments(self, item: _Pending) -> tuple[Argument, ...]:
        run, ending = item.run, item.ending
        assert isinstance(ending, Finish)
        registration = run.registration
        ttl = 86_400.0
        if registration is not None:
            ttl = registration.result_ttl if ending.state is JobState.SUCCEEDED else registration.failed_ttl
        milliseconds = -1 if ttl < 0 else int(ttl * 1000)
        return (
            run.job_id,
            run.claimed.token,
            run.claimed.queue,
            self._record_of(run, ending, item.at) if milliseconds else b"",
            milliseconds,
            _event(run, ending, item.at),
            run.options.get("unique_key", ""),
            "1" if run.noted else "",
        )

    def _record_of(self, run: Run, ending: Finish, at: int) -> bytes:
        """ARQ's result, with our fields beside. An unserialisable result leaves success a success."""
        registration = run.registration
        success = ending.state is JobState.SUCCEEDED
        record: dict[str, Any] = {
            "t": run.attempt, "f": run.function, "id": run.job_id, "state": ending.state.value, "s": success,
            "a": run.args, "k": run.kwargs, "et": run.enqueued, "st": run.started, "ft": at, "q": run.claimed.queue,
            "by": run.claimed.token,
        }  # fmt: skip
        if run.options:
            record["x"] = run.options
        if ending.error is not None and ending.error.type == "PayloadUnreadable":
            record["raw"] = base64.b64encode(run.claimed.payload).decode()  # whoever can read it may still run it
        if ending.attempt_state != ending.state:  # "" when no attempt was begun
            record["attempt_state"] = ending.attempt_state.value if ending.attempt_state is not None else ""
        try:
            record["r"] = run.dump(ending.value) if success and registration is not None else self._error_of(ending)
            encoded = self._encode(record)
            if success and len(encoded) > RESULT_MAX:
                raise ValueError(f"the result is too large to be kept: {len(encoded)} bytes")
            return encoded
        except Exception as error:  # noqa: BLE001  # any object may refuse to be serialised, in its own way
            reason = f"{type(error).__name__}: {error}"[:500]
            if self._serializer is not None:
                return self._foreign_without_result(record | {"result_error": reason})
            kept = {"r": None, "result_error": reason} if success else {"r": reason}
            return encode(record | _plain_arguments(record) | kept)

    def _encode(self, record: dict[str, Any]) -> bytes:
        if self._serializer is None:
            return encode(record)
        if isinstance(record["r"], orjson.Fragment):
            record["r"] = orjson.loads(orjson.dumps(record["r"]))
        return self._serializer(record)

    def _foreign_without_result(self, record: dict[str, Any]) -> bytes:
        """In the team's own format and ARQ's own words, which its clients raise as SerializationError."""
        assert self._serializer is not None
        record |= {"s": False, "r": "unable to serialize result"}
        try:
            return self._serializer(record)
        except Exception:  # noqa: BLE001  # then it is the arguments that cannot be written again
            return self._serializer(record | {"a": tuple(repr(value)[:200] for value in record["a"]), "k": {}})

    def _error_of(self, ending: Finish) -> Any:
        """Text on JSON; the exception itself where a team kept ARQ's pickle, whose clients raise it."""
        if self._serializer is None:
            return asdict(ending.error) if ending.error is not None else None
        return ending.exception if ending.exception is not None else _as_exception(ending)

    def _hand_back_arguments(self, item: _Pending) -> tuple[Argument, ...]:
        run, ending = item.run, item.ending
        assert isinstance(ending, HandBack)
        history: bytes = b""
        kind = ""
        if ending.attempt_state is not None:
            history = orjson.dumps(_history_entry(run, ending, item.at))
            kind = {"retrying": "job.retrying", "queued": "job.released"}.get(ending.phase, "job.snoozed")
        return (
            run.job_id,
            run.claimed.token,
            run.claimed.queue,
            int(ending.delay * 1000),
            int(run.options.get("priority", 0)),
            0 if ending.counted else -1,
            ending.phase,
            history,
            kind,
            b',"attempt":%d,"delay_s":%.3f%s' % (run.attempt, ending.delay, _error_part(ending)),
        )


def _event(run: Run, ending: Finish, at: int) -> bytes:
    fields: dict[str, Any] = {
        "type": _EVENT[ending.state],
        "at": at,
        "job_id": run.job_id,
        "function": run.function,
        "queue": keys.queue_name(run.claimed.queue),
        "attempt": run.attempt,
    }
    if ending.error is not None:
        fields["error"] = {"type": ending.error.type, "message": ending.error.message[:500]}
    return orjson.dumps(fields)


def _history_entry(run: Run, ending: HandBack, at: int) -> dict[str, Any]:
    return {
        "attempt": run.attempt,
        "state": ending.attempt_state,
        "worker_id": run.claimed.token.split("|", 1)[0],
        "started_at": run.started,
        "ended_at": at,
        "error": asdict(ending.error) if ending.error is not None else None,
    }


def _error_part(ending: HandBack) -> bytes:
    """The error's type and message for the event; its traceback stays with the job."""
    if ending.error is None:
        return b""
    return b',"error":' + orjson.dumps({"type": ending.error.type, "message": ending.error.message[:500]})


def _as_exception(ending: Finish) -> BaseException:
    """What ARQ itself stores where no function has raised."""
    error = ending.error
    if error is not None and error.type == "CancelledError":
        return asyncio.CancelledError(error.message)
    return JobExecutionFailed(error.message if error is not None else ending.state.value)


def _plain_arguments(record: dict[str, Any]) -> dict[str, Any]:
    """Arguments that came as a pickle may have no JSON form; the record then says what they looked like."""
    try:
        encode({"a": record["a"], "k": record["k"]})
    except TypeError:
        return {"a": [repr(value)[:200] for value in record["a"]], "k": {}}
    return {}


def _without_results(arguments: list[Argument]) -> list[Argument]:
    """Redis is full: the completion is recorded, the result is not."""
    lean = list(arguments)
    for at in range(3, len(lean), 8):
        record = lean[at]
        if isinstance(record, bytes) and record.startswith(b"{"):
            stored = orjson.loads(record)
            if stored.get("s"):
                lean[at] = encode(stored | {"r": None, "result_error": "Redis was full: the result was dropped"})
    return lean
