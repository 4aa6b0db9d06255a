"""The AI SDK wire: the official package `ai` in both versions as a client, and the same conversation on the other wires."""

import asyncio
import json
from typing import Any

import pytest

from app.core.domain.ids import new_id
from tests.client import Service
from tests.integration.conftest import TOKEN, Start
from tests.node import NODE_22, run_node
from tests.upstream import Answer, Upstream, paused

ADD = ("call_1", "add", '{"a": 1, "b": 1}')


@pytest.fixture(params=["ai6", "ai7"])
def sdk(request: pytest.FixtureRequest) -> str:
    return request.param


async def run(sdk: str, scenario: str, service: Service, conversation_id: str) -> dict[str, Any]:
    node = NODE_22 if sdk == "ai7" else "node"
    said = await run_node("ai_sdk.mjs", sdk, scenario, service.url, TOKEN, conversation_id, node=node)
    result = json.loads(said)
    assert result["errors"] == []
    return result


def parts_of(message: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [part for part in message["parts"] if part["type"] == kind]


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in parts_of(message, "text"))


async def test_text_is_streamed_and_kept_under_the_ids_of_the_client(service: Service, upstream: Upstream, sdk: str):
    async def think(answer: Answer) -> None:
        await answer.delta(reasoning_content="Hm.")
        await answer.say("Hello ", "there.")

    upstream.script(think)
    conversation_id = new_id()
    result = await run(sdk, "text", service, conversation_id)
    user, answer, *rest = result["messages"]
    assert [m["role"] for m in result["messages"]] == ["user", "assistant", "user", "assistant"]
    assert (text_of(answer), text_of(rest[1])) == ("Hello there.", "You said: Again")
    assert [part["text"] for part in parts_of(answer, "reasoning")] == ["Hm."]
    assert answer["metadata"]["usage"]["total_tokens"] == 15
    history = await service.history(conversation_id)
    assert [m["content"] for m in history] == ["Hello", "Hello there.", "Again", "You said: Again"]
    assert [m["id"] for m in history] == [user["id"], answer["id"], rest[0]["id"], rest[1]["id"]]
    # A conversation that was begun on this wire goes on on the other.
    async with service.socket() as socket:
        frames = await socket.ask("And here?", conversation_id=conversation_id)
    assert frames[-1]["type"] == "complete"
    assert len(upstream.requests[-1]["messages"]) == 5


async def test_a_tool_of_the_server_has_its_input_and_output(service: Service, upstream: Upstream, sdk: str):
    upstream.calls(("call_1", "multiply", '{"a": 12, "b": 34}'), ("call_2", "divide", '{"a": 1, "b": 0}'))
    upstream.says("408.")
    result = await run(sdk, "tool", service, new_id())
    answer = result["messages"][1]
    [multiply] = parts_of(answer, "tool-multiply")
    assert (multiply["state"], multiply["input"], multiply["output"]) == ("output-available", {"a": 12, "b": 34}, "408")
    [divide] = parts_of(answer, "tool-divide")
    assert divide["state"] == "output-error"
    assert "Division by zero" in divide["errorText"]
    assert text_of(answer) == "408."
    assert len(parts_of(answer, "step-start")) == 2


async def test_a_tool_of_the_client_sends_its_output_back(service: Service, upstream: Upstream, sdk: str):
    upstream.calls(ADD, ("call_2", "draw", '{"what": "a cat"}'))
    upstream.says("Done.")
    conversation_id = new_id()
    result = await run(sdk, "client", service, conversation_id)
    assert [m["role"] for m in result["messages"]] == ["user", "assistant"]
    answer = result["messages"][1]
    [draw] = parts_of(answer, "tool-draw")
    assert (draw["state"], draw["output"]) == ("output-available", {"drawn": {"what": "a cat"}})
    assert parts_of(answer, "tool-add")[0]["output"] == "2"
    history = await service.history(conversation_id)
    assert [m["role"] for m in history] == ["user", "assistant", "tool", "tool", "assistant"]
    assert answer["id"] == history[1]["id"]


@pytest.mark.parametrize("scenario", ["approval", "refusal"])
async def test_an_approval_is_asked_for_and_given_or_refused(start: Start, upstream: Upstream, sdk: str, scenario: str):
    service = await start(tool_approval={"add": "ask"})
    upstream.calls(ADD)
    upstream.says("Done.")
    conversation_id = new_id()
    result = await run(sdk, scenario, service, conversation_id)
    answer = result["messages"][1]
    [add] = parts_of(answer, "tool-add")
    history = await service.history(conversation_id)
    if scenario == "approval":
        assert (add["state"], add["output"]) == ("output-available", "2")
    else:
        assert add["state"] == "output-denied"
        assert "too dear" in history[2]["content"]
    assert text_of(answer) == "Done."


@pytest.mark.parametrize(
    ("scenario", "state", "times"), [("allowing", "output-available", 1), ("refusing", "output-denied", 0)]
)
async def test_a_client_tool_runs_once_it_is_approved(
    start: Start, upstream: Upstream, sdk: str, scenario: str, state: str, times: int
):
    service = await start(tool_approval={"draw": "ask"})
    upstream.calls(("call_2", "draw", '{"what": "a cat"}'))
    upstream.says("Done.")
    result = await run(sdk, scenario, service, new_id())
    [draw] = parts_of(result["messages"][1], "tool-draw")
    assert (draw["state"], draw["input"]) == (state, {"what": "a cat"})
    assert [call_id for call_id, _ in result["ran"]] == ["call_2"] * times
    assert text_of(result["messages"][1]) == "Done."


async def test_a_result_without_approval_is_refused(start: Start, upstream: Upstream):
    service = await start(tool_approval={"draw": "ask"})
    upstream.calls(("call_2", "draw", "{}"))
    body = {"id": "c-1", "messages": [user("Hi")], "clientTools": ["draw"]}
    chunks = await chunks_of(service, body)
    assert "tool-input-available" not in [chunk["type"] for chunk in chunks]
    part = {"type": "tool-draw", "toolCallId": "call_2", "state": "output-available", "input": {}, "output": "drawn"}
    async with service.http() as http:
        answer = await http.post("/api/chat", json={**body, "messages": [{"role": "assistant", "parts": [part]}]})
    assert answer.status_code == 422
    assert "waits for the user's approval" in answer.json()["detail"]


async def test_a_turn_taken_up_again_offers_no_finished_call_to_run(service: Service, upstream: Upstream):
    upstream.calls(("call_2", "draw", '{"what": "a cat"}'))
    upstream.script(paused(gate := asyncio.Event()))
    await chunks_of(service, {"id": "c-1", "messages": [user("Hi")], "clientTools": ["draw"]})
    run_id = (await service.get("/api/conversations/c-1"))["active_run_id"]
    async with service.http() as http, service.socket() as socket:
        await http.post(f"/api/runs/{run_id}/tool_results", json={"tool_call_id": "call_2", "result": "drawn"})
        await socket.send(type="attach", run_id=run_id)
        await socket.until("token")
        taking_up = asyncio.create_task(http.get("/api/chat/c-1/stream"))
        await listened_to(service, run_id, by=2)
        gate.set()
        lines = [json.loads(line[6:]) for line in (await taking_up).text.splitlines() if line.startswith("data: {")]
    kinds = [chunk["type"] for chunk in lines]
    assert "tool-input-available" not in kinds
    assert kinds[2:5] == ["tool-input-start", "tool-input-delta", "tool-output-available"]


async def test_stopping_keeps_what_was_said(service: Service, upstream: Upstream, sdk: str):
    upstream.script(paused(asyncio.Event()))
    conversation_id = new_id()
    result = await run(sdk, "stop", service, conversation_id)
    assert text_of(result["messages"][1]) == "One "
    history = await service.history(conversation_id)
    assert (history[1]["content"], history[1]["metadata"]["partial"]) == ("One ", True)


async def test_a_turn_is_taken_up_in_the_middle(service: Service, upstream: Upstream, sdk: str):
    upstream.script(paused(gate := asyncio.Event()))
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        taking_up = asyncio.create_task(run(sdk, "resume", service, seen["conversation_id"]))
        await listened_to(service, seen["run_id"], by=2)
        gate.set()
        await socket.until("complete")
    [answer] = (await taking_up)["messages"]
    assert text_of(answer) == "One two."
    assert answer["id"] == (await service.history(seen["conversation_id"]))[1]["id"]


async def listened_to(service: Service, run_id: str, *, by: int) -> None:
    """Wait until so many clients follow a run."""
    ring = service.app.state.services.runs._driver._log._log._rings[run_id]
    async with asyncio.timeout(30):
        while len(ring.wakes) < by:
            await asyncio.sleep(0)


async def test_an_answer_is_given_again_and_a_message_edited(service: Service, upstream: Upstream, sdk: str):
    conversation_id = new_id()
    await run(sdk, "regenerate", service, conversation_id)
    assert len((await service.get(f"/api/conversations/{conversation_id}/export"))["messages"]) == 3
    assert len(await service.history(conversation_id)) == 2
    other = new_id()
    result = await run(sdk, "edit", service, other)
    assert [m["content"] for m in await service.history(other)] == ["Hallo", "You said: Hallo"]
    assert text_of(result["messages"][-1]) == "You said: Hallo"


@pytest.mark.parametrize(
    ("media_type", "url"),
    [
        ("text/plain", "data:text/plain;base64,R3LDvMOfZQ=="),
        ("text/markdown", "data:text/markdown;charset=iso-8859-1;base64,R3L832U="),
        ("application/json", "data:application/json,Gr%C3%BC%C3%9Fe"),
    ],
)
async def test_text_files_become_text(service: Service, upstream: Upstream, media_type: str, url: str):
    file = {"type": "file", "mediaType": media_type, "url": url, "filename": 'a "file".txt'}
    parts = [file, {"type": "text", "text": "Read this."}]
    chat = {"id": new_id(), "messages": [{"id": "m1", "role": "user", "parts": parts}]}
    expected = 'Read this.\n\n<attachment name="a &quot;file&quot;.txt">\nGrüße\n</attachment>'
    async with service.http() as http:
        assert (await http.post("/api/chat", json=chat)).status_code == 200
        conversation = (await http.get(f"/api/conversations/{chat['id']}")).json()
    assert upstream.requests[-1]["messages"][-1]["content"] == expected
    assert conversation["title"] == "Read this."


@pytest.mark.parametrize(
    "url", ["https://example.org/a.txt", "data:text/plain;base64,!!", "data:text/plain;base64,/w==", "data:"]
)
async def test_a_text_file_that_is_none_is_refused(service: Service, url: str):
    file = {"type": "file", "mediaType": "text/plain", "url": url, "filename": "a.txt"}
    chat = {"id": new_id(), "messages": [{"id": "m1", "role": "user", "parts": [file]}]}
    async with service.http() as http:
        refused = await http.post("/api/chat", json=chat)
    assert (refused.status_code, "a.txt" in refused.json()["detail"]) == (422, True)


async def test_a_file_goes_to_the_model(service: Service, upstream: Upstream, sdk: str):
    await run(sdk, "file", service, new_id())
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = upstream.requests[0]["messages"][0]["content"]
    assert image in content
    assert {"type": "text", "text": "What is this?"} in content


async def chunks_of(service: Service, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with service.http() as http:
        answer = await http.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def user(text: str, message_id: str = "m-1") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


async def test_the_chunks_of_a_turn_are_in_order(service: Service, upstream: Upstream):
    upstream.calls(ADD)
    upstream.says("Two.")
    chunks = await chunks_of(service, {"id": "c-1", "messages": [user("Hi")], "trigger": "submit-message"})
    assert [chunk["type"] for chunk in chunks] == [
        *("start", "start-step", "tool-input-available", "tool-output-available", "finish-step"),
        *("start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"),
    ]
    assert chunks[-1]["finishReason"] == "stop"
    again = await chunks_of(service, {"id": "c-1", "messages": [user("Hi")], "trigger": "submit-message"})
    assert again == chunks
    assert len(upstream.requests) == 2


async def test_a_model_that_fails_ends_the_stream_with_its_error(service: Service, upstream: Upstream):
    upstream.refuses(429, {"message": "slow down"})
    chunks = await chunks_of(service, {"id": "c-1", "messages": [user("Hi")]})
    assert chunks[-1]["type"] == "error"
    assert "rate limited" in chunks[-1]["errorText"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"id": "../x", "messages": [user("Hi")]}, 422, "invalid_frame"),
        ({"id": "c-1", "messages": []}, 422, "invalid_frame"),
        ({"id": "c-1", "messages": [user(" ")]}, 422, "empty_input"),
        ({"id": "c-1", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text"}]}]}, 422, "invalid_frame"),
        ({"id": "c-1", "messages": [user("a\0b")]}, 422, "invalid_frame"),
        ({"id": "c-1", "messages": [{"id": "a", "role": "assistant", "parts": []}]}, 404, "not_found"),
        ({"id": "c-1", "messages": [user("Hi")], "trigger": "regenerate-message"}, 404, "not_found"),
        ({"id": "c-1", "messages": [user("Hi")], "model": "nobody@x"}, 422, "unknown_model"),
    ],
)
async def test_a_bad_request_is_a_problem(service: Service, body: dict[str, Any], status: int, code: str):
    async with service.http() as http:
        answer = await http.post("/api/chat", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_there_is_nothing_to_take_up_or_stop_where_nothing_runs(service: Service):
    async with service.http() as http:
        assert (await http.get("/api/chat/no-such-one/stream")).status_code == 404
        made = (await http.post("/api/conversations", json={})).json()
        assert (await http.get(f"/api/chat/{made['id']}/stream")).status_code == 204
        assert (await http.post(f"/api/chat/{made['id']}/stop")).status_code == 204
