"""Batches."""

from datetime import datetime
from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.api.shapes.jobs import Progress
from service.api.shapes.problems import ProblemError
from service.engine import BatchMode, JobState


class BatchLinks(TypedDict):
    self: str


class Refusal(TypedDict):
    """Why one of a batch's jobs was not enqueued: what a call of its own would have been answered with."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemError]
    hint: str
    did_you_mean: NotRequired[str | None]
    job_id: NotRequired[str]


class BatchItem(TypedDict):
    """What became of one of the jobs, by its place in the request."""

    index: int
    job_id: Annotated[str | None, Field(description="null when it was not enqueued")]
    state: Annotated[JobState | None, Field(description="null when it was not enqueued, or is no longer kept")]
    deduplicated: Annotated[bool, Field(description="the job that holds the unique key")]
    problem: Annotated[Refusal | None, Field(description="why it was not enqueued")]


class Batch(TypedDict):
    id: str
    mode: BatchMode
    created_at: datetime
    size: Annotated[int, Field(description="jobs that were asked for")]
    refused: Annotated[int, Field(description="jobs that were not enqueued")]
    states: Annotated[
        dict[str, int], Field(description="how many jobs are in each state; those with none are left out")
    ]
    purged: Annotated[int, Field(description="jobs that ended and are no longer kept")]
    done: Annotated[bool, Field(description="every job that was enqueued has ended")]
    progress: Annotated[Progress, Field(description="jobs that have ended, of those that were enqueued")]
    links: BatchLinks


class NewBatch(Batch):
    results: Annotated[list[BatchItem], Field(description="one for each job that was asked for, in order")]
