"""MCP at `/mcp` and `/mcp/builder`, over streamable HTTP. The SDK is imported and started with the first request."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from app.core.ports import IFileStore, IToolInvoker
from app.core.services.builder import Builder

PATH = "/mcp"
BUILDER_PATH = "/mcp/builder"


class McpDoors:
    """The workflow tools at one address, the tools that build workflows at another: a client takes what it needs."""

    def __init__(self, tools: IToolInvoker, files: IFileStore, builder: Builder) -> None:
        self._doors = {
            PATH: _Door(lambda server: server.make_server(tools, files, _who)),
            BUILDER_PATH: _Door(lambda server: server.make_builder_server(builder, files, _who)),
        }
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @staticmethod
    def takes(path: str) -> bool:
        """Whether requests at `path` are answered here."""
        return path.rstrip("/") in (PATH, BUILDER_PATH)

    async def finish(self) -> None:
        """Wait until no call is under way; streams that only listen are not waited for."""
        await self._idle.wait()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "POST":
            await self._answer(scope, receive, send)
            return
        self._calls += 1
        self._idle.clear()
        try:
            await self._answer(scope, receive, send)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._doors[scope["path"].rstrip("/")].serve(scope, receive, send)

    async def stop(self) -> None:
        """End all sessions."""
        for door in self._doors.values():
            await door.stop()


class _Door:
    """Answers requests that the guard has let through: it has checked Host, Origin and token."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._running: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Any] | None = None
        self._stopping = asyncio.Event()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._ready), name="mcp")
        manager = await asyncio.shield(self._ready)
        # Blanks around a header's value are no part of it (RFC 9110, 5.5), and the SDK compares values as they are.
        headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        await manager.handle_request({**scope, "headers": headers}, receive, send)

    async def stop(self) -> None:
        """End all sessions."""
        self._stopping.set()
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self, ready: "asyncio.Future[Any]") -> None:
        """Keep the SDK's sessions: they have to begin and end in one task."""
        try:
            server_module = await asyncio.to_thread(_import)
            from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
            from mcp.server.transport_security import TransportSecuritySettings

            manager = StreamableHTTPSessionManager(
                app=self._make(server_module),
                security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
                session_idle_timeout=1_800,
            )
            async with manager.run():
                ready.set_result(manager)
                await self._stopping.wait()
        except BaseException as error:
            self._ready = None  # the next request tries again
            if not ready.done():
                ready.set_exception(error)
            raise


def _import() -> Any:
    from app.adapters.inbound.mcp_server import server

    return server


def _who(context: Any) -> tuple[str, str]:
    """The user that the guard found, and the address that they asked."""
    request = context.request
    return request.scope["state"]["user"].id, str(request.base_url).rstrip("/")
