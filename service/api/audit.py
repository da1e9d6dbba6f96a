"""Taking note of who changes what: written after the answer, and never lost without a word."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated, Any

import orjson
import structlog
from fastapi import BackgroundTasks, Depends
from starlette.requests import Request

from service.api.access import caller
from service.api.services import services
from service.engine import Deed, Unavailable

_log = structlog.stdlib.get_logger("audit")


class Audit:
    """What one call did."""

    def __init__(self, request: Request, background: BackgroundTasks) -> None:
        self._request = request
        self._background = background
        self._log = services(request).engine.audit
        self._deeds: list[Deed] = []

    def did(self, action: str, *, target: str, **details: Any) -> None:
        """Note that the caller did `action`, such as `queue.pause`, to `target`. Say it before what may be cut off."""
        who, client = caller(self._request), self._request.client
        self._deeds.append(
            Deed(
                action=action,
                target=target,
                caller_id=who.id,
                caller_name=who.name,
                address=client.host if client else None,
                request_id=self._request.scope["state"]["request_id"],
                details=details,
            )
        )
        self._background.add_task(self.write)

    def add(self, *, target: str | None = None, **details: Any) -> None:
        """What the last thing that was noted came to: known only when it is done, such as the id of what was made."""
        deed = self._deeds[-1]
        reached = deed.target if target is None else target
        self._deeds[-1] = replace(deed, target=reached, details={**deed.details, **details})

    def raised(self, error: BaseException) -> None:
        """What was tried may not have happened: every note of this call says so."""
        self._deeds = [replace(deed, details={**deed.details, "raised": type(error).__name__}) for deed in self._deeds]

    async def write(self) -> None:
        """Write what has not been written. What Redis does not take goes to the log, whole."""
        while self._deeds:
            await self._write(self._deeds.pop(0))

    async def _write(self, deed: Deed) -> None:
        written = False
        try:
            await self._log.write(deed)
            written = True
        except (Unavailable, TypeError):
            pass
        finally:  # also when this call is cancelled meanwhile
            if not written:
                self._log.lost += 1
                _log.error("audit_entry_not_written", lost=self._log.lost, **orjson.loads(_line(deed)))


def _line(deed: Deed) -> bytes:
    return orjson.dumps(deed, default=repr)


async def _audit(request: Request, background: BackgroundTasks) -> AsyncGenerator[Audit, None]:
    """Usually the background task writes. FastAPI drops it when the endpoint raises or its answer is cut off."""
    audit = Audit(request, background)
    try:
        yield audit
    except BaseException as error:
        audit.raised(error)
        raise
    finally:
        await audit.write()


Audited = Annotated[Audit, Depends(_audit)]
"""Declare it in an endpoint of an `injected_router`."""
