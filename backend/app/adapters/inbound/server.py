"""The server around the application: opens it, serves it, tells WebSocket clients before it goes, and closes it."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.adapters.inbound.websocket_handler import DROP, WebSocketHandler
from app.core.domain.errors import AtelierError

BACKLOG = 2_048
PATIENCE_SECONDS = 10
HEARTBEAT_SECONDS = 20.0
"""How often a WebSocket is asked whether its client is there, and how long the answer may take."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket protocol, which can also close a connection whose client takes nothing.

    Uvicorn sends a close frame, as every other one, only when the client has room for it. Through `drop` in the scope's
    extensions it is put behind what waits, and where that does not go away the connection is broken.
    """

    async def run_asgi(self) -> None:
        """Run the application for this connection."""
        self.scope.setdefault("extensions", {})[DROP] = {"drop": self._drop}  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
        await super().run_asgi()

    def _drop(self, code: int) -> None:
        """Close with `code`, at once for the application, for the client when it has read what it was sent before."""
        if self.close_sent or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
        self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)


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
                ws=SocketProtocol,
                ws_per_message_deflate=False,
                ws_max_size=max_frame_bytes,
                ws_ping_interval=HEARTBEAT_SECONDS,
                ws_ping_timeout=HEARTBEAT_SECONDS,
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
