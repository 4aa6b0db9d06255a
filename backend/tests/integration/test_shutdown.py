"""Stopping the service: what runs comes to its end, nothing new is taken, and what is left goes on at the next start."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.client import Service, kinds, text_of
from tests.integration.conftest import Start
from tests.upstream import Upstream, endless, paused


async def stopping(service: Service) -> asyncio.Task[None]:
    """The service, after the signal: it finishes what runs."""
    task = asyncio.create_task(service.stop())
    runs = service.app.state.services.runs
    while not runs.is_closing:
        await asyncio.sleep(0)
    return task


async def test_an_answer_over_a_socket_is_finished_and_the_socket_closed_with_1001(start: Start, upstream: Upstream):
    service = await start(shutdown_seconds=60)
    upstream.script(paused(gate := asyncio.Event()))
    async with service.socket() as socket, service.socket() as idle:
        await socket.send(type="message", content="Hello")
        await socket.until("token")
        stopped = await stopping(service)
        assert await idle.closed() == 1001
        gate.set()
        end = await socket.until("complete")
        assert await socket.closed() == 1001
    await stopped
    assert text_of(socket.frames) == "One two."
    assert len(upstream.requests) == 1
    again = await start()
    assert (await again.get(f"/api/runs/{end['run_id']}"))["status"] == "completed"
    assert len(upstream.requests) == 1


async def test_nothing_new_is_taken_meanwhile(start: Start, upstream: Upstream):
    service = await start(shutdown_seconds=60)
    upstream.script(paused(gate := asyncio.Event()))
    chat = {"id": "c-1", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
    openai = {"model": "openai@scripted", "messages": [{"role": "user", "content": "Hi"}]}
    async with service.socket() as socket, service.http() as http:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        stopped = await stopping(service)
        await socket.send(type="message", content="Another")
        refused = await socket.until("error")
        assert (refused["code"], refused["retryable"]) == ("shutting_down", True)
        assert (await http.get("/api/health/ready")).status_code == 503
        assert (await http.get("/api/health/live")).status_code == 200
        assert len(await service.history(seen["conversation_id"])) == 1
        for path, body in (
            ("/api/chat", chat),
            ("/v1/chat/completions", openai),
            ("/invoke", {"tool": "x", "params": {}}),
            ("/api/conversations", {}),
            (f"/api/conversations/{seen['conversation_id']}/messages", {"content": "Hi"}),
        ):
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "6"), path
        with pytest.raises(Exception, match="1001"):
            async with service.socket():
                pass
        gate.set()
        await socket.until("complete")
    await stopped


async def test_a_running_answer_may_be_helped_and_stopped_meanwhile(start: Start, upstream: Upstream):
    service = await start(shutdown_seconds=60)
    upstream.script(endless)
    async with service.socket() as socket, service.http() as http:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        stopped = await stopping(service)
        answer = await http.post(f"/api/runs/{seen['run_id']}/cancel")
        assert answer.json()["status"] == "cancelled"
        await socket.until("cancelled")
    await stopped


async def test_answers_on_every_wire_are_finished(start: Start, upstream: Upstream):
    service = await start(shutdown_seconds=60)
    gate = asyncio.Event()
    for _ in range(4):
        upstream.script(paused(gate))
    chat = {"id": "c-1", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()["id"]
        asking = [
            asyncio.create_task(http.post(path, json=body))
            for path, body in (
                ("/api/chat", chat),
                (f"/api/conversations/{made}/messages", {"content": "Hi"}),
                ("/v1/chat/completions", {"model": "atelier", "metadata": {"conversation_id": "c-2"}, **asked}),
                ("/v1/chat/completions", {"model": "openai@scripted", **asked}),
            )
        ]
        while len(upstream.requests) < 4:
            await asyncio.sleep(0)
        stopped = await stopping(service)
        gate.set()
        ai_sdk, rest, agent, relay = await asyncio.gather(*asking)
    await stopped
    assert '"type":"finish"' in ai_sdk.text
    assert [m["content"] for m in rest.json()["messages"]] == ["Hi", "One two."]
    for answer in (agent, relay):
        assert answer.text.rstrip().endswith("data: [DONE]")
    assert len(upstream.requests) == 4


async def test_what_is_not_finished_in_time_is_resumed_at_the_next_start(start: Start, upstream: Upstream):
    service = await start(shutdown_seconds=0.2)
    upstream.script(endless)
    async with service.socket() as socket, service.http() as http:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        await socket.send(type="message", content="Next", conversation_id=seen["conversation_id"])
        queued = await socket.until("accepted")
        async with http.stream("GET", f"/api/runs/{queued['run_id']}/events") as events:
            await service.stop()
            lines = [json.loads(line[6:]) async for line in events.aiter_lines() if line.startswith("data: ")]
        assert (lines[-1]["type"], lines[-1]["code"]) == ("suspended", "shutting_down")
        assert await socket.closed() == 1001
    upstream.says("Hello ", "again")
    second = await start()
    async with second.socket() as socket:
        await socket.send(type="attach", run_id=seen["run_id"], after=seen["seq"])
        await socket.until("complete")
        assert kinds(socket.frames[1:]) == ["reset", "token", "message", "complete"]
        await socket.send(type="attach", run_id=queued["run_id"])
        await socket.until("complete")


async def test_a_run_that_waits_for_the_user_does_not_hold_up_the_end(start: Start, upstream: Upstream):
    service = await start(shutdown_seconds=600)
    upstream.calls(("call_1", "draw", "{}"))
    async with service.socket() as socket:
        await socket.send(type="message", content="Draw", client_tools=["draw"])
        call = await socket.until("tool_call")
        while (await service.get(f"/api/runs/{call['run_id']}"))["status"] != "waiting":
            pass
        await service.stop()
        assert await socket.closed() == 1001
    again = await start()
    async with again.socket() as socket:
        await socket.send(type="tool_result", run_id=call["run_id"], tool_call_id="call_1", result="drawn")
        await socket.until("complete")


async def test_an_mcp_client_that_only_listens_does_not_hold_up_the_end(start: Start):
    service = await start(shutdown_seconds=600)
    headers = {"Accept": "application/json, text/event-stream"}
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    async with service.http() as http:
        answer = await http.post("/mcp", json=hello, headers=headers)
        session = {"Mcp-Session-Id": answer.headers["mcp-session-id"], **headers}
        async with http.stream("GET", "/mcp", headers=session, timeout=httpx.Timeout(60)):
            await service.stop()
