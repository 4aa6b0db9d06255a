"""The ASGI application: routes, the guard before them, and the lifespan that opens and closes what they use."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.datastructures import State
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__
from app.adapters.inbound import problems, tools_api
from app.adapters.inbound.ai_sdk import routes as ai_sdk
from app.adapters.inbound.guard import Guard, refuse
from app.adapters.inbound.mcp_server.http import McpDoors
from app.adapters.inbound.openai_api.errors import PREFIX
from app.adapters.inbound.rest import (
    conversations,
    docs,
    login,
    messages,
    providers,
    runs,
    skills,
    system,
    usage,
    web,
    workshop,
)
from app.adapters.inbound.session_cookie import SessionCookie
from app.adapters.outbound.llm_providers.catalog import ModelCatalog
from app.bootstrap import make_accounts, run_application
from app.core.domain.errors import RateLimited, ShuttingDown
from app.core.services.accounts import IAccounts
from app.core.services.rate_limits import Limited
from app.settings import Settings

DESCRIPTION = """
A self-hosted LangGraph agent chat service that keeps every message, tool call and result.

Every call needs `Authorization: Bearer TOKEN` with the token that the service printed at its start (a browser that
is logged in has its cookie). Errors are `application/problem+json` with a `code`. Live answers come over the
WebSocket at `/ws`, or as server-sent events at `/api/runs/{id}/events`.
"""
MAX_BODY_BYTES = 1_048_576


def create_app(settings: Settings, accounts: IAccounts | None = None) -> FastAPI:
    """The application for `settings`.

    Raises:
        UnknownModel, ProviderNotConfigured: DEFAULT_MODEL cannot be asked.
        StorageUnavailable: the token cannot be kept in the data folder.
    """
    known = accounts or make_accounts(settings)[0]
    catalog = ModelCatalog(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with run_application(settings, known, catalog) as application:
            app.state.services = application.services
            app.state.sockets = application.sockets
            app.state.door = application.door
            app.state.mcp = application.mcp
            yield

    app = FastAPIOffline(
        docs_url=None,
        title="Atelier",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
    )
    problems.install(app)
    for module in (
        tools_api,
        conversations,
        messages,
        runs,
        system,
        providers,
        skills,
        workshop,
        usage,
        login,
        docs,
        web,
        ai_sdk,
    ):
        app.include_router(module.router, max_body_size=MAX_BODY_BYTES)

    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_credentials=True,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        )
    app.add_middleware(problems.TooLargeAsProblem)
    app.add_middleware(_Shortcuts, state=app.state)
    app.state.cookie = cookie = SessionCookie(settings.installation_id)
    app.add_middleware(
        Guard,
        accounts=known,
        sessions=lambda: app.state.services.sessions,
        cookie=cookie,
        hosts=[settings.host, *settings.allowed_hosts],
        origins=settings.allowed_origins,
    )
    return app


def _begins_something(scope: Scope) -> bool:
    """Whether a request is new work, and neither reads nor answers or stops a run that is under way."""
    path: str = scope["path"]
    belongs_to_a_run = path.startswith(("/api/runs/", "/api/auth/")) or path.endswith("/stop")
    return scope["method"] not in ("GET", "HEAD", "OPTIONS") and not belongs_to_a_run


class _Shortcuts:
    """Takes WebSockets at `/ws` and requests to `/v1` and `/mcp` past the routes and their middleware: what streams has few hands to pass."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._state.services.runs.is_closing and _begins_something(scope):
            await refuse(ShuttingDown(), scope, receive, send)
        elif scope["type"] == "websocket" and scope["path"] == "/ws":
            await self._state.sockets.serve(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(PREFIX) and scope["method"] != "OPTIONS":
            await self._state.door.serve(scope, receive, send)
        elif scope["type"] == "http" and McpDoors.takes(scope["path"]) and scope["method"] != "OPTIONS":
            await self._serve_mcp(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve_mcp(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "POST":
                self._state.services.rates.count(Limited.MESSAGES, scope["state"]["visitor"])
        except RateLimited as error:
            await problems.problem(error)(scope, receive, send)
            return
        await self._state.mcp.serve(scope, receive, send)
