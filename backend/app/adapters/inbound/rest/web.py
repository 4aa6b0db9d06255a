"""The page that people talk in: built from `frontend/` into this package, and served from there."""

import re
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse, Response

from app.adapters.inbound.json_bodies import JsonRoute
from app.core.domain.errors import NotFound

router = APIRouter(route_class=JsonRoute)

FOLDER = Path(__file__).parents[3] / "web"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HASHED = re.compile(r"-[A-Za-z0-9_-]{8}\.[a-z0-9]+$")
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
_HEADERS = {
    # Nothing that a model writes can make the page run a script or ask another host.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def built_page() -> Response | None:
    """The page; None where it was not built."""
    html = _html()
    return HTMLResponse(html, headers=_HEADERS) if html is not None else None


@cache
def _html() -> str | None:
    index = FOLDER / "index.html"
    return index.read_text(encoding="utf-8") if index.is_file() else None


@router.get("/assets/{name}", include_in_schema=False)
async def asset(name: str, request: Request) -> Response:
    """A script, style, font or picture of the page."""
    media_type = _TYPES.get(Path(name).suffix)
    path = FOLDER / "assets" / name
    if media_type is None or not _NAME.fullmatch(name) or not path.is_file():
        raise NotFound("The page has no such part. Load it again.")
    lasting = "public, max-age=31536000, immutable" if _HASHED.search(name) else "public, max-age=3600"
    headers = {"Cache-Control": lasting, "X-Content-Type-Options": "nosniff", "Vary": "Accept-Encoding"}
    accepted = request.headers.get("accept-encoding", "")
    for encoding, suffix in _ENCODINGS:
        smaller = path.with_name(name + suffix)
        if encoding in accepted and smaller.is_file():
            return FileResponse(smaller, media_type=media_type, headers={**headers, "Content-Encoding": encoding})
    return FileResponse(path, media_type=media_type, headers=headers)
