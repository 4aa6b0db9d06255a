"""`/v1` where the model is the agent itself, and what is refused before anything is asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.client import Service
from tests.integration.conftest import TOKEN, Start
from tests.upstream import Answer, Upstream

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


async def test_the_agent_uses_its_tools_and_only_its_answer_comes_back(client: AsyncOpenAI, upstream: Upstream):
    upstream.calls(("c1", "add", '{"a": 1, "b": 2}'))
    upstream.says("It is ", "3.")
    async with client.chat.completions.stream(
        model="atelier", messages=[{"role": "user", "content": "1 + 2?"}], stream_options={"include_usage": True}
    ) as events:
        final = await events.get_final_completion()
    message = final.choices[0].message
    assert (message.content, message.tool_calls, final.choices[0].finish_reason) == ("It is 3.", None, "stop")
    assert final.usage is not None
    assert final.usage.total_tokens == 30
    assert upstream.requests[1]["messages"][-1]["content"] == "3"


async def test_without_a_conversation_nothing_is_stored(service: Service, client: AsyncOpenAI, upstream: Upstream):
    upstream.calls(("c1", "add", '{"a": 1, "b": 2}'))
    upstream.says("It is 3.")
    history: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "1 + 2?"},
    ]
    answer = await client.chat.completions.create(model="atelier", messages=history)
    assert answer.choices[0].message.content == "It is 3."
    assert [m["content"] for m in upstream.requests[0]["messages"]] == ["Be brief.", "Hi", "Hello!", "1 + 2?"]
    assert (await service.get("/api/conversations"))["items"] == []
    assert (await service.get("/api/usage"))["total"]["requests"] == 2


async def test_a_named_conversation_is_kept_and_gone_on_with(service: Service, client: AsyncOpenAI, upstream: Upstream):
    for content in ("First", "Second"):
        upstream.says(f"About {content}.")
        answer = await client.chat.completions.create(
            model="atelier:openai@other",
            messages=[
                {"role": "user", "content": "what the client thinks was said"},
                {"role": "user", "content": content},
            ],
            metadata={"conversation_id": "mine-1"},
        )
        assert answer.choices[0].message.content == f"About {content}."
    assert [m["content"] for m in await service.history("mine-1")] == [
        "First",
        "About First.",
        "Second",
        "About Second.",
    ]
    assert [body["model"] for body in upstream.requests] == ["other", "other"]
    assert [m["content"] for m in upstream.requests[1]["messages"]] == ["First", "About First.", "Second"]


async def test_a_turn_that_fails_is_the_clients_own_error(client: AsyncOpenAI, upstream: Upstream):
    upstream.refuses(429)
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="atelier", messages=HELLO)
    upstream.refuses(429)
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="atelier", messages=HELLO, stream=True)

    async def cut(answer: Answer) -> None:
        await answer.delta(content="Half")
        answer.cut()

    upstream.script(cut)
    with pytest.raises(openai.APIError, match="cut"):
        async for _ in await client.chat.completions.create(model="atelier", messages=HELLO, stream=True):
            pass


async def test_an_answer_that_begins_anew_is_not_told_twice(start: Start, upstream: Upstream):
    service = await start(model_fallbacks=["openai@second"])

    async def cut(answer: Answer) -> None:
        await answer.delta(content="Half")
        answer.cut()

    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=TOKEN, max_retries=0) as client:
        upstream.script(cut)
        upstream.says("Whole.")
        answer = await client.chat.completions.create(model="atelier", messages=HELLO)
        assert answer.choices[0].message.content == "Whole."
        upstream.script(cut)
        upstream.says("Whole.")
        with pytest.raises(openai.APIError, match="begun anew"):
            async for _ in await client.chat.completions.create(model="atelier", messages=HELLO, stream=True):
                pass


async def test_who_leaves_a_passing_turn_stops_it(client: AsyncOpenAI, upstream: Upstream):
    async def endless(answer: Answer) -> None:
        await answer.delta(content="One ")
        await asyncio.Event().wait()

    upstream.script(endless)
    async for chunk in await client.chat.completions.create(model="atelier", messages=HELLO, stream=True):
        if chunk.choices[0].delta.content:
            break
    await client.close()
    async with asyncio.timeout(10):
        await upstream.closed_early.wait()


async def test_a_tool_that_needs_approval_is_not_offered_where_nobody_can_be_asked(start: Start, upstream: Upstream):
    service = await start(tool_approval="add=ask")
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=TOKEN, max_retries=0) as client:
        await client.chat.completions.create(model="atelier", messages=HELLO)
    offered = [tool["function"]["name"] for tool in upstream.requests[0]["tools"]]
    assert "add" not in offered
    assert "multiply" in offered


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls[0].function"),
    ({"model": ""}, "model"),
    ({"n": 2}, "n"),
    ({"stream": "yes"}, "stream"),
    ({"tools": [{"type": "function", "function": {"name": "bad name"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
    (
        {
            "tools": [
                {"type": "function", "function": {"name": "ok"}},
                {
                    "type": "function",
                    "function": {
                        "name": "a",
                        "parameters": {"type": "object", "properties": {"x": {"type": "integr"}}},
                    },
                },
            ]
        },
        "tools[1].function.parameters.properties.x.type",
    ),
    ({"tool_choice": {"type": "function", "function": {"name": "none such"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"model": "atelier", "tools": [{"type": "function", "function": {"name": "a"}}]}, "tools"),
    ({"model": "atelier", "metadata": {"conversation_id": "../x"}}, "metadata.conversation_id"),
    ({"model": "atelier", "messages": [{"role": "assistant", "content": "x"}]}, "messages"),
]


@pytest.mark.parametrize(("change", "place"), BAD)
async def test_a_bad_request_names_the_place(service: Service, upstream: Upstream, change: dict[str, Any], place: str):
    async with service.http() as http:
        body = {"model": "openai@scripted", "messages": HELLO, **change}
        answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (place, "invalid_request_error")
    assert error["message"].startswith(place)
    assert upstream.requests == []


async def test_other_ways_to_ask_wrongly(service: Service):
    async with service.http() as http:
        as_json = {"Content-Type": "application/json"}
        for content, status in ((b"{", 400), (b"[]", 400), (b'"\xff"', 400)):
            answer = await http.post("/v1/chat/completions", content=content, headers=as_json)
            assert (answer.status_code, answer.json()["error"]["param"]) == (status, "body")
        for model, status in (("nobody@nothing", 404), ("mistral@x", 401), ("gpt-4o", 404)):
            answer = await http.post("/v1/chat/completions", json={"model": model, "messages": HELLO})
            assert answer.status_code == status
            assert answer.json()["error"]["message"]
        answer = await http.get("/v1/embeddings")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")
        answer = await http.get("/v1/models", headers={"Authorization": "Bearer wrong"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_the_demo_model_answers_here_too(demo: Service):
    async with AsyncOpenAI(base_url=f"{demo.url}/v1", api_key=TOKEN, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="atelier", messages=[{"role": "user", "content": "What is 12 * 34?"}]
        )
        assert "408" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_approval_that_is_waited_for_is_said_in_the_answer(start: Start, upstream: Upstream, stream: bool):
    service = await start(tool_approval="add=ask")
    upstream.calls(("c1", "add", '{"a": 1, "b": 2}'))
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=TOKEN, max_retries=0) as client:
        asked: Any = {"model": "atelier", "messages": HELLO, "metadata": {"conversation_id": "c-1"}}
        if stream:
            chunks = await client.chat.completions.create(**asked, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        else:
            answer = await client.chat.completions.create(**asked)
            text = answer.choices[0].message.content or ""
    assert "needs your approval: add" in text
