"""Tools of other people's MCP servers in the chat: named, approved, and not in the way when their server is away."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from app.adapters.outbound import mcp_servers
from app.core.domain.errors import StorageUnavailable
from tests.client import Service, text_of
from tests.comfyui.fake import PNG
from tests.integration.conftest import Start
from tests.servers import free_port
from tests.upstream import Upstream

BACKEND = Path(__file__).parents[2]
BY_STDIO = {"command": sys.executable, "args": ["-m", "tests.comfyui.mcp_example"], "cwd": str(BACKEND)}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_servers, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(mcp_servers, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(mcp_servers, "PING_SECONDS", 0.2)


def write(folder: Path, **servers: Any) -> None:
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))


async def until(service: Service, name: str, *, connected: bool) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            for server in (await service.get("/api/mcp-servers"))["items"]:
                if (
                    server["name"] == name
                    and server["connected"] is connected
                    and server["error"] != "It has not answered yet."
                ):
                    return server
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("setting", [{}, {"tool_approval": "auto"}])
async def test_a_tool_over_stdio_asks_first_and_then_runs(
    start: Start, upstream: Upstream, tmp_path: Path, setting: dict[str, str]
):
    write(tmp_path, example=BY_STDIO)
    service = await start(**setting)
    server = await until(service, "example", connected=True)
    assert set(server["tools"]) == {"example__join", "example__fail", "example__draw"}
    upstream.calls(("c1", "example__join", '{"left": "a", "right": "b"}'))
    upstream.says("Joined.")
    async with service.socket() as socket:
        await socket.send(type="message", content="Join a and b")
        call = await socket.until("tool_call")
        assert call["needs_approval"] is True
        await socket.send(type="tool_approval", run_id=call["run_id"], tool_call_id="c1", approved=True)
        await socket.until("complete")
    result = next(f for f in socket.frames if f["type"] == "tool_result")
    assert (result["content"], result["is_error"]) == ("ab", False)
    assert any(f.get("text") == "half way" for f in socket.frames if f["type"] == "tool_progress")
    assert text_of(socket.frames) == "Joined."


async def test_pictures_are_shown_and_failures_are_told(start: Start, upstream: Upstream, tmp_path: Path):
    write(tmp_path, example={**BY_STDIO, "approval": "auto"})
    service = await start()
    await until(service, "example", connected=True)
    upstream.calls(("c1", "example__draw", "{}"), ("c2", "example__fail", "{}"))
    upstream.says("I see.")
    async with service.socket() as socket:
        frames = await socket.ask("Draw and fail")
    results = {f["tool_call_id"]: f for f in frames if f["type"] == "tool_result"}
    async with service.http() as http:
        assert (await http.get(results["c1"]["artifacts"][0]["url"])).content == PNG
    assert (results["c2"]["is_error"], "it cannot be done" in results["c2"]["content"]) == (True, True)


async def test_a_server_that_is_down_stops_nobody_and_is_used_when_it_is_there(
    start: Start, upstream: Upstream, tmp_path: Path
):
    port = free_port()
    write(tmp_path, web={"url": f"http://127.0.0.1:{port}/mcp"}, broken={"command": "/no/such/program"})
    service = await start()
    assert (await until(service, "broken", connected=False))["error"]
    assert (await until(service, "web", connected=False))["tools"] == []
    async with service.socket() as socket:
        assert (await socket.ask("Hello"))[-1]["type"] == "complete"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.comfyui.mcp_example", str(port)), cwd=BACKEND, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert "web__join" in (await until(service, "web", connected=True))["tools"]
        process.kill()
        await until(service, "web", connected=False)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"mcpServers": 7}', '{"mcpServers": {"a": {}}}', '{"mcpServers": {"a": {"url": "file:///etc"}}}'],
)
async def test_a_list_that_cannot_be_read_is_told_at_the_start(start: Start, tmp_path: Path, text: str):
    (tmp_path / "mcp.json").write_text(text)
    with pytest.raises(StorageUnavailable, match=r"mcp\.json"):
        await start()


async def test_variables_stand_for_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WIKI_TOKEN", "secret")
    write(tmp_path, wiki={"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "Bearer ${WIKI_TOKEN}"}})
    assert mcp_servers._read(tmp_path / "mcp.json")["wiki"].headers == {"Authorization": "Bearer secret"}
