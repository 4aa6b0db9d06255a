"""Message ids on every wire: they count in their conversation, and nothing that is sent under one is lost."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.core.domain.ids import new_id
from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Upstream, paused

PICTURE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA", "filename": "a.png"}


@pytest.fixture(params=["sqlite", "mongodb"])
async def service(request: pytest.FixtureRequest, start: Start) -> Service:
    if request.param == "sqlite":
        return await start()
    url = request.getfixturevalue("mongodb_url")
    return await start(mongodb_url=url, mongodb_database=f"test_{uuid4().hex}")


async def over_rest(http: httpx.AsyncClient, conversation_id: str, message_id: str, content: str) -> httpx.Response:
    body = {"content": content, "message_id": message_id}
    return await http.post(f"/api/conversations/{conversation_id}/messages", json=body)


async def over_ai_sdk(http: httpx.AsyncClient, conversation_id: str, message_id: str, content: str) -> httpx.Response:
    message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": content}]}
    return await http.post("/api/chat", json={"id": conversation_id, "messages": [message]})


async def over_openai(http: httpx.AsyncClient, conversation_id: str, message_id: str, content: str) -> httpx.Response:
    body = {
        "model": "atelier",
        "messages": [{"role": "user", "content": content}],
        "metadata": {"conversation_id": conversation_id, "message_id": message_id},
    }
    return await http.post("/v1/chat/completions", json=body)


WIRES = {"rest": over_rest, "ai_sdk": over_ai_sdk, "openai": over_openai}


async def made(http: httpx.AsyncClient) -> str:
    return (await http.post("/api/conversations", json={})).json()["id"]


async def asked(service: Service, conversation_id: str) -> list[str]:
    return [m["content"] for m in await service.history(conversation_id) if m["role"] == "user"]


@pytest.mark.parametrize("wire", WIRES)
async def test_an_id_of_one_conversation_is_free_in_another(service: Service, wire: str):
    send = WIRES[wire]
    async with service.http() as http:
        one, two = await made(http), await made(http)
        first = await send(http, one, "m1", "What is 1 + 1?")
        second = await send(http, two, "m1", "What is 20 + 20?")
        assert (first.status_code, second.status_code) == (200, 200)
        assert "You said: What is 20 + 20?" in second.text
        again = await send(http, two, "m1", "What is 20 + 20?")
    assert "You said: What is 20 + 20?" in again.text
    assert await asked(service, one) == ["What is 1 + 1?"]
    assert await asked(service, two) == ["What is 20 + 20?"]


@pytest.mark.parametrize("wire", WIRES)
async def test_other_content_under_a_used_id_is_refused(service: Service, wire: str):
    send = WIRES[wire]
    async with service.http() as http:
        conversation_id = await made(http)
        await send(http, conversation_id, "m1", "One")
        refused = await send(http, conversation_id, "m1", "Two")
    assert refused.status_code == 409
    body = refused.json()
    code, sentence = (
        (body["error"]["code"], body["error"]["message"]) if wire == "openai" else (body["code"], body["detail"])
    )
    assert code == "message_conflict"
    assert "new message_id" in sentence
    assert await asked(service, conversation_id) == ["One"]


@pytest.mark.parametrize("wire", WIRES)
async def test_an_id_of_an_imported_message_is_refused(service: Service, wire: str):
    async with service.http() as http:
        imported = {"messages": [{"id": "m1", "role": "user", "content": "One"}]}
        conversation_id = (await http.post("/api/conversations/import", json=imported)).json()["id"]
        refused = await WIRES[wire](http, conversation_id, "m1", "One")
    assert refused.status_code == 409
    assert "imported" in refused.text
    assert await asked(service, conversation_id) == ["One"]


@pytest.mark.parametrize("wire", WIRES)
async def test_one_of_two_messages_at_once_wins(service: Service, wire: str):
    async with service.http() as http:
        conversation_id = await made(http)
        sent = ("One", "Two") * 3
        answers = await asyncio.gather(*(WIRES[wire](http, conversation_id, "m1", content) for content in sent))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [409] * 3
    [stored] = await asked(service, conversation_id)
    for content, answer in zip(sent, answers, strict=True):
        assert (answer.status_code == 200) == (content == stored)
        assert answer.status_code == 409 or f"You said: {stored}" in answer.text


async def test_over_the_socket_ids_count_in_their_conversation(service: Service):
    async with service.socket() as socket:
        first = await socket.ask("One", message_id="m1")
        again = await socket.ask("One", message_id="m1")
        assert again == first
        await socket.send(type="message", content="Two", message_id="m1")
        refused = await socket.until("error")
        assert (refused["code"], refused["in_reply_to"]) == ("message_conflict", "message")
        assert "conversation_id" in refused["message"]

        async with service.http() as http:
            other = await made(http)
        second = await socket.ask("Two", message_id="m1", conversation_id=other)
        assert (second[-1]["type"], second[-1]["conversation_id"]) == ("complete", other)
        await socket.send(type="message", content="One", message_id="m1")
        assert (await socket.until("error"))["code"] == "message_conflict"
        await socket.send(type="message", content="Three", message_id="m1", conversation_id=other)
        assert (await socket.until("error"))["code"] == "message_conflict"
    assert len((await service.get("/api/conversations"))["items"]) == 2
    assert await asked(service, other) == ["Two"]


async def test_many_sockets_that_send_one_message_make_one_conversation(service: Service):
    async def ask(content: str) -> dict[str, Any]:
        async with service.socket() as socket:
            await socket.send(type="message", content=content, message_id="m1")
            return await socket.until("complete", "error")

    ends = await asyncio.gather(*(ask(content) for content in ("One", "Two") * 3))
    assert sorted(end.get("code", "") for end in ends) == [""] * 3 + ["message_conflict"] * 3
    assert len({end["run_id"] for end in ends if end["type"] == "complete"}) == 1
    [conversation] = (await service.get("/api/conversations"))["items"]
    assert len(await service.history(conversation["id"])) == 2


def run_of(stream: str) -> str:
    """The run in the head of a stream of the AI SDK that came to its end."""
    assert stream.endswith("data: [DONE]\n\n")
    return stream.partition('"runId":"')[2].partition('"')[0]


async def test_an_ai_sdk_client_may_send_a_message_again(service: Service, upstream: Upstream):
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "What is this?"}, PICTURE]}
    request = {"id": new_id(), "messages": [message]}
    upstream.script(paused(gate := asyncio.Event()))
    async with service.http() as http, AsyncExitStack() as stack:
        # `sendMessage()` without arguments, as after a lost connection, names the last message.
        bodies = [request, {**request, "messageId": "m1"}, request]
        streams = [await stack.enter_async_context(http.stream("POST", "/api/chat", json=body)) for body in bodies]
        gate.set()
        answers = [(await stream.aread()).decode() for stream in streams]
        later = (await http.post("/api/chat", json=request)).text
    assert len({run_of(answer) for answer in [*answers, later]}) == 1
    assert len(upstream.requests) == 1
    assert len(await service.history(request["id"])) == 2


async def test_an_edit_that_is_sent_again_runs_once(service: Service, upstream: Upstream):
    conversation_id = new_id()
    async with service.http() as http, AsyncExitStack() as stack:
        await over_ai_sdk(http, conversation_id, "m1", "One")
        edited = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Two"}]}
        request = {"id": conversation_id, "messages": [edited], "messageId": "m1"}
        upstream.script(paused(gate := asyncio.Event()))
        streams = [await stack.enter_async_context(http.stream("POST", "/api/chat", json=request)) for _ in range(2)]
        other = {**request, "messages": [{**edited, "parts": [{"type": "text", "text": "Three"}]}]}
        assert (await http.post("/api/chat", json=other)).json()["code"] == "conversation_busy"
        gate.set()
        answers = [(await stream.aread()).decode() for stream in streams]
        exported = (await http.get(f"/api/conversations/{conversation_id}/export")).json()
    assert run_of(answers[0]) == run_of(answers[1])
    assert [m["content"] for m in exported["messages"] if m["role"] == "user"] == ["One", "Two"]
    assert len(upstream.requests) == 2


async def test_an_ai_sdk_client_may_use_any_alphabet_for_ids(service: Service, upstream: Upstream):
    conversation_id, message_id = new_id(), "msg:1/ä"
    async with service.http() as http:
        for _ in range(2):
            assert (await over_ai_sdk(http, conversation_id, message_id, "One")).status_code == 200
        assert len(upstream.requests) == 1
        assert (await over_ai_sdk(http, conversation_id, message_id, "Two")).status_code == 409
        edited = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": "Two"}]}
        edit = {"id": conversation_id, "messages": [edited], "messageId": message_id}
        assert (await http.post("/api/chat", json=edit)).status_code == 200
        assert await asked(service, conversation_id) == ["Two"]
        again = {"id": conversation_id, "messages": [], "trigger": "regenerate-message", "messageId": message_id}
        assert (await http.post("/api/chat", json=again)).status_code == 200
    assert await asked(service, conversation_id) == ["One"]
