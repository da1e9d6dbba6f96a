"""The ETag of a job: what If-None-Match spares an answer by, and If-Match guards a change by.

It is the same whatever `include` adds, and changes when the job does. What is not the job's has no part in it: its
place in the queue (`waiting_on`) moves with every job ahead of it, and would wake each long poll and fail each
guarded change for nothing. Two answers with one tag may therefore differ there, and such a tag is a weak one (RFC 9110
section 8.8.1). As it leaves out only what no caller can change, If-Match is compared weakly too.
"""

import hashlib
from typing import cast

from service import engine
from service.api.presenting import json_body, present_job


def job_tag(job: engine.Job) -> str:
    """The ETag of a job as it was read."""
    shown = cast("dict[str, object]", present_job(job))
    del shown["waiting_on"]
    beside = [job.timeout, job.released, len(job.attempts), job.result_error]
    return f'W/"{hashlib.blake2b(json_body([shown, beside]), digest_size=12).hexdigest()}"'


def names(listed: str | None, tag: str) -> bool:
    """Whether If-Match or If-None-Match lists the tag (RFC 9110 section 8.8.3.2: weak comparison)."""
    if listed is None:
        return False
    tags = (one.strip().removeprefix("W/") for one in listed.split(","))
    return listed.strip() == "*" or tag.removeprefix("W/") in tags
