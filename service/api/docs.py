"""`/openapi.json`, and `/docs`: Swagger UI as the package `fastapi-offline` brings it, which asks no other host."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from service.api.access import open_to_all
from service.api.routing import router

docs = router("docs")

FOLDER: Final = Path(__file__).parent / "docs_page"
SWAGGER_UI: Final = Path(str(resources.files("fastapi_offline"))) / "static"
_ASSETS: Final[Mapping[str, tuple[Path, str]]] = {
    "start.js": (FOLDER, "text/javascript; charset=utf-8"),
    "page.css": (FOLDER, "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (SWAGGER_UI, "text/javascript; charset=utf-8"),
    "swagger-ui.css": (SWAGGER_UI, "text/css; charset=utf-8"),
}
_HEADERS: Final = {
    # Swagger UI draws its icons from data: URLs in its style sheet, and sets styles from its script.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
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
    """The reader's view of it, where each request can be tried."""
    return FileResponse(FOLDER / "index.html", headers=_HEADERS, media_type="text/html; charset=utf-8")


@docs.get("/docs/{asset}", include_in_schema=False)
@open_to_all
async def get_docs_asset(request: Request) -> Response:
    """What the page is made of."""
    name = request.path_params["asset"]
    if name not in _ASSETS:
        raise HTTPException(404)
    folder, media_type = _ASSETS[name]
    kept = {"cache-control": "max-age=86400"} if folder == SWAGGER_UI else {}  # 1.5 MB that change with the package
    return FileResponse(folder / name, headers={**_HEADERS, **kept}, media_type=media_type)
