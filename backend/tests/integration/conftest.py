"""The whole application on a real port in this process, with a model server that tests write the answers of."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.adapters.inbound.connections import ConnectionLimits
from app.adapters.inbound.server import Server
from app.bootstrap import open_store
from app.core.services.checker import check_all
from app.main import create_app
from app.settings import Settings
from tests.client import Service
from tests.upstream import Upstream

TOKEN = "secret-token"
Start = Callable[..., Awaitable[Service]]


@asynccontextmanager
async def serve(settings: Settings, port: int = 0, limits: ConnectionLimits | None = None) -> AsyncIterator[Service]:
    """The service for `settings`, as the command starts it."""
    app = create_app(settings)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    started = asyncio.Event()
    server = Server(
        app,
        max_frame_bytes=settings.ws_max_frame_bytes,
        on_ready=started.set,
        limits=limits,
        shutdown_seconds=settings.shutdown_seconds,
    )
    serving = asyncio.create_task(server._serve([listening]))  # without its signal handlers
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not started.is_set():
        waiting.cancel()
        listening.close()
        await serving
        assert server.refused is not None
        raise server.refused
    ended = False

    async def stop() -> None:
        nonlocal ended
        if ended:
            return
        ended = True
        server.should_exit = True
        await serving
        listening.close()

    try:
        yield Service(f"http://127.0.0.1:{listening.getsockname()[1]}", TOKEN, stop, app)
    finally:
        await stop()


def settings_for(folder: Path, upstream: Upstream, **changes: Any) -> Settings:
    """Settings of a service whose model is `upstream`."""
    given = {
        "data_dir": folder,
        "atelier_token": TOKEN,
        "openai_base_url": upstream.url,
        "openai_api_key": "sk-test-key",
        "default_model": "openai@scripted",
        "system_prompt": "",
        "provider_retries": 0,
        "loop_block_seconds": 0,
        "shutdown_seconds": 0,
        "tools_config_dir": folder / "config",
        "workflows_dir": folder / "workflows",
        "mcp_servers": folder / "mcp.json",
        **changes,
    }
    return Settings(_env_file=None, **given)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def start(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> AsyncIterator[Start]:
    """Starts services on the same data folder; all are stopped with the test, and what they stored is checked."""
    stores: dict[str, Settings] = {}
    async with AsyncExitStack() as stack:

        async def begin(
            *, checked: bool = True, port: int = 0, limits: ConnectionLimits | None = None, **changes: Any
        ) -> Service:
            settings = settings_for(tmp_path, upstream, **changes)
            service = await stack.enter_async_context(serve(settings, port, limits))
            if not checked:
                return service
            stores[f"{settings.mongodb_database}@{settings.mongodb_url or settings.data_dir}"] = settings
            return service

        yield begin
    if request.node.get_closest_marker("imports_broken_history"):
        return
    for settings in stores.values():
        store = await open_store(settings)
        try:
            assert [violation async for violation in check_all(store)] == []
        finally:
            await store.close()


@pytest.fixture
async def service(start: Start) -> Service:
    return await start()


@pytest.fixture
async def demo(start: Start) -> Service:
    return await start(openai_base_url=None, openai_api_key=None, default_model=None)
