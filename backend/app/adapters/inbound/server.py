"""The server around the application: opens it, serves it, tells WebSocket clients before it goes, and closes it."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import uvicorn
from fastapi import FastAPI

from app.adapters.inbound.websocket_handler import WebSocketHandler
from app.core.domain.errors import AtelierError

BACKLOG = 2_048
PATIENCE_SECONDS = 10


class Server(uvicorn.Server):
    """Uvicorn's server for `app`.

    It opens and closes the application by itself: where that cannot be opened, the error is kept for whoever
    started the server instead of a traceback in the log.

    Attributes:
        refused: why the application could not be opened.
    """

    def __init__(self, app: FastAPI, *, max_frame_bytes: int, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                ws_max_size=max_frame_bytes,
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=PATIENCE_SECONDS,
                backlog=BACKLOG,
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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every WebSocket with 1001, finish what is being answered, then close the application."""
        try:
            handler: WebSocketHandler = self._app.state.sockets
            await handler.close_all()
            await super().shutdown(sockets)
        finally:
            await self._opened.aclose()
