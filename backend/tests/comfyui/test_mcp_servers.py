"""Tools of other people's MCP servers in the chat: named, approved, and not in the way when their server is away."""

import asyncio
import gzip
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.adapters.outbound import mcp_results, mcp_servers
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
    (wiki,) = mcp_servers._read(tmp_path / "mcp.json")
    assert wiki.entry.headers == {"Authorization": "Bearer secret"}


async def test_a_variable_that_is_not_set_is_said(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WIKI_TOKEN", raising=False)
    write(tmp_path, wiki={"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "Bearer ${WIKI_TOKEN}"}})
    service = await start()
    server = await until(service, "wiki", connected=False)
    assert server["error"] == "${WIKI_TOKEN} in its entry is not set in the environment. Set it and start again."


async def test_a_command_that_is_missing_is_named(start: Start, tmp_path: Path):
    write(tmp_path, broken={"command": "no-such-program-here"}, lost={**BY_STDIO, "cwd": "/no/such/folder"})
    service = await start()
    assert "'no-such-program-here' was not found" in (await until(service, "broken", connected=False))["error"]
    assert "/no/such/folder" in (await until(service, "lost", connected=False))["error"]


# --- servers that do what they should not


def unruly(*tools: str, **entry: Any) -> dict[str, Any]:
    args = ["-m", "tests.comfyui.mcp_unruly", *tools]
    return {"command": sys.executable, "args": args, "cwd": str(BACKEND), "approval": "auto", **entry}


@pytest.fixture
async def use(start: Start, upstream: Upstream, tmp_path: Path) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Has the agent call one tool of a server that has it alone; the result's frame."""

    async def call(tool: str) -> dict[str, Any]:
        write(tmp_path, server=unruly(tool))
        service = await start()
        await until(service, "server", connected=True)
        upstream.calls(("c1", f"server__{tool}", "{}"))
        upstream.says("I see.")
        async with service.socket() as socket:
            frames = await socket.ask("Do it")
            for file in (result := next(f for f in frames if f["type"] == "tool_result")).get("artifacts", ()):
                async with service.http() as http:
                    file["bytes"] = (await http.get(file["url"])).content
        return {**result, "progress": [f for f in frames if f["type"] == "tool_progress"]}

    return call


Use = Callable[[str], Awaitable[dict[str, Any]]]


async def test_a_pattern_of_a_server_does_not_freeze_the_service(use: Use):
    result = await use("matches")
    assert '"aaaaa' in result["content"]


async def test_a_result_that_does_not_fit_its_schema_is_an_error(use: Use):
    result = await use("misfits")
    assert (result["is_error"], "does not fit its own schema. /a:" in result["content"]) == (True, True)


async def test_a_long_text_becomes_a_file(use: Use):
    result = await use("long_text")
    assert len(result["content"]) < 3_000
    assert "5,242,880 bytes" in result["content"]
    (file,) = result["artifacts"]
    assert (file["media_type"], len(file["bytes"])) == ("text/plain", 5 * 1024 * 1024)


async def test_a_message_that_is_too_large_breaks_the_connection(use: Use):
    result = await use("huge_line")
    assert (result["is_error"], "more than 16,777,216 bytes" in result["content"]) == (True, True)


async def test_a_message_that_cannot_be_read_is_an_error(use: Use):
    result = await use("unreadable")
    assert (result["is_error"], "a message that cannot be read" in result["content"]) == (True, True)


async def test_a_file_in_a_result_is_kept_for_the_user(use: Use):
    (file,) = (await use("blob"))["artifacts"]
    assert (file["name"], file["media_type"], file["bytes"]) == ("report.pdf", "application/pdf", b"%PDF")


async def test_a_result_has_so_many_files(use: Use):
    result = await use("many_pictures")
    assert len(result["artifacts"]) == mcp_results.MAX_FILES
    assert "9 more files were left out" in result["content"]


async def test_a_server_that_floods_is_read_all_the_same(use: Use):
    result = await use("flood")
    assert result["content"] == "through"
    assert 1 <= len(result["progress"]) < 100


async def test_only_so_many_tools_and_schemas_are_taken(start: Start, tmp_path: Path):
    write(tmp_path, server=unruly("everything"))
    service = await start()
    server = await until(service, "server", connected=True)
    assert len(server["tools"]) == mcp_servers.MAX_TOOLS - 3
    assert [fault.partition(":")[0] for fault in server["faults"]] == [
        "It has more than 200 tools; the first 200 are used.",
        "server__large is left out",
        "server__deep is left out",
        "server__twice is left out",
    ]


async def test_names_that_would_be_the_same_stay_apart(start: Start, upstream: Upstream, tmp_path: Path):
    write(
        tmp_path,
        **{
            "a.b": unruly("read", env={"WHO": "dot"}, approval="ask"),
            "a b": unruly("read", env={"WHO": "blank"}, approval="auto"),
            "a": unruly("b__c", env={"WHO": "short"}, approval="deny"),
            "a__b": unruly("c", env={"WHO": "long"}, approval="auto"),
        },
    )
    service = await start()
    names = {name: (await until(service, name, connected=True))["tools"] for name in ("a.b", "a b", "a", "a__b")}
    (dot,), (blank,), (short,), (long,) = names.values()
    assert len({dot, blank, short, long}) == 4
    assert (dot[:10], long[:7]) == ("a_b__read_", "a__b__c")
    upstream.calls(("c1", blank, "{}"), ("c2", long, "{}"), ("c3", dot, "{}"), ("c4", short, "{}"))
    async with service.socket() as socket:
        await socket.send(type="message", content="Go")
        calls = [await socket.until("tool_call") for _ in range(4)]
        assert [call["needs_approval"] for call in calls] == [False, False, True, False]
        results = {}
        while len(results) < 3:
            frame = await socket.until("tool_result")
            results[frame["tool_call_id"]] = frame["content"]
        await socket.send(type="cancel", run_id=calls[0]["run_id"])
        await socket.until("cancelled")
    assert (results["c1"], results["c2"]) == ("blank ran read", "long ran c")
    assert "may not be used" in results["c4"]


async def test_a_workflow_tool_keeps_its_own_approval(start: Start, tmp_path: Path):
    write(tmp_path, server=unruly("read", approval="deny"))
    (tmp_path / "config").mkdir()
    (tmp_path / "workflows").mkdir()
    (tmp_path / "config" / "own.json").write_text(json.dumps([{"name": "server__read", "workflow": "own.json"}]))
    (tmp_path / "workflows" / "own.json").write_text(json.dumps({"1": {"class_type": "KSampler", "inputs": {}}}))
    service = await start()
    server = await until(service, "server", connected=True)
    assert (server["tools"], server["faults"]) == ([], ["server__read is left out: another tool has that name."])
    assert "server__read" not in service.app.state.services.runs._limits.default_approval()


@pytest.mark.parametrize(("answer", "said"), [("large", "more than 16,777,216 bytes"), ("gzip", "compressed")])
async def test_an_answer_over_http_is_bounded(start: Start, tmp_path: Path, answer: str, said: str):
    async def respond(request: web.Request) -> web.StreamResponse:
        if answer == "gzip":
            body = gzip.compress(b" " * 1024)
            return web.Response(body=body, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
        return web.Response(body=b" " * (17 * 1024 * 1024), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/mcp", respond)
    async with TestServer(app, host="127.0.0.1") as server:
        write(tmp_path, web={"url": str(server.make_url("/mcp"))})
        service = await start()
        assert said in (await until(service, "web", connected=False))["error"]
        await service.stop()
