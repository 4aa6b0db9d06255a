"""A conversation goes on with the model that was named in it last, on every wire."""

from typing import Any

import httpx
import pytest

from app.core.domain.ids import new_id
from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Upstream

DEFAULT, OTHER = "openai@scripted", "openai@other"


async def over_rest(http: httpx.AsyncClient, conversation_id: str, model: str | None) -> httpx.Response:
    named = {"model": model} if model else {}
    return await http.post(f"/api/conversations/{conversation_id}/messages", json={"content": "Hi", **named})


async def over_ai_sdk(http: httpx.AsyncClient, conversation_id: str, model: str | None) -> httpx.Response:
    message = {"id": new_id(), "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    named = {"model": model} if model else {}
    return await http.post("/api/chat", json={"id": conversation_id, "messages": [message], **named})


async def over_openai(http: httpx.AsyncClient, conversation_id: str, model: str | None) -> httpx.Response:
    body = {
        "model": f"atelier:{model}" if model else "atelier",
        "messages": [{"role": "user", "content": "Hi"}],
        "metadata": {"conversation_id": conversation_id},
    }
    return await http.post("/v1/chat/completions", json=body)


WIRES = {"rest": over_rest, "ai_sdk": over_ai_sdk, "openai": over_openai}


async def models_of(service: Service, conversation_id: str) -> tuple[str | None, str]:
    conversation = await service.get(f"/api/conversations/{conversation_id}")
    [listed] = (await service.get("/api/conversations"))["items"]
    assert listed["next_model"] == conversation["next_model"]
    return conversation["model"], conversation["next_model"]


@pytest.mark.parametrize("wire", WIRES)
async def test_a_conversation_goes_on_with_the_model_that_is_named(service: Service, upstream: Upstream, wire: str):
    send = WIRES[wire]
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        assert (made["model"], made["next_model"]) == (None, DEFAULT)
        for model in (None, OTHER, None):
            assert (await send(http, made["id"], model)).status_code == 200
        assert [request["model"] for request in upstream.requests] == ["scripted", "other", "other"]
        assert await models_of(service, made["id"]) == (OTHER, OTHER)
        await http.patch(f"/api/conversations/{made['id']}", json={"model": None})
        await send(http, made["id"], None)
    assert upstream.requests[-1]["model"] == "scripted"
    assert await models_of(service, made["id"]) == (None, DEFAULT)


@pytest.mark.parametrize("wire", ["ai_sdk", "openai"])
async def test_a_conversation_that_a_turn_makes_has_its_model(service: Service, wire: str):
    conversation_id = new_id()
    async with service.http() as http:
        await WIRES[wire](http, conversation_id, OTHER)
    assert await models_of(service, conversation_id) == (OTHER, OTHER)


async def test_every_turn_of_a_socket_keeps_the_model_it_names(service: Service, upstream: Upstream):
    async with service.socket() as socket:

        async def run(**frame: Any) -> None:
            await socket.send(conversation_id=conversation_id, **frame)
            await socket.until("complete")

        first = await socket.ask("Hi", model="openai@one")
        conversation_id = first[0]["conversation_id"]
        assert await models_of(service, conversation_id) == ("openai@one", "openai@one")
        user, answer = await service.history(conversation_id)
        await run(type="regenerate", message_id=answer["id"], model="openai@two")
        await run(type="edit", message_id=user["id"], content="Ho", model="openai@three")
        [user, _] = await service.history(conversation_id)
        await run(type="retry", message_id=user["id"], model="openai@four")
        await run(type="message", content="Thanks")
    assert [request["model"] for request in upstream.requests] == ["one", "two", "three", "four", "four"]
    assert await models_of(service, conversation_id) == ("openai@four", "openai@four")


async def test_a_refused_turn_changes_no_model(service: Service):
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        imported = {"messages": [{"id": "m1", "role": "user", "content": "Hi"}]}
        other = (await http.post("/api/conversations/import", json=imported)).json()
        assert (await over_rest(http, made["id"], "nobody@x")).status_code == 422
        body = {"content": "Hi", "message_id": "m1", "model": OTHER}
        assert (await http.post(f"/api/conversations/{other['id']}/messages", json=body)).status_code == 409
    for conversation_id in (made["id"], other["id"]):
        assert (await service.get(f"/api/conversations/{conversation_id}"))["model"] is None


@pytest.mark.parametrize("wire", WIRES)
async def test_a_model_that_is_gone_is_named_with_a_way_out(start: Start, wire: str):
    service = await start()
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        await http.patch(f"/api/conversations/{made['id']}", json={"model": OTHER})
    await service.stop()
    service = await start(openai_base_url=None, openai_api_key=None, default_model="demo@offline")
    assert await models_of(service, made["id"]) == (OTHER, OTHER)
    async with service.http() as http:
        refused = await WIRES[wire](http, made["id"], None)
        assert refused.status_code in (401, 503)
        assert f"This conversation uses {OTHER}." in refused.text
        assert "choose another model for the conversation" in refused.text
        assert (await WIRES[wire](http, made["id"], "demo@offline")).status_code == 200
    assert await models_of(service, made["id"]) == ("demo@offline", "demo@offline")
