"""ETags: what If-None-Match spares an answer by, and If-Match guards a change by.

That of a job is the same whatever `include` adds, and changes when the job does. What is not the job's has no part in
it: its place in the queue (`waiting_on`) moves with every job ahead of it, and would wake each long poll and fail each
guarded change for nothing. Two answers with one tag may therefore differ there, and such a tag is a weak one (RFC 9110
section 8.8.1). As it leaves out only what no caller can change, If-Match is compared weakly too. That of a schedule is
the version of what was asked for, which a proxy may have weakened.
"""

import hashlib
import re
from typing import Final, cast

from starlette.requests import Request

from service import engine
from service.api.presenting import json_body, present_job
from service.api.problems import Problem, summary

_VERSION: Final = re.compile(r'"(\d{1,18})"')


def job_tag(job: engine.Job) -> str:
    """The ETag of a job as it was read."""
    shown = cast("dict[str, object]", present_job(job))
    del shown["waiting_on"]
    beside = [job.timeout, job.released, len(job.attempts), job.result_error]
    return f'W/"{hashlib.blake2b(json_body([shown, beside]), digest_size=12).hexdigest()}"'


def schedule_tag(schedule: engine.Schedule) -> str:
    """The ETag of a schedule, for `read_version`."""
    return f'"{schedule.version}"'


def names(listed: str | None, tag: str) -> bool:
    """Whether If-Match or If-None-Match lists the tag (RFC 9110 section 8.8.3.2: weak comparison)."""
    if listed is None:
        return False
    tags = _tags(listed)
    return tags == ["*"] or tag.removeprefix("W/") in tags


def read_version(request: Request, seen: engine.Schedule) -> int | None:
    """The version of a schedule that `If-Match` asks for: that of `seen` if it is listed; None when any will do.

    Raises Problem for what is no ETag of a schedule.
    """
    tags = _tags(request.headers.get("if-match", "*"))
    if tags == ["*"]:
        return None
    found = [_VERSION.fullmatch(tag) for tag in tags]
    versions = [int(one[1]) for one in found if one is not None]
    if len(versions) < len(tags):
        detail = "the ETag of the schedule, as it was answered"
        raise Problem("validation-failed", summary(1), [{"header": "If-Match", "detail": detail, "type": "etag"}])
    return seen.version if seen.version in versions else versions[0]


def _tags(listed: str) -> list[str]:
    """Without what marks a weak one."""
    return [one.strip().removeprefix("W/") for one in listed.split(",")]
