"""What the API answers, as types: the source of the schemas in `/openapi.json`, and what the presenters build.

Nothing is validated against them at run time; a test holds real answers against them.
"""

from service.api.shapes.files import File, FileLinks
from service.api.shapes.functions import Function, FunctionLinks, FunctionList
from service.api.shapes.health import Alive, Check, Readiness
from service.api.shapes.jobs import Attempt, AttemptError, Job, JobError, Links, Progress
from service.api.shapes.problems import Problem, ProblemError

__all__ = [
    "Alive",
    "Attempt",
    "AttemptError",
    "Check",
    "File",
    "FileLinks",
    "Function",
    "FunctionLinks",
    "FunctionList",
    "Job",
    "JobError",
    "Links",
    "Problem",
    "ProblemError",
    "Progress",
    "Readiness",
]
