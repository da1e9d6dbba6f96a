"""Batches: enqueue up to 10,000 jobs in one call, and see how they stand."""

from collections.abc import Callable
from typing import Final, cast

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.access import needs, permit
from service.api.batch_request import JSON, NDJSON, AskedBatch, Unfit, read_batch
from service.api.earlier import permit_earlier
from service.api.enqueue import IDEMPOTENCY_KEY, REPLAYED
from service.api.presenting import json_response
from service.api.problems import ENGINE_ERRORS, MOST_ERRORS, Problem, explained, render
from service.api.routing import answer, path_parameter, problems, query_parameter, reference, router
from service.api.services import services

PATH: Final = "/v1/batches"

batches = router("batches")

_MODE: Final = query_parameter(
    "mode", "the mode of an NDJSON batch", {"type": "string", "enum": [mode.value for mode in engine.BatchMode]}
)


@batches.post(
    PATH,
    operation_id="enqueue_batch",
    summary="Enqueue many jobs",
    status_code=202,
    response_description="what became of each",
    responses={
        202: answer("NewBatch", "what became of each", ["Location", "Idempotent-Replayed"]),
        **problems(
            "malformed-json",
            "body-too-large",
            "batch-too-large",
            "unsupported-media-type",
            "validation-failed",
            "batch-refused",
            "invalid-input",
            "secret-missing",
            "idempotency-conflict",
            "queue-full",
            "unavailable",
        ),
    },
    openapi_extra={
        "parameters": [_MODE, IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": reference("BatchRequest")},
                NDJSON: {"schema": {"type": "string", "description": "a JobRequest on each line"}},
            },
        },
    },
)
@needs(engine.Scope.ENQUEUE)
async def enqueue_batch(request: Request) -> Response:
    """Up to 10,000 jobs in one call. `partial` enqueues what it can and says of each other job why it cannot be;
    `atomic` enqueues all or none, and its jobs can name earlier ones in `after` by their places.

    An `Idempotency-Key` covers the batch as a whole: a repeated call makes no job twice, and completes a batch that
    was cut off.
    """
    known = services(request)
    asked = await read_batch(request, known.settings.max_body, _gate(request))
    await _permit_earlier(request, asked)
    try:
        made = await known.engine.batches.enqueue(asked.requests, asked.mode, asked.key)
    except engine.BatchRefused as refusal:
        return _refused(request, {**refusal.refusals, **asked.problems})
    body: shapes.NewBatch = {**_present(made.batch), "results": _results(made, asked)}
    headers = {"location": f"{PATH}/{made.batch.id}", **(REPLAYED if made.replayed else {})}
    return json_response(body, 202, headers)


@batches.get(
    PATH + "/{batch_id}",
    operation_id="get_batch",
    summary="Get a batch",
    response_description="how its jobs stand",
    responses={
        200: answer("Batch", "how its jobs stand"),
        **problems("batch-not-found", "unavailable"),
    },
    openapi_extra={"parameters": [path_parameter("batch_id", "id of the batch")]},
)
@needs(engine.Scope.READ)
async def get_batch(request: Request) -> Response:
    """Counted when it is asked for: of 10,000 jobs, this takes a tenth of a second."""
    batch = await services(request).engine.batches.get(request.path_params["batch_id"])
    for function in sorted(batch.functions):
        permit(request, function=function)
    for queue in sorted(batch.queues):
        permit(request, queue=queue)
    return json_response(_present(batch), headers={"cache-control": "no-cache"})


async def _permit_earlier(request: Request, asked: AskedBatch) -> None:
    for index, wanted in enumerate(asked.requests):
        if wanted is not None and wanted.after:
            try:
                await permit_earlier(request, wanted.after)
            except Problem as problem:
                asked.problems[index], asked.requests[index] = problem, None


def _gate(request: Request) -> Callable[[engine.Request], None]:
    """Raises for what this caller may not enqueue: asked once for each function and queue."""
    known = services(request).engine
    answers: dict[tuple[str, str | None], Unfit | None] = {}

    def check(asked: engine.Request) -> None:
        touched = asked.function, asked.queue
        if touched not in answers:
            try:
                queue = asked.queue or known.get_function(asked.function).queue
                permit(request, function=asked.function, queue=queue)
                answers[touched] = None
            except (Problem, engine.ArqadeError) as problem:
                answers[touched] = problem
        problem = answers[touched]
        if problem is not None:
            raise problem

    return check


def _present(batch: engine.Batch) -> shapes.Batch:
    return {
        "id": batch.id,
        "mode": batch.mode,
        "created_at": batch.created_at,
        "size": batch.size,
        "refused": batch.refused,
        "states": {state.value: count for state, count in batch.states.items()},
        "purged": batch.purged,
        "done": batch.done,
        "progress": {"current": batch.ended, "total": batch.jobs, "message": None},
        "links": {"self": f"{PATH}/{batch.id}"},
    }


def _results(made: engine.NewBatch, asked: AskedBatch) -> list[shapes.BatchItem]:
    return [_result(index, outcome or asked.problems[index]) for index, outcome in enumerate(made.outcomes)]


def _result(index: int, outcome: engine.BatchJob | Unfit) -> shapes.BatchItem:
    if isinstance(outcome, engine.BatchJob):
        return {
            "index": index,
            "job_id": outcome.job_id,
            "state": outcome.state,
            "deduplicated": outcome.deduplicated,
            "problem": None,
        }
    return {"index": index, "job_id": None, "state": None, "deduplicated": False, "problem": _refusal(outcome)}


def _refusal(problem: Unfit) -> shapes.Refusal:
    kind, detail, errors, more = explained(problem)
    refusal = {
        "type": f"urn:arqade:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
        "errors": errors,
        "hint": kind.hint,
        **more,
    }
    return cast("shapes.Refusal", refusal)


def _refused(request: Request, refusals: dict[int, Unfit]) -> Response:
    """Why an atomic batch is not: nothing but a full queue passes by itself, the rest is the caller's to mend."""
    full = next((one for one in refusals.values() if isinstance(one, engine.QueueFull)), None)
    if full is not None and all(isinstance(one, engine.QueueFull) for one in refusals.values()):
        raise full
    errors: list[shapes.ProblemError] = []
    for index in sorted(refusals)[:MOST_ERRORS]:
        kind, detail, inner, _ = explained(refusals[index])
        whole: shapes.ProblemError = {"detail": detail, "type": kind.code}
        for one in inner or (whole,):
            pointer = f"/jobs/{index}{one.get('pointer', '')}"
            errors.append({"pointer": pointer, "detail": one["detail"], "type": one["type"]})
    detail = f"nothing was enqueued: {len(refusals)} of the jobs cannot be"
    return render(request.scope, ENGINE_ERRORS[engine.BatchRefused], detail, errors[:MOST_ERRORS], {})
