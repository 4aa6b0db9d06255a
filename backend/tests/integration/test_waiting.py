"""Runs that wait: for a tool that the client runs, and for the user's approval."""

import asyncio
from typing import Any

import pytest

from tests.client import Service, Socket, kinds, text_of
from tests.integration.conftest import Start
from tests.upstream import Upstream

ADD = ("call_1", "add", '{"a": 1, "b": 1}')
DRAW = ("call_2", "draw", '{"what": "a cat"}')


async def ask_for_tools(
    socket: Socket, upstream: Upstream, *calls: tuple[str, str, str], **fields: Any
) -> dict[str, Any]:
    """Begin a turn that calls tools; the frame of the last call."""
    upstream.calls(*calls)
    upstream.says("Done.")
    await socket.send(type="message", content="Go", **fields)
    for _ in calls[1:]:
        await socket.until("tool_call")
    return await socket.until("tool_call")


async def until_waiting(service: Service, run_id: str) -> None:
    async with asyncio.timeout(10):
        while (await service.get(f"/api/runs/{run_id}"))["status"] != "waiting":
            pass


async def test_a_tool_of_the_client_is_offered_called_and_answered(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        call = await ask_for_tools(socket, upstream, ADD, DRAW, client_tools=["draw", "addNode"])
        assert (call["name"], call["executor"], call["needs_approval"]) == ("draw", "client", False)
        assert call["arguments"] == {"what": "a cat"}
        await until_waiting(service, call["run_id"])
        await socket.send(type="tool_result", run_id=call["run_id"], tool_call_id="call_2", result={"ok": True})
        await socket.until("complete")
    names = [tool["function"]["name"] for tool in upstream.requests[0]["tools"]]
    math, skills = ["multiply", "add", "subtract", "divide"], ["createSkill", "listUserSkills", "getUserSkill"]
    assert names == [*math, *skills, "draw", "addNode"]  # a canvas tool: the skills for it can be read
    node = next(tool["function"] for tool in upstream.requests[0]["tools"] if tool["function"]["name"] == "addNode")
    assert "nodeType" in node["parameters"]["properties"]
    history = await service.history(call["conversation_id"])
    assert [m["role"] for m in history] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [m["content"] for m in history[2:]] == ["2", '{"ok":true}', "Done."]
    assert [frame["seq"] for frame in socket.frames[1:]] == list(range(1, len(socket.frames)))
    results = [m["tool_call_id"] for m in upstream.requests[1]["messages"] if m["role"] == "tool"]
    assert sorted(results) == ["call_1", "call_2"]


async def test_a_tool_that_no_client_declared_is_not_offered(service: Service, upstream: Upstream):
    upstream.calls(DRAW)
    async with service.socket() as socket:
        frames = await socket.ask("Go")
    assert "draw" not in [tool["function"]["name"] for tool in upstream.requests[0]["tools"]]
    result = next(frame for frame in frames if frame["type"] == "tool_result")
    assert "no tool named 'draw'" in result["content"]


async def test_arguments_that_do_not_fit_never_reach_the_client(service: Service, upstream: Upstream):
    upstream.calls(("call_1", "addNode", '{"nodeType": 5}'))
    async with service.socket() as socket:
        frames = await socket.ask("Go", client_tools=["addNode"])
    result = next(frame for frame in frames if frame["type"] == "tool_result")
    assert (result["is_error"], "nodeType" in result["content"]) == (True, True)
    assert frames[-1]["type"] == "complete"


async def test_a_result_comes_from_another_socket_after_a_restart(start: Start, upstream: Upstream):
    first = await start()
    async with first.socket() as socket:
        call = await ask_for_tools(socket, upstream, DRAW, client_tools=["draw"])
        await until_waiting(first, call["run_id"])
    await first.stop()
    second = await start()
    assert (await second.get(f"/api/runs/{call['run_id']}"))["status"] == "waiting"
    async with second.socket() as socket:
        await socket.send(type="attach", run_id=call["run_id"], after=call["seq"])
        await socket.send(
            type="tool_result", run_id=call["run_id"], tool_call_id="call_2", result="No pen.", is_error=True
        )
        await socket.until("complete")
        frames = socket.frames[1:]
    assert kinds(frames) == ["tool_result", "message", "token", "message", "complete"]
    assert [frame["seq"] for frame in frames] == list(range(call["seq"] + 1, call["seq"] + 1 + len(frames)))
    history = await second.history(call["conversation_id"])
    assert (history[2]["content"], history[2]["metadata"]["status"]) == ("No pen.", "error")


async def test_a_result_twice_or_for_nothing_changes_nothing_and_is_answered(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        call = await ask_for_tools(socket, upstream, ADD, DRAW, client_tools=["draw"])
        run_id = call["run_id"]
        await until_waiting(service, run_id)
        for wrong, code in (
            ({"run_id": run_id, "tool_call_id": "nothing"}, "not_found"),
            ({"run_id": run_id, "tool_call_id": "call_1"}, "not_found"),
            ({"run_id": "no-such-run", "tool_call_id": "call_2"}, "not_found"),
        ):
            await socket.send(type="tool_result", result=1, **wrong)
            error = await socket.until("error")
            assert (error["code"], error["in_reply_to"]) == (code, "tool_result")
        await socket.send(type="tool_approval", run_id=run_id, tool_call_id="call_2", approved=True)
        assert (await socket.until("error"))["code"] == "invalid_frame"
        await socket.send(type="tool_result", run_id=run_id, tool_call_id="call_2", result="first")
        await socket.send(type="tool_result", run_id=run_id, tool_call_id="call_2", result="second")
        error = await socket.until("error")
        assert error["code"] == "not_found"
        if not any(frame["type"] == "complete" for frame in socket.frames):
            await socket.until("complete")
    assert [m["content"] for m in await service.history(call["conversation_id"])] == ["Go", "", "2", "first", "Done."]


async def test_two_results_of_one_message_come_in_any_order(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        call = await ask_for_tools(socket, upstream, DRAW, ("call_3", "draw", "{}"), client_tools=["draw"])
        await until_waiting(service, call["run_id"])
        for call_id in ("call_3", "call_2"):
            await socket.send(type="tool_result", run_id=call["run_id"], tool_call_id=call_id, result=call_id)
        await socket.until("complete")
    results = [(m["tool_call_id"], m["content"]) for m in upstream.requests[1]["messages"] if m["role"] == "tool"]
    assert results == [("call_2", "call_2"), ("call_3", "call_3")]


@pytest.mark.parametrize("approved", [True, False])
async def test_a_call_that_needs_approval_waits_for_it(start: Start, upstream: Upstream, approved: bool):
    service = await start(tool_approval={"add": "ask"})
    async with service.socket() as socket:
        call = await ask_for_tools(socket, upstream, ("call_0", "multiply", '{"a": 2, "b": 3}'), ADD)
        assert (call["name"], call["needs_approval"], call["executor"]) == ("add", True, "server")
        await until_waiting(service, call["run_id"])
        answer = {"approved": approved, "reason": None if approved else "too dear"}
        await socket.send(type="tool_approval", run_id=call["run_id"], tool_call_id="call_1", **answer)
        await socket.until("complete")
    history = await service.history(call["conversation_id"])
    results = {m["metadata"]["tool_call_id"]: m for m in history if m["role"] == "tool"}
    assert results["call_0"]["content"] == "6"
    if approved:
        assert results["call_1"]["content"] == "2"
    else:
        assert results["call_1"]["metadata"]["status"] == "error"
        assert "refused" in results["call_1"]["content"]
        assert "too dear" in results["call_1"]["content"]
    assert text_of(socket.frames) == "Done."


async def test_an_approval_survives_a_restart(start: Start, upstream: Upstream):
    first = await start(tool_approval={"*": "ask"})
    async with first.socket() as socket:
        call = await ask_for_tools(socket, upstream, ADD, ("call_9", "multiply", '{"a": 2, "b": 3}'))
        await until_waiting(first, call["run_id"])
        await socket.send(type="tool_approval", run_id=call["run_id"], tool_call_id="call_1", approved=True)
        await socket.until("tool_result")
        await until_waiting(first, call["run_id"])
    await first.stop()
    second = await start(tool_approval={"*": "ask"})
    async with second.socket() as socket:
        await socket.send(type="tool_approval", run_id=call["run_id"], tool_call_id="call_1", approved=True)
        assert (await socket.until("error"))["code"] == "not_found"
        await socket.send(type="tool_approval", run_id=call["run_id"], tool_call_id="call_9", approved=True)
        await socket.until("complete")
    history = await second.history(call["conversation_id"])
    assert [m["content"] for m in history] == ["Go", "", "2", "6", "Done."]


async def test_a_conversation_has_its_own_policy(start: Start, upstream: Upstream):
    service = await start(tool_approval={"*": "ask"})
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        policy = {"add": "auto", "divide": "deny"}
        changed = await http.patch(f"/api/conversations/{made['id']}", json={"tool_approval": policy})
        assert changed.json()["tool_approval"] == policy
        wrong = await http.patch(f"/api/conversations/{made['id']}", json={"tool_approval": {"add": "maybe"}})
        assert wrong.status_code == 422
        upstream.calls(ADD, ("call_2", "divide", '{"a": 1, "b": 1}'))
        upstream.says("Done.")
        answer = await http.post(f"/api/conversations/{made['id']}/messages", json={"content": "Go"})
    contents = [m["content"] for m in answer.json()["messages"]]
    assert contents[-1] == "Done."
    assert "2" in contents
    assert any("may not be used" in content for content in contents)
    assert "divide" not in [tool["function"]["name"] for tool in upstream.requests[0]["tools"]]


async def test_a_waiting_run_can_be_stopped(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        call = await ask_for_tools(socket, upstream, DRAW, client_tools=["draw"])
        await until_waiting(service, call["run_id"])
        await socket.send(type="cancel", run_id=call["run_id"])
        await socket.until("cancelled")
        upstream.scripts.clear()
        again = await socket.ask("Go on", conversation_id=call["conversation_id"])
    assert again[-1]["type"] == "complete"
    history = await service.history(call["conversation_id"])
    assert [m["role"] for m in history] == ["user", "assistant", "tool", "user", "assistant"]
    assert history[2]["metadata"]["status"] == "error"


async def test_another_message_waits_behind_or_takes_the_place(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        call = await ask_for_tools(socket, upstream, DRAW, client_tools=["draw"])
        await until_waiting(service, call["run_id"])
        upstream.scripts.clear()
        await socket.send(type="message", content="Second", conversation_id=call["conversation_id"])
        assert (await socket.until("accepted"))["queued"] is True
        await socket.send(type="message", content="Third", conversation_id=call["conversation_id"], on_busy="interrupt")
        await socket.until("cancelled")
        await socket.until("complete")
        await socket.until("complete")
    contents = [m["content"] for m in await service.history(call["conversation_id"]) if m["role"] == "user"]
    assert contents == ["Go", "Third", "Second"]


async def test_a_program_answers_over_rest(service: Service, upstream: Upstream):
    upstream.calls(DRAW)
    upstream.says("Done.")
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        body = {"content": "Go", "client_tools": ["draw"]}
        turn = (await http.post(f"/api/conversations/{made['id']}/messages", json=body)).json()
        assert [m["role"] for m in turn["messages"]] == ["user", "assistant"]
        result = {"tool_call_id": "call_2", "result": "drawn"}
        assert (await http.post(f"/api/runs/{turn['run_id']}/tool_results", json=result)).status_code == 200
        assert (
            await http.post(f"/api/runs/{turn['run_id']}/approvals", json={"tool_call_id": "x", "approved": True})
        ).status_code == 404
    async with service.socket() as socket:
        await socket.send(type="attach", run_id=turn["run_id"])
        await socket.until("complete")


async def test_a_policy_that_has_changed_leaves_no_run_waiting_for_ever(start: Start, upstream: Upstream):
    first = await start(tool_approval={"*": "ask"})
    async with first.socket() as socket:
        call = await ask_for_tools(socket, upstream, ADD)
        await until_waiting(first, call["run_id"])
    await first.stop()
    second = await start()
    async with second.socket() as socket:
        await socket.send(type="tool_approval", run_id=call["run_id"], tool_call_id="call_1", approved=True)
        await socket.until("complete")
    assert [m["content"] for m in await second.history(call["conversation_id"])] == ["Go", "", "2", "Done."]


@pytest.mark.parametrize("wire", ["socket", "rest"])
async def test_a_client_tool_is_approved_before_its_result_is_taken(start: Start, upstream: Upstream, wire: str):
    service = await start(tool_approval={"draw": "ask"})
    async with service.socket() as socket, service.http() as http:
        call = await ask_for_tools(socket, upstream, DRAW, client_tools=["draw"])
        run_id = call["run_id"]
        assert (call["executor"], call["needs_approval"]) == ("client", True)
        await until_waiting(service, run_id)

        async def say(kind: str, **fields: Any) -> str | None:
            """Send an answer; the code of the error."""
            fields["tool_call_id"] = "call_2"
            if wire == "rest":
                path = "approvals" if kind == "tool_approval" else "tool_results"
                return (await http.post(f"/api/runs/{run_id}/{path}", json=fields)).json().get("code")
            await socket.send(type=kind, run_id=run_id, **fields)
            return (await socket.until("error"))["code"] if kind == "tool_result" else None

        assert await say("tool_result", result="drawn too soon") == "invalid_frame"
        assert (await service.get(f"/api/runs/{run_id}"))["approvals"] == {"call_2": "pending"}
        await say("tool_approval", approved=True)
        approved = await socket.until("tool_approved")
        assert {key: approved[key] for key in ("tool_call_id", "name", "arguments", "executor")} == {
            "tool_call_id": "call_2",
            "name": "draw",
            "arguments": {"what": "a cat"},
            "executor": "client",
        }
        await until_waiting(service, run_id)
        assert (await service.get(f"/api/runs/{run_id}"))["approvals"] == {"call_2": "approved"}
        body = {"tool_call_id": "call_2", "result": "drawn"}
        assert (await http.post(f"/api/runs/{run_id}/tool_results", json=body)).status_code == 200
        await socket.until("complete")
    assert [m["content"] for m in await service.history(call["conversation_id"])] == ["Go", "", "drawn", "Done."]


async def test_a_refused_client_tool_takes_no_result(start: Start, upstream: Upstream):
    service = await start(tool_approval={"draw": "ask"})
    async with service.socket() as socket:
        call = await ask_for_tools(socket, upstream, DRAW, client_tools=["draw"])
        answer = {"run_id": call["run_id"], "tool_call_id": "call_2"}
        await socket.send(type="tool_approval", approved=False, **answer)
        assert (await socket.until("tool_result"))["denied"] is True
        await socket.send(type="tool_result", result="drawn all the same", **answer)
        assert (await socket.until("error"))["code"] == "not_found"


async def test_what_clients_were_told_of_a_call_counts_after_a_change_of_policy(start: Start, upstream: Upstream):
    service = await start(tool_approval={"draw": "ask"})
    async with service.socket() as socket, service.http() as http:
        call = await ask_for_tools(socket, upstream, DRAW, client_tools=["draw"])
        await until_waiting(service, call["run_id"])
        path = f"/api/conversations/{call['conversation_id']}"
        await http.patch(path, json={"tool_approval": {"draw": "auto"}})
        answer = {"run_id": call["run_id"], "tool_call_id": "call_2"}
        await socket.send(type="tool_result", result="drawn", **answer)
        assert (await socket.until("error"))["code"] == "invalid_frame"
        await socket.send(type="tool_approval", approved=True, **answer)
        await socket.until("tool_approved")
        await socket.send(type="tool_result", result="drawn", **answer)
        await socket.until("complete")


async def test_an_approval_counts_for_one_call_of_an_id(start: Start, upstream: Upstream):
    service = await start(tool_approval={"add": "ask"})
    upstream.calls(ADD)
    upstream.calls(("call_1", "add", '{"a": 2, "b": 2}'))
    upstream.says("Done.")
    async with service.socket() as socket:
        await socket.send(type="message", content="Go")
        first = await socket.until("tool_call")
        approval = {"type": "tool_approval", "run_id": first["run_id"], "approved": True}
        await socket.send(**approval, tool_call_id=first["tool_call_id"])
        second = await socket.until("tool_call")
        assert second["needs_approval"] is True
        await until_waiting(service, first["run_id"])
        assert second["tool_call_id"] != first["tool_call_id"]
        await socket.send(**approval, tool_call_id=second["tool_call_id"])
        await socket.until("complete")
    history = await service.history(first["conversation_id"])
    assert [m["content"] for m in history if m["role"] == "tool"] == ["2", "4"]
    called = [call["id"] for m in history for call in m["metadata"].get("tool_calls", [])]
    assert called == [m["metadata"]["tool_call_id"] for m in history if m["role"] == "tool"]
