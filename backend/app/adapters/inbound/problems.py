"""Errors on HTTP: one table of status codes, and RFC 9457 problem documents."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage

from app.adapters.inbound.content import message_of
from app.core.domain.errors import AtelierError, Internal, InvalidFrame, NotFound, RequestTimeout, TooLarge
from app.core.domain.event import to_json
from app.core.domain.text import sentence
from app.core.domain.workflow_errors import RunnerUnavailable, WorkflowRefused
from app.core.services.tools import InvalidArguments

STATUS: dict[str, int] = {
    "invalid_frame": 422,
    "unknown_type": 422,
    "empty_input": 422,
    "too_large": 413,
    "unsupported_media_type": 415,
    "request_timeout": 408,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "conversation_busy": 409,
    "message_conflict": 409,
    "unknown_model": 422,
    "provider_not_configured": 503,
    "key_refused": 422,
    "key_unchecked": 502,
    "provider_rate_limited": 429,
    "provider_unavailable": 502,
    "provider_timeout": 504,
    "provider_rejected": 502,
    "context_too_long": 422,
    "tool_loop_limit": 502,
    "storage_unavailable": 503,
    "storage_damaged": 503,
    "search_too_broad": 422,
    "rate_limited": 429,
    "shutting_down": 503,
    "interrupted": 500,
    "internal": 500,
}
"""The HTTP status for each error code."""

_TOO_LARGE = "The request is larger than the service takes."
MEDIA_TYPE = "application/problem+json"


def problem(error: AtelierError, *, status: int | None = None, **more: Any) -> Response:
    """`error` as a problem document; `more` are members of its own, among them `code` where it is not the error's."""
    code = more.get("code", error.code)
    if isinstance(error, RunnerUnavailable):
        status = HTTPStatus.SERVICE_UNAVAILABLE.value
    if isinstance(error, WorkflowRefused):
        more = {"node_errors": error.node_errors, **more}
    if isinstance(error, InvalidArguments):
        more = {"errors": error.faults, **more}
    status = status or STATUS[code]
    document = {
        "type": f"urn:atelier:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": code,
        **more,
    }
    headers = {"Retry-After": str(int(error.retry_after) + 1)} if error.retry_after is not None else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(to_json(document), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem document."""
    app.add_exception_handler(AtelierError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


class TooLargeAsProblem:
    """ASGI middleware: the plain answer of the framework to a body that is too large, as a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = False

        async def answer(message: ASGIMessage) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                content_type = dict(message["headers"]).get(b"content-type", b"")
                refused = content_type.startswith(b"text/plain")
                if refused:
                    await problem(TooLarge(_TOO_LARGE))(scope, receive, send)
            if not refused:
                await send(message)

        await self._app(scope, receive, answer)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, AtelierError)
    return problem(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    places = [
        {"path": "/" + "/".join(str(part) for part in detail["loc"]), "message": message_of(detail)}
        for detail in error.errors()
    ]
    summary = " ".join(sentence(f"{place['path']}: {place['message']}") for place in places[:3])
    return problem(InvalidFrame(f"The request is not as it should be. {summary}"), errors=places)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return problem(TooLarge(_TOO_LARGE))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(NotFound("There is nothing at this address. GET /docs lists what there is."))
    answer = problem(InvalidFrame(str(error.detail)), status=error.status_code)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this answer: the client left before its request was there."""
    return problem(RequestTimeout("The connection ended before the request was there. Send it again."))


async def _unexpected(request: Request, error: Exception) -> Response:
    return problem(Internal("Something went wrong in the service. Its log has the details; please try again."))
