"""MCP at `/mcp`, over streamable HTTP. The SDK is imported and started with the first request."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from app.core.ports import IFileStore, IToolInvoker

PATH = "/mcp"


class McpDoor:
    """Answers requests at `/mcp`, which the guard has let through: it has checked Host, Origin and token."""

    def __init__(self, tools: IToolInvoker, files: IFileStore) -> None:
        self._tools = tools
        self._files = files
        self._running: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Any] | None = None
        self._stopping = asyncio.Event()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._ready), name="mcp")
        manager = await asyncio.shield(self._ready)
        await manager.handle_request(scope, receive, send)

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
                app=server_module.make_server(self._tools, self._files, _who),
                security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
                session_idle_timeout=1_800,
            )
            async with manager.run():
                ready.set_result(manager)
                await self._stopping.wait()
        except BaseException as error:
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
