"""The page of the REST surface: Swagger UI out of this installation, under a policy as strict as the page's own."""

import hashlib
import re
from base64 import b64encode
from functools import lru_cache

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

router = APIRouter()

STATIC = "/static-offline-docs"
"""Where fastapi-offline serves Swagger UI's own files."""

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Every call, with examples."""
    app: FastAPI = request.app
    html, policy = _page(request.scope.get("root_path", ""), app.title)
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


@lru_cache(maxsize=8)
def _page(root: str, title: str) -> tuple[bytes, str]:
    """The page, and a policy that lets its one inline script run and no other."""
    html = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=title,
        swagger_js_url=f"{root}{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{root}{STATIC}/favicon.png",
    ).body
    scripts = _INLINE.findall(bytes(html).decode())
    hashes = " ".join(f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return bytes(html), policy
