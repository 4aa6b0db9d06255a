"""The first page and the login: a browser shows the token once and gets a session cookie."""

import asyncio
from html import escape
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, SecretStr, ValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.page import login_page, welcome_page
from app.adapters.inbound.rest.services import Atelier, Services
from app.adapters.inbound.rest.web import built_page
from app.adapters.inbound.session_cookie import SessionCookie
from app.core.domain.errors import InvalidFrame, RequestTimeout, Unauthenticated
from app.core.domain.text import read_json
from app.core.domain.user import LOCAL_USER, User
from app.core.services.rate_limits import Limited

router = APIRouter(route_class=JsonRoute, tags=["access"])

WRONG_TOKEN = (
    "That is not this service's token. The service printed it when it started, and keeps it in its data folder."  # noqa: S105
)
MAX_LOGIN_BYTES = 16_384
LOGIN_SECONDS = 30.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser calls the form's origin null, which the guard refuses
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Login(BaseModel):
    """The token of this installation."""

    token: SecretStr


@router.get("/", include_in_schema=False)
async def index(
    request: Request, atelier: Atelier, token: Annotated[str | None, Query(max_length=500)] = None
) -> Response:
    """The page; with `token` in the address, the session cookie and the page without it."""
    if token is not None:
        session = await _sign_in(request, atelier, token)
        if session is None:
            return HTMLResponse(login_page(WRONG_TOKEN), 401, _HEADERS)
        return _with_cookie(RedirectResponse("/", 303, _HEADERS), session, request)
    user: User | None = request.state.user
    if user is None:
        return HTMLResponse(login_page(), 401, _HEADERS)
    if (page := built_page()) is not None:
        return page
    recent = await atelier.history.list(user, limit=8, cursor=None, q=None, archived=False)
    return HTMLResponse(
        welcome_page(atelier.catalog.default, recent.items, escape(request.headers["host"])), 200, _HEADERS
    )


@router.post("/api/auth/login", max_body_size=MAX_LOGIN_BYTES, summary="Log a browser in")
async def login(request: Request, atelier: Atelier) -> Response:
    """Takes `{"token"}` as JSON, or the login page's form; sets the session cookie."""
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            body = await request.body()
    except TimeoutError as error:
        raise RequestTimeout("The request took too long to arrive. Send it again.") from error
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    token = _form_token(body) if is_form else _json_token(body)
    session = await _sign_in(request, atelier, token)
    if session is None:
        if is_form:
            return HTMLResponse(login_page(WRONG_TOKEN), 401, _HEADERS)
        raise Unauthenticated(WRONG_TOKEN)
    answer = RedirectResponse("/", 303, _HEADERS) if is_form else Json({"user": LOCAL_USER.id})
    return _with_cookie(answer, session, request)


@router.post("/api/auth/logout", status_code=204, summary="Log a browser out")
async def logout(request: Request, atelier: Atelier) -> Response:
    """Ends the session: its cookie is worth nothing any more, and its sockets are closed with 4401."""
    cookie: SessionCookie = request.app.state.cookie
    answer = Response(status_code=204)
    if (session := _session(request)) is not None:
        await atelier.sessions.end(session)
        await request.app.state.sockets.close_ended(atelier.sessions.is_valid)
    cookie.take_back(answer, request.url.scheme)
    return answer


@router.get("/api/auth/me", summary="Who I am")
async def me(request: Request) -> Response:
    """The user of the credential, and what the service has for them: `workflows`, where a ComfyUI is configured."""
    user: User = request.state.user
    services: Services = request.app.state.services
    return Json({"id": user.id, "name": user.name, "features": {"workflows": services.graphs.is_available}})


def _form_token(body: bytes) -> str:
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()


def _json_token(body: bytes) -> str:
    document = read_json(body, "The body")
    try:
        return Login.model_validate(document).token.get_secret_value()
    except ValidationError as error:
        raise InvalidFrame('Send {"token": "…"}.') from error


async def _sign_in(request: Request, atelier: Services, token: str) -> str | None:
    """A new session, in place of the one that the browser has; None for a wrong token.

    Raises:
        RateLimited: this address has tried too often.
    """
    atelier.rates.count(Limited.SIGN_INS, request.state.visitor)
    return await atelier.sessions.begin(token, replacing=_session(request))


def _session(request: Request) -> str | None:
    cookie: SessionCookie = request.app.state.cookie
    return cookie.read(request.headers.get("cookie"), request.url.scheme)


def _with_cookie(answer: Response, session: str, request: Request) -> Response:
    cookie: SessionCookie = request.app.state.cookie
    cookie.put(answer, session, request.url.scheme)
    return answer
