"""The server around the application: opens it, serves it, tells WebSocket clients before it goes, and closes it."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.adapters.inbound.connections import ConnectionLimits, Connections, HttpProtocol, SocketProtocol
from app.adapters.inbound.mcp_server.http import McpDoors
from app.adapters.inbound.rest.services import Services
from app.adapters.inbound.security_headers import SecurityHeaders
from app.adapters.inbound.websocket_handler import WebSocketHandler
from app.core.domain.errors import AtelierError

BACKLOG = 2_048
SHUTDOWN_SECONDS = 30.0
LAST_SECONDS = 1.0
"""What requests still have when the time to shut down is over, and everything when a second signal came."""

TICK_SECONDS = 0.1
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
        shutdown_seconds: float = SHUTDOWN_SECONDS,
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
                backlog=min(BACKLOG, self._connections.backlog),
            )
        )
        self._app = app
        self._on_ready = on_ready
        self._shutdown_seconds = shutdown_seconds
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

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes.

        Uvicorn raises that signal again when it is done, so that the process would end by it and not with 0.
        """
        with self.capture_signals():
            await self._serve(sockets)
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets what runs come to its end, a second one does not."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let runs and requests come to their end, close what is left, then close the application."""
        deadline = asyncio.get_running_loop().time() + self._shutdown_seconds
        try:
            await self._finish_runs(deadline)
            left = deadline - asyncio.get_running_loop().time()
            # Uvicorn takes whole seconds by its annotation, and any number where it uses them.
            self.config.timeout_graceful_shutdown = max(left, LAST_SECONDS)  # type: ignore[assignment]
            await super().shutdown(sockets)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS if self.force_exit else None):
                    await self._opened.aclose()

    async def _finish_runs(self, deadline: float) -> None:
        """Take nothing new, and wait for runs and calls of tools; health and reading are answered meanwhile."""
        loop = asyncio.get_running_loop()
        handler: WebSocketHandler = self._app.state.sockets
        services: Services = self._app.state.services
        mcp: McpDoors = self._app.state.mcp
        handler.drain()
        finishing = asyncio.gather(services.runs.finish(deadline - loop.time()), mcp.finish())
        ticks = 0
        while not finishing.done() and loop.time() < deadline and not self.force_exit:
            await asyncio.wait([finishing], timeout=TICK_SECONDS)
            ticks += 1
            await self.on_tick(ticks)
        finishing.cancel()
        await asyncio.gather(finishing, return_exceptions=True)
        await services.runs.stop()
        await mcp.stop()
        await handler.close_all()
