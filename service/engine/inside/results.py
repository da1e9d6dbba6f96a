"""What the jobs before this one returned, read when it starts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import orjson

from service.engine.errors import ResultExpired
from service.engine.scripts import Scripts

_AT_ONCE: Final = 500


class Results(Mapping[str, Any]):
    """By job id, in the order of `after`: what each job returned, as plain JSON values.

    A job that ended without success has none. One of which nothing is kept, as it was deleted or its time has passed,
    has its place: asking for its result raises ResultExpired, which ends the job as failed.
    """

    def __init__(self, known: Mapping[str, Any], gone: frozenset[str] = frozenset()) -> None:
        """`known`: with any value for those that are `gone`, which have their place too."""
        self._known = known
        self._gone = gone

    def __getitem__(self, job_id: str) -> Any:
        if job_id in self._gone:
            raise ResultExpired(job_id)
        return self._known[job_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


async def fetch(scripts: Scripts, job_ids: Sequence[str]) -> Results:
    """The results of these jobs as Redis has them now. Raises redis.exceptions.RedisError or OSError."""
    known: dict[str, Any] = {}
    gone: set[str] = set()
    first = 0
    while first < len(job_ids):
        part = job_ids[first : first + _AT_ONCE]
        records = cast("list[bytes | None]", await scripts.call("results", (), list(part)))
        first += len(records)
        for job_id, record in zip(part, records, strict=False):  # of large ones, the first few
            kept, value = _result_in(record)
            if not kept:
                gone.add(job_id)
            if not kept or value is not None:
                known[job_id] = value[0] if value is not None else None
    return Results(known, frozenset(gone))


def _result_in(record: bytes | None) -> tuple[bool, tuple[Any] | None]:
    """Whether it is known what the job returned, and that, in a tuple, if it has succeeded."""
    try:
        stored = cast("dict[str, Any]", orjson.loads(record or b""))
        if not stored["s"]:
            return True, None
        return "result_error" not in stored, (stored["r"],)
    except (LookupError, TypeError, ValueError):
        return False, None
