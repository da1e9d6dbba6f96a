"""The audit log: who changed what."""

from starlette.requests import Request
from starlette.responses import Response

from service.api import shapes
from service.api.access import needs
from service.api.paging import LIST_PARAMETERS, bad_cursor, envelope, read_cursor, read_limit
from service.api.presenting import json_response
from service.api.routing import answer, problems, router
from service.api.services import services
from service.engine import AuditEntry, InvalidInput, Scope, redact

audit_entries = router("audit")


@audit_entries.get(
    "/v1/audit",
    operation_id="list_audit_entries",
    summary="List who changed what",
    response_description="entries, the newest first",
    responses={200: answer("AuditList", "entries, the newest first"), **problems("validation-failed", "unavailable")},
    openapi_extra={"parameters": LIST_PARAMETERS},
)
@needs(Scope.ADMIN)
async def list_audit_entries(request: Request) -> Response:
    """The last 10,000 or so. A call's entry is written after its answer."""
    wanted = read_limit(request)
    try:
        found = await services(request).engine.audit.read(before=read_cursor(request), limit=wanted + 1)
    except InvalidInput:
        raise bad_cursor() from None
    shown = [present_entry(entry) for entry in found[:wanted]]
    content = envelope(shown, shown[-1]["id"] if len(found) > wanted else None)
    return json_response(content, headers={"cache-control": "no-store"})


def present_entry(entry: AuditEntry) -> shapes.AuditEntry:
    deed = entry.deed
    return {
        "id": entry.id,
        "at": entry.at,
        "action": deed.action,
        "target": deed.target,
        "caller": {"id": deed.caller_id, "name": deed.caller_name},
        "address": deed.address,
        "request_id": deed.request_id,
        "details": redact(deed.details),
    }
