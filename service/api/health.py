"""Health: is the process alive, and can it do its work?"""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.api import shapes
from service.api.access import open_to_all
from service.api.presenting import json_response
from service.api.problems import Problem
from service.api.routing import answer, path_parameter, problems, router
from service.api.services import services
from service.engine import Engine, Unavailable

health = router("health")

PATIENCE: Final = 2.0
"""Seconds after which Redis counts as away: probes give up about then."""

_SAFE_POLICY: Final = "noeviction"


@health.get(
    "/livez",
    operation_id="get_liveness",
    summary="Is the process alive?",
    response_description="it is",
    responses={200: answer("Alive", "it is"), **problems()},
)
@open_to_all
async def get_liveness(_: Request) -> Response:
    """Says nothing about Redis: restarting this process would not bring it back."""
    return json_response({"alive": True})


@health.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Can it do its work?",
    response_description="it can",
    responses={200: answer("Readiness", "it can"), **problems("not-ready")},
)
@open_to_all
async def get_readiness(request: Request) -> Response:
    """Every check, with what it found."""
    return _judge(await run_checks(services(request).engine))


@health.get(
    "/readyz/{check}",
    operation_id="get_readiness_check",
    summary="One of the checks",
    response_description="it passes",
    responses={200: answer("Readiness", "it passes"), **problems("check-not-found", "not-ready")},
    openapi_extra={"parameters": [path_parameter("check", "redis or eviction")]},
)
@open_to_all
async def get_readiness_check(request: Request) -> Response:
    """`redis`: it answers. `eviction`: it refuses writes when full, and throws no job away."""
    checks = await run_checks(services(request).engine)
    name = request.path_params["check"]
    if name not in checks:
        raise Problem("check-not-found", f"the checks are {', '.join(checks)}")
    return _judge({name: checks[name]})


async def run_checks(engine: Engine) -> dict[str, shapes.Check]:
    """All checks, by name; they never raise."""
    try:
        async with asyncio.timeout(PATIENCE):
            found = await engine.ping()
    except (Unavailable, TimeoutError):
        return {
            "redis": {"ok": False, "detail": "Redis does not answer"},
            "eviction": {"ok": False, "detail": "unknown while Redis does not answer"},
        }
    policy = str(found["maxmemory_policy"])
    fix = "" if policy == _SAFE_POLICY else f": jobs would be thrown away; CONFIG SET maxmemory-policy {_SAFE_POLICY}"
    return {
        "redis": {"ok": True, "detail": f"Redis {found['redis_version']}, {found['round_trip_ms']} ms"},
        "eviction": {"ok": policy == _SAFE_POLICY, "detail": policy + fix},
    }


def _judge(checks: Mapping[str, shapes.Check]) -> Response:
    failing = [name for name, check in checks.items() if not check["ok"]]
    if failing:
        raise Problem("not-ready", f"failing: {', '.join(failing)}", checks=checks)
    return json_response({"ready": True, "checks": checks})
