"""`/v1`: the official OpenAI clients for Python and Node, over providers that are relayed and providers that are converted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.client import Service
from tests.integration.conftest import TOKEN, Start
from tests.node import run_node
from tests.providers.conftest import settings_of
from tests.providers.fakes import KEY, FakeProvider, Reply

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}
HELLO: Any = [{"role": "user", "content": "Hello"}]
RELAYED, CONVERTED = ["openai", "mistral"], ["anthropic", "gemini"]


@pytest.fixture(params=[*RELAYED, *CONVERTED])
async def fake(request: pytest.FixtureRequest) -> AsyncIterator[FakeProvider]:
    server = FakeProvider(request.param)
    await server.start()
    yield server
    await server.stop()
    assert server.refused == []


@pytest.fixture
async def service(start: Start, fake: FakeProvider) -> Service:
    return await start(**settings_of(fake.provider, fake))


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


def model_of(fake: FakeProvider) -> str:
    return f"{fake.provider}@fake-model"


async def node(scenario: str, service: Service, model: str, token: str = TOKEN) -> dict[str, Any]:
    return json.loads(await run_node("openai.mjs", scenario, service.url, token, model))


async def test_an_answer_at_once(client: AsyncOpenAI, fake: FakeProvider):
    fake.says(Reply(("Good ", "day.")))
    answer = await client.chat.completions.create(model=model_of(fake), messages=HELLO)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Good day.", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 7, 18)


@pytest.mark.parametrize("asked", [True, False])
async def test_an_answer_in_pieces_as_they_come(client: AsyncOpenAI, fake: FakeProvider, asked: bool):
    fake.says(Reply(("Good ", "day, ", "Zoë 🎨"), gate=(gate := asyncio.Event())))
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    pieces: list[str] = []
    usages: list[Any] = []
    async with client.chat.completions.stream(model=model_of(fake), messages=HELLO, **options) as events:
        async for event in events:
            if event.type == "content.delta":
                pieces.append(event.delta)
                gate.set()  # the first piece came while the provider still held the second
            if event.type == "chunk" and event.chunk.usage:
                usages.append(event.chunk.usage.total_tokens)
        final = await events.get_final_completion()
    assert "".join(pieces) == final.choices[0].message.content == "Good day, Zoë 🎨"
    assert len(pieces) >= 2
    assert final.choices[0].finish_reason == "stop"
    if asked or fake.provider == "mistral":  # which says it with its last piece, asked or not
        assert usages == [18]
    else:
        assert usages == []


async def test_calls_with_their_results_sent_back(client: AsyncOpenAI, fake: FakeProvider):
    arguments = ('{"a": 1, "b": 2}', '{"a": 3, "b": 4.5}')
    fake.says(Reply(("Hm. ",), calls=(("add", arguments[0]), ("add", arguments[1]))), Reply(("Done.",)))
    async with client.chat.completions.stream(model=model_of(fake), messages=HELLO, tools=[TOOL]) as events:
        kind = "tool_calls.function.arguments.delta"
        deltas = [event.arguments_delta async for event in events if event.type == kind]
        final = await events.get_final_completion()
    message = final.choices[0].message
    calls = message.tool_calls or []
    assert final.choices[0].finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in calls] == [json.loads(a) for a in arguments]
    assert len({call.id for call in calls}) == 2
    assert deltas
    sent = [{"id": c.id, "type": "function", "function": c.function.to_dict()} for c in calls]
    again: Any = [*HELLO, {"role": "assistant", "content": message.content, "tool_calls": sent}]
    again += [{"role": "tool", "tool_call_id": call.id, "content": "3"} for call in calls]
    answer = await client.chat.completions.create(model=model_of(fake), messages=again, tools=[TOOL])
    assert answer.choices[0].message.content == "Done."


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", {"openai": "required", "mistral": "any", "anthropic": {"type": "any"}, "gemini": "ANY"}),
        ("none", {"openai": "none", "mistral": "none", "anthropic": {"type": "none"}, "gemini": "NONE"}),
        (
            {"type": "function", "function": {"name": "add"}},
            {
                "openai": {"type": "function", "function": {"name": "add"}},
                "mistral": {"type": "function", "function": {"name": "add"}},
                "anthropic": {"type": "tool", "name": "add"},
                "gemini": "ANY",
            },
        ),
    ],
)
async def test_the_choice_of_a_tool_is_said_in_the_providers_words(
    client: AsyncOpenAI, fake: FakeProvider, choice: Any, sent: dict[str, Any]
):
    await client.chat.completions.create(model=model_of(fake), messages=HELLO, tools=[TOOL], tool_choice=choice)
    (body,) = fake.requests
    if fake.provider == "gemini":
        config = body["toolConfig"]["functionCallingConfig"]
        assert config["mode"] == sent["gemini"]
        assert config.get("allowedFunctionNames", ["add"]) == ["add"]
    else:
        assert body["tool_choice"] == sent[fake.provider]


class Person(BaseModel):
    name: str
    age: int


async def test_structured_output(client: AsyncOpenAI, fake: FakeProvider):
    fake.says(Reply(('{"name": "Zoë", ', '"age": 7}')))
    answer = await client.chat.completions.parse(model=model_of(fake), messages=HELLO, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Zoë", age=7)
    assert '"age"' in json.dumps(fake.requests[0]), "the schema did not reach the provider"


async def test_sampling_parameters_are_passed_on(client: AsyncOpenAI, fake: FakeProvider):
    await client.chat.completions.create(
        model=model_of(fake), messages=HELLO, temperature=0.3, top_p=0.9, max_tokens=77, stop=["END"]
    )
    (body,) = fake.requests
    found = {**body, **body.get("generationConfig", {})}
    if fake.provider == "anthropic":  # it refuses them, in every version since 2026-10-21
        assert not {"temperature", "top_p"} & set(found)
        found |= {"temperature": 0.3, "top_p": 0.9}
    names = {"gemini": ("temperature", "topP", "maxOutputTokens", "stopSequences")}
    names["anthropic"] = ("temperature", "top_p", "max_tokens", "stop_sequences")
    wanted = names.get(fake.provider, ("temperature", "top_p", "max_tokens", "stop"))
    assert [found[name] for name in wanted] == [0.3, 0.9, 77, ["END"]]


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, openai.AuthenticationError, "provider_not_configured"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (400, openai.BadRequestError, "provider_rejected"),
        (404, openai.NotFoundError, "model_not_found"),
        (500, openai.InternalServerError, "provider_unavailable"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_errors_are_the_clients_own(
    client: AsyncOpenAI, fake: FakeProvider, status: int, error: type[openai.APIStatusError], code: str, streamed: bool
):
    fake.says(Reply(status=status, headers={"Retry-After": "40"}))
    with pytest.raises(error) as failure:
        await client.chat.completions.create(model=model_of(fake), messages=HELLO, stream=streamed)
    assert failure.value.code == code
    assert KEY not in str(failure.value)
    if status == 429:
        assert failure.value.response.headers["retry-after"] == "41"


async def test_an_answer_that_is_cut_off_ends_with_an_error(client: AsyncOpenAI, fake: FakeProvider):
    fake.says(Reply(("Half an ",), cut=True))
    pieces: list[str | None] = []
    with pytest.raises(openai.APIError, match="cut"):
        async for chunk in await client.chat.completions.create(model=model_of(fake), messages=HELLO, stream=True):
            pieces += [choice.delta.content for choice in chunk.choices]
    assert "".join(piece or "" for piece in pieces) == "Half an "


async def test_the_clients_token_is_this_services(service: Service, fake: FakeProvider):
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as failure:
            await stranger.chat.completions.create(model=model_of(fake), messages=HELLO)
    assert failure.value.code == "invalid_api_key"
    assert fake.requests == []


async def test_the_models_are_listed(client: AsyncOpenAI, fake: FakeProvider):
    fake.models = {"models": [{"name": "models/a/b"}]} if fake.provider == "gemini" else {"data": [{"id": "a/b"}]}
    listed = [model.id async for model in client.models.list()]
    assert listed[0] == "atelier"
    assert f"{fake.provider}@a/b" in listed
    assert (await client.models.retrieve(f"{fake.provider}@a/b")).owned_by == fake.provider
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody@nothing")


async def test_tokens_are_counted(service: Service, client: AsyncOpenAI, fake: FakeProvider):
    await client.chat.completions.create(model=model_of(fake), messages=HELLO)
    async for _ in await client.chat.completions.create(model=model_of(fake), messages=HELLO, stream=True):
        pass
    report = await service.get("/api/usage")
    assert [(i["model"], i["requests"], i["input_tokens"], i["output_tokens"]) for i in report["items"]] == [
        (model_of(fake), 2, 22, 14)
    ]


async def test_who_goes_away_stops_the_provider(service: Service, fake: FakeProvider):
    fake.says(Reply(("One ", "two"), gate=asyncio.Event()))
    body = {"model": model_of(fake), "messages": HELLO, "stream": True}
    async with httpx.AsyncClient(base_url=service.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if "One" in line:
                    break
    async with asyncio.timeout(10):
        await fake.left.wait()


@pytest.mark.parametrize("scenario", ["stream", "tools", "structured", "error", "models"])
async def test_the_client_for_node(service: Service, fake: FakeProvider, scenario: str):
    match scenario:
        case "stream":
            fake.says(Reply(("Good ", "day.")))
            seen = await node(scenario, service, model_of(fake))
            assert ("".join(seen["deltas"]), seen["text"]) == ("Good day.", "Good day.")
            assert seen["usage"]["total_tokens"] == 18
        case "tools":
            fake.says(Reply(calls=(("add", '{"a": 1, "b": 2}'),)), Reply(("It is 3.",)))
            assert await node(scenario, service, model_of(fake)) == {"text": "It is 3.", "results": ["3"]}
        case "structured":
            fake.says(Reply(('{"name": "Zoë", "age": 7}',)))
            assert await node(scenario, service, model_of(fake)) == {"name": "Zoë", "age": 7}
        case "error":
            fake.says(Reply(status=429))
            seen = await node(scenario, service, model_of(fake), TOKEN)
            assert (seen["name"], seen["status"]) == ("RateLimitError", 429)
            seen = await node(scenario, service, model_of(fake), "wrong")
            assert (seen["name"], seen["status"]) == ("AuthenticationError", 401)
        case _:
            seen = await node(scenario, service, model_of(fake))
            assert (seen["one"], seen["listed"][0]) == (model_of(fake), "atelier")
