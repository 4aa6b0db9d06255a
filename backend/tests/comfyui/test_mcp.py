"""MCP: the official client lists and calls the workflow tools, over HTTP and stdio."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from app.adapters.outbound.comfyui import runner as comfy_runner
from tests.client import Service
from tests.comfyui.fake import PNG, FakeComfyUI
from tests.comfyui.test_invoke import ARGUMENTS
from tests.e2e.conftest import COMMAND, clean_environment
from tests.integration.conftest import TOKEN, Start
from tests.node import NODE_22, run_node


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy_runner, "POLL_SECONDS", 0.05)


def connection(service: Service) -> Any:
    http = create_http()
    return Client(streamable_http_client(f"{service.url}/mcp", http_client=http))


def create_http() -> Any:
    from mcp.shared._httpx_utils import create_mcp_http_client

    return create_mcp_http_client(headers={"Authorization": f"Bearer {TOKEN}"})


async def test_a_client_lists_and_calls_the_tools(service: Service, comfyui: FakeComfyUI):
    told: list[tuple[float, str | None]] = []

    async def progress(number: float, total: float | None, message: str | None) -> None:
        told.append((number, message))

    async with connection(service) as client:
        (tool,) = (await client.list_tools()).tools
        assert tool.name == "example"
        assert tool.input_schema["required"] == ["positive_prompt"]
        result = await client.call_tool("example", ARGUMENTS, progress_callback=progress)
        assert not result.is_error
        (image,) = result.content
        assert (image.type, image.mime_type) == ("image", "image/png")
        assert base64.b64decode(image.data) == PNG
        assert result.structured_content["results"][0]["url"].startswith(service.url)
        assert [number for number, _ in told] == sorted({number for number, _ in told})
        assert any("KSampler (node 3) 20/20" in (message or "") for _, message in told)
        resources = (await client.list_resources()).resources
        assert [r.name for r in resources] == ["example", "a_00001_.png"]
        workflow, picture = [(await client.read_resource(r.uri)).contents[0] for r in resources]
        assert json.loads(workflow.text)["3"]["class_type"] == "KSampler"
        assert base64.b64decode(picture.blob) == PNG


async def test_a_client_builds_a_workflow_and_runs_it(service: Service, comfyui: FakeComfyUI):
    async with Client(streamable_http_client(f"{service.url}/mcp/builder", http_client=create_http())) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"addNode", "executeWorkflow", "searchInstalledNodes"} <= set(names)
        assert "example" not in names
        for node in ("EmptyImage", "SaveImage"):
            assert not (await client.call_tool("addNode", {"nodeType": node})).is_error
        link = {"sourceNodeId": 1, "sourceSlot": 0, "targetNodeId": 2, "targetSlot": 0}
        assert not (await client.call_tool("connectNodes", link)).is_error
        wrong = await client.call_tool("addNode", {"nodeType": "KSampla"})
        assert (wrong.is_error, "KSampler" in wrong.content[0].text) == (True, True)
        misfit = await client.call_tool("addNode", {})
        assert (misfit.is_error, "nodeType" in misfit.content[0].text) == (True, True)
        (image,) = (await client.call_tool("executeWorkflow", {})).content
        assert base64.b64decode(image.data) == PNG
        found = json.loads((await client.call_tool("searchInstalledNodes", {"query": "sampler"})).content[0].text)
        assert "KSampler" in [node["type"] for node in found["nodes"]]
        with pytest.raises(MCPError, match="no tool"):
            await client.call_tool("example", {})
    async with service.http() as http:
        [conversation] = (await http.get("/api/conversations")).json()["items"]
        workflow = (await http.get(f"/api/conversations/{conversation['id']}/workflow")).json()
    assert [node["type"] for node in workflow["nodes"]] == ["EmptyImage", "SaveImage"]


async def test_what_is_wrong_is_told(service: Service, comfyui: FakeComfyUI):
    async with connection(service) as client:
        result = await client.call_tool("example", {"seed": "x"})
        assert result.is_error
        assert "positive_prompt" in result.content[0].text
        comfyui.fail_at = ("KSampler", "out of memory")
        result = await client.call_tool("example", ARGUMENTS)
        assert (result.is_error, "KSampler (node 3): out of memory" in result.content[0].text) == (True, True)
        with pytest.raises(MCPError, match="no tool"):
            await client.call_tool("nothing", {})
        with pytest.raises(MCPError, match="no such file"):
            await client.read_resource("atelier://files/none")


@pytest.mark.parametrize("path", ["/mcp", "/mcp/builder"])
async def test_a_call_of_an_unknown_tool_leaves_no_task_behind(service: Service, path: str):
    def reporting() -> int:
        return sum("rogress" in getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())

    async with Client(streamable_http_client(f"{service.url}{path}", http_client=create_http())) as client:
        for _ in range(3):
            with pytest.raises(MCPError, match=r"no tool named 'nothing'. tools/list tells"):
                await client.call_tool("nothing", {})
        assert reporting() == 0


async def test_blanks_around_a_header_are_not_part_of_it(service: Service):
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "nothing", "arguments": {}}}
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call["params"]["_meta"] = meta
    body = json.dumps(call).encode()
    head = [
        *("POST /mcp HTTP/1.1", f"Host: {urlsplit(service.url).netloc}", f"Authorization: Bearer {TOKEN}"),
        *("Accept: application/json, text/event-stream", "Content-Type: application/json", "Connection: close"),
        *(f"Content-Length: {len(body)}", "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call"),
        "Mcp-Name: \t nothing \t",
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(service.url).port)
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    answer = (await reader.read()).decode()
    writer.close()
    assert "no tool named" in answer, answer


async def test_a_call_that_is_cancelled_stops_the_job(service: Service, comfyui: FakeComfyUI):
    comfyui.hold = asyncio.Event()
    async with connection(service) as client:
        calling = asyncio.create_task(client.call_tool("example", ARGUMENTS))
        await comfyui.begun.wait()
        calling.cancel()
        async with asyncio.timeout(10):
            await comfyui.has_interrupted.wait()
    assert comfyui.interrupted == comfyui.executed


async def test_large_results_come_as_links(service: Service, comfyui: FakeComfyUI):
    comfyui.output_bytes = 5 * 1024 * 1024
    async with connection(service) as client:
        (link,) = (await client.call_tool("example", ARGUMENTS)).content
    assert (link.type, link.mime_type, link.size) == ("resource_link", "image/png", 5 * 1024 * 1024)


async def test_without_comfyui_the_workflow_is_the_result(plain: Service):
    async with connection(plain) as client:
        result = await client.call_tool("example", ARGUMENTS)
    assert result.structured_content["workflow"]["3"]["inputs"]["seed"] == 123456


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}, 403),
    ],
)
async def test_nobody_comes_in_unasked(plain: Service, headers: dict[str, str], status: int):
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{plain.url}/mcp", json={}, headers=headers)
    assert answer.status_code == status


async def test_the_same_tools_over_stdio(tmp_path: Path, example: None, comfyui: FakeComfyUI):
    environment = {**clean_environment(), "COMFYUI_URL": comfyui.url}
    server = StdioServerParameters(command=COMMAND, args=["mcp"], env=environment, cwd=str(tmp_path))
    async with Client(server) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["example"]
        result = await client.call_tool("example", ARGUMENTS)
    assert base64.b64decode(result.content[0].data) == PNG
    assert len([p for p in (tmp_path / "data" / "files").glob("*/*") if p.suffix == ""]) == 1


@pytest.mark.parametrize(
    "scenario",
    [
        *("server-initialize", "ping", "tools-list", "resources-list"),
        *("dns-rebinding-protection", "server-sse-multiple-streams"),
    ],
)
async def test_the_official_conformance_scenarios_pass(start: Start, example: None, scenario: str):
    service = await start(auth_mode="none", atelier_token=None)
    program = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    said = await run_node(
        program, "server", "--url", f"{service.url}/mcp", "--scenario", scenario, node=NODE_22, fails=True
    )
    assert ", 0 failed" in said, said
    assert "Passed: 0/" not in said, said


async def test_the_official_inspector_lists_and_calls(start: Start, example: None):
    service = await start(auth_mode="none", atelier_token=None)
    ask = ("node_modules/.bin/mcp-inspector", "--cli", f"{service.url}/mcp", "--transport", "http", "--method")
    assert [tool["name"] for tool in json.loads(await run_node(*ask, "tools/list", node=NODE_22))["tools"]] == [
        "example"
    ]
    said = await run_node(
        *ask, "tools/call", "--tool-name", "example", "--tool-arg", "positive_prompt=a cat", node=NODE_22
    )
    assert json.loads(said)["structuredContent"]["workflow"]["6"]["inputs"]["text"] == "a cat"


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_newest_revision_and_the_one_before(plain: Service, mode: str):
    transport = streamable_http_client(f"{plain.url}/mcp", http_client=create_http())
    async with Client(transport, mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["example"]
        assert (client.protocol_version == "2026-07-28") == (mode != "legacy")
