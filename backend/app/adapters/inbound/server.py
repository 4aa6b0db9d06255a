"""The server around the application: opens it, serves it, tells WebSocket clients before it goes, and closes it."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.adapters.inbound.connections import ConnectionLimits, Connections, HttpProtocol, SocketProtocol
from app.adapters.inbound.security_headers import SecurityHeaders
from app.adapters.inbound.websocket_handler import WebSocketHandler
from app.core.domain.errors import AtelierError

BACKLOG = 2_048
PATIENCE_SECONDS = 10
SWEEP_TICKS = 5
HEARTBEAT_SECONDS = 20.0
"""How often a WebSocket is asked whether its client is there, and how long the answer may take."""


class Server(uvicorn.Server):
    """Uvicorn's server for `app`.

    It opens and closes the application by itself: where that cannot be opened, the error is kept for whoever
    started the server instead of a traceback in the log.

    Attributes:
        refused: why the application could not be opened.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        max_frame_bytes: int,
        on_ready: Callable[[], None],
        limits: ConnectionLimits | None = None,
    ) -> None:
        limits = limits or ConnectionLimits()
        self._connections = Connections(limits)
        http: Any = partial(HttpProtocol, self._connections)
        websocket: Any = partial(SocketProtocol, self._connections)
        super().__init__(
            uvicorn.Config(
                SecurityHeaders(app),
                lifespan="off",
                http=http,
                ws=websocket,
                ws_per_message_deflate=False,
                ws_max_size=max_frame_bytes,
                ws_ping_interval=HEARTBEAT_SECONDS,
                ws_ping_timeout=HEARTBEAT_SECONDS,
                forwarded_allow_ips=["127.0.0.1", "::1", *map(str, limits.proxies.networks)],
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=PATIENCE_SECONDS,
                backlog=min(BACKLOG, self._connections.backlog),
            )
        )
        self._app = app
        self._on_ready = on_ready
        self._opened = AsyncExitStack()
        self.refused: AtelierError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, and take connections."""
        try:
            await self._opened.enter_async_context(self._app.router.lifespan_context(self._app))
        except AtelierError as error:
            self.refused = error
            self.should_exit = True
            return
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Close connections that are overdue; uvicorn calls this ten times a second."""
        if counter % SWEEP_TICKS == 0:
            self._connections.sweep()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every WebSocket with 1001, finish what is being answered, then close the application."""
        try:
            handler: WebSocketHandler = self._app.state.sockets
            await handler.close_all()
            await super().shutdown(sockets)
        finally:
            await self._opened.aclose()
