"""`/docs` and `/openapi.json`. The page is three small files of our own and asks no other host for anything."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from service.api.access import open_to_all
from service.api.routing import router

docs = router("docs")

FOLDER: Final = Path(__file__).parent / "docs_page"
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@docs.get("/openapi.json", include_in_schema=False)
@open_to_all
async def get_openapi_document(request: Request) -> Response:
    """The description of this API."""
    return JSONResponse(request.app.openapi())


@docs.get("/docs", include_in_schema=False)
@open_to_all
async def get_docs(_: Request) -> Response:
    """The reader's view of it."""
    return _file("index.html", "text/html; charset=utf-8")


@docs.get("/docs/docs.css", include_in_schema=False)
@open_to_all
async def get_docs_style(_: Request) -> Response:
    return _file("docs.css", "text/css; charset=utf-8")


@docs.get("/docs/docs.js", include_in_schema=False)
@open_to_all
async def get_docs_script(_: Request) -> Response:
    return _file("docs.js", "text/javascript; charset=utf-8")


def _file(name: str, media_type: str) -> Response:
    return FileResponse(FOLDER / name, headers=_HEADERS, media_type=media_type)
