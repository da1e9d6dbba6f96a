"""Keys: make one, look at them, revoke one."""

from typing import Final

from fastapi import Request
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.access import caller, needs
from service.api.audit import Audited
from service.api.bodies import read_json
from service.api.door import LOCAL
from service.api.key_request import lies_within, read_key_request
from service.api.paging import LIST_PARAMETERS, page
from service.api.presenting import json_response
from service.api.problems import BAD_BODY, Problem
from service.api.routing import answer, injected_router, json_request, path_parameter, problems, reference
from service.api.services import services

keys = injected_router("keys")

_ID: Final = path_parameter("key_id", "id of the key")
_FRESH: Final = {"cache-control": "no-store"}


@keys.post(
    "/v1/keys",
    operation_id="create_key",
    summary="Make a key",
    status_code=201,
    response_description="made; `token` is shown now and never again",
    responses={
        201: answer("NewKey", "made; `token` is shown now and never again", ["Location"]),
        **problems(*BAD_BODY, "invalid-input", "beyond-own-key", "unavailable"),
    },
    openapi_extra={"requestBody": json_request(reference("KeyRequest"))},
)
@needs(engine.Scope.ADMIN)
async def create_key(request: Request, audit: Audited) -> Response:
    """A key can give what it has and no more: scopes, functions, queues and lifetime."""
    credentials, who = services(request).engine.credentials, caller(request)
    body = await read_json(request)
    asked = read_key_request(body, None if who is LOCAL else await credentials.get(who.id), who.id)
    audit.did("key.create", target="", **asked.details)
    issued = await credentials.create(asked)
    key = issued.key
    audit.add(target=key.id)
    shown: shapes.NewKey = {**present_key(key), "token": issued.token}
    return json_response(shown, 201, {"location": f"/v1/keys/{key.id}", **_FRESH})


@keys.get(
    "/v1/keys",
    operation_id="list_keys",
    summary="List the keys",
    response_description="keys, the newest first",
    responses={200: answer("KeyList", "keys, the newest first"), **problems("validation-failed", "unavailable")},
    openapi_extra={"parameters": LIST_PARAMETERS},
)
@needs(engine.Scope.ADMIN)
async def list_keys(request: Request) -> Response:
    """Those that may do no more than your own; expired ones too, until they are revoked."""
    who = caller(request)
    every = await services(request).engine.credentials.all()
    found = sorted((key for key in every if lies_within(who, key.caller)), key=lambda key: key.id, reverse=True)
    return json_response(page(request, {key.id: present_key(key) for key in found}, descending=True), headers=_FRESH)


@keys.get(
    "/v1/keys/{key_id}",
    operation_id="get_key",
    summary="Get a key",
    response_description="the key",
    responses={200: answer("Key", "the key"), **problems("key-not-found", "beyond-own-key", "unavailable")},
    openapi_extra={"parameters": [_ID]},
)
@needs(engine.Scope.ADMIN)
async def get_key(request: Request) -> Response:
    """What it is for and when it was last used; never its token."""
    return json_response(present_key(await _own_or_less(request)), headers=_FRESH)


@keys.delete(
    "/v1/keys/{key_id}",
    operation_id="revoke_key",
    summary="Revoke a key",
    status_code=204,
    response_description="revoked",
    responses={204: {"description": "revoked"}, **problems("key-not-found", "beyond-own-key", "unavailable")},
    openapi_extra={"parameters": [_ID]},
)
@needs(engine.Scope.ADMIN)
async def revoke_key(request: Request, audit: Audited) -> Response:
    """Within 3 s no API process lets it in any more. A key that may do more than your own is not yours to revoke."""
    key = await _own_or_less(request)
    audit.did("key.revoke", target=key.id, name=key.caller.name)
    await services(request).engine.credentials.revoke(key.id)
    return Response(None, 204)


async def _own_or_less(request: Request) -> engine.AccessKey:
    """The key that the path names. Raises KeyNotFound, and Problem when it may do more than the caller's own."""
    key = await services(request).engine.credentials.get(request.path_params["key_id"])
    if not lies_within(caller(request), key.caller):
        raise Problem("beyond-own-key", "that key may do more than yours")
    return key


def present_key(key: engine.AccessKey) -> shapes.Key:
    return {
        "id": key.id,
        "name": key.caller.name,
        "scopes": sorted(key.caller.scopes),
        "functions": list(key.caller.functions),
        "queues": list(key.caller.queues),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "links": {"self": f"/v1/keys/{key.id}"},
    }
