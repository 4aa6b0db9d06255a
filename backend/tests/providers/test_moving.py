"""A conversation that moves from one provider to another: whatever is stored, the request that leaves is one that is taken."""

import asyncio
import string
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage

from app.adapters.outbound.llm_providers import anthropic_provider, gemini_provider, responses
from app.adapters.outbound.llm_providers.endpoint import Endpoint, HttpPool, TimeLimits
from app.adapters.outbound.llm_providers.history import SIGNATURES
from app.adapters.outbound.llm_providers.openai_provider import OpenAIChatModel
from app.adapters.outbound.llm_providers.providers import PROVIDERS, Provider, Wire, custom_provider
from app.adapters.outbound.llm_providers.wire_provider import Replay
from app.core.domain.message import Message, MessageRole
from app.core.ports import ModelFacts
from app.core.services.repair import repair
from app.langgraph.messages import to_domain, to_langchain
from app.langgraph.tools import MATH_TOOLS
from tests.client import text_of
from tests.integration.conftest import Start
from tests.providers.conftest import settings_of
from tests.providers.fakes import KEY, FakeProvider, Reply
from tests.providers.oracles import faults_by_sdk
from tests.providers.rules import NAMES, faults

SIGNATURE = "c2lnbmVk"


def row(name: str) -> Provider:
    return PROVIDERS.get(name) or custom_provider(name, "http://127.0.0.1:1/v1", "LAB_KEY", "m")


def request_to(name: str, history: list[BaseMessage]) -> dict[str, Any]:
    """The body that would leave for the provider of that name."""
    provider = row(name)
    endpoint = Endpoint(provider, provider.base_url, False, KEY, HttpPool(), TimeLimits())
    facts = ModelFacts(reasoning=True)
    match provider.wire:
        case Wire.OPENAI:
            chat = OpenAIChatModel.connect("m", endpoint, facts)
            bound: Any = chat.bind_tools(MATH_TOOLS)
            return chat.payload(history, {"stream": True, "stream_options": {"include_usage": True}, **bound.kwargs})
        case Wire.RESPONSES:
            wire = responses.ResponsesWire("m", endpoint, facts, MATH_TOOLS, {})
        case Wire.ANTHROPIC:
            wire = anthropic_provider.AnthropicWire("claude-test", endpoint, facts, MATH_TOOLS, {})
        case Wire.GEMINI:
            wire = gemini_provider.GeminiWire("gemini-flash-latest", endpoint, facts, MATH_TOOLS, {})
    return dict(wire.request(history, Replay()).body)


texts = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
names = st.sampled_from(["add", "multiply", "no such tool!", "x" * 80, "ü"])
call_ids = st.one_of(
    st.sampled_from(["call_1", "functions.add:0", "abcdefghi", "call_add", "toolu_01", "call_" + "x" * 60]),
    st.text(alphabet=string.ascii_letters + string.digits + "_-.:", min_size=1, max_size=50),
)
arguments = st.dictionaries(texts, st.one_of(texts, st.integers(-5, 5), st.none()), max_size=2)


@st.composite
def turns(draw: st.DrawFn, author: str) -> list[Message]:
    """One question with what came of it, as the provider `author` would have left it in the store."""
    mark = row(author).made_by
    response = {"model_provider": mark, "finish_reason": "stop"}

    def message(role: MessageRole, content: Any, **metadata: Any) -> Message:
        return Message(conversation_id="c", role=role, content=content, metadata=metadata)

    def provider(calls: list[dict[str, Any]], thought: str) -> dict[str, Any]:
        additional: dict[str, Any] = {}
        if author == "gemini" and calls:
            additional[SIGNATURES] = {calls[0]["id"]: SIGNATURE}
        if author == "anthropic" and thought:
            additional["blocks"] = [{"type": "thinking", "thinking": thought, "signature": SIGNATURE}]
        if author == "openrouter" and thought:
            additional["reasoning_details"] = [{"type": "reasoning.encrypted", "data": SIGNATURE}]
        return {"additional_kwargs": additional, "response_metadata": response}

    image = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    files = [{"type": "file", "file": {"file_data": data, "filename": "a"}} for data in FILES]
    address = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    contents = st.one_of(texts, st.sampled_from([image, [*image, *files], address, "Hello"]))
    found = [message(MessageRole.USER, draw(contents))]
    for _ in range(draw(st.integers(0, 2))):
        thought = draw(texts)
        ids = draw(st.lists(call_ids, min_size=1, max_size=3, unique=True))
        calls = [{"id": key, "name": draw(names), "args": draw(arguments), "type": "tool_call"} for key in ids]
        metadata: dict[str, Any] = {"tool_calls": calls, "provider": provider(calls, thought)}
        if thought:
            metadata["reasoning"] = thought
        if draw(st.booleans()):
            bad = {"id": "call_bad", "name": "add", "args": '{"a": ', "error": None, "type": "invalid_tool_call"}
            metadata["invalid_tool_calls"] = [bad]
            ids = [*ids, "call_bad"]
        found.append(message(MessageRole.ASSISTANT, draw(texts), **metadata))
        answered = ids[: draw(st.integers(0, len(ids)))] if draw(st.booleans()) else ids
        result = {"name": "add", "status": "success"}
        found += [message(MessageRole.TOOL, draw(texts), tool_call_id=key, **result) for key in answered]
    if len(found) > 1 and draw(st.booleans()):
        return found  # the turn was cancelled after its tools
    thought = draw(texts)
    metadata = {"provider": provider([], thought)} | ({"reasoning": thought} if thought else {})
    found.append(message(MessageRole.ASSISTANT, draw(texts), **metadata))
    return found


PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FILES = (
    "data:application/pdf;base64,JVBERi0xLjc=",
    "data:text/plain;base64,R3LDvMOfZQ==",
    "data:video/mp4;base64,AAAA",
)
histories = st.lists(st.sampled_from(NAMES).flatmap(turns), min_size=1, max_size=3)


@pytest.mark.parametrize("target", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_history_leaves_as_a_request_that_the_provider_takes(target: str, data: st.DataObject):
    system = Message(conversation_id="c", role=MessageRole.SYSTEM, content="Be brief.")
    middle = data.draw(st.lists(st.just(system), max_size=1))
    stored = [message for turn in data.draw(histories) for message in turn]
    question = Message(conversation_id="c", role=MessageRole.USER, content="And now?")
    history = [to_langchain(m) for m in repair([system, *stored, *middle, question])]
    body = orjson.loads(orjson.dumps(request_to(target, history)))
    assert faults(target, body, frozenset({SIGNATURE})) == []
    assert faults_by_sdk(target, body) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_message_goes_through_the_store_and_back_to_its_own_provider_with_what_that_wants_to_see(name: str):
    from app.adapters.outbound.llm_providers.history import portable

    mark = row(name).made_by
    metadata: dict[str, Any] = {
        "tool_calls": [{"id": "abc123DEF", "name": "add", "args": {"a": 1}, "type": "tool_call"}],
        "reasoning": "why",
        "provider": {
            "additional_kwargs": {SIGNATURES: {"abc123DEF": SIGNATURE}, "reasoning_details": [{"data": SIGNATURE}]},
            "response_metadata": {"model_provider": mark},
        },
    }
    stored = Message(conversation_id="c", role=MessageRole.ASSISTANT, content="", metadata=metadata)
    there = to_langchain(stored)
    assert to_domain(there, "c").metadata == stored.metadata
    own, foreign = (portable([there], made_by, row(name).ids)[-1] for made_by in (mark, "somebody else"))
    assert own.additional_kwargs["reasoning_content"] == "why"
    assert own.additional_kwargs[SIGNATURES] == {"abc123DEF": SIGNATURE}
    assert foreign.additional_kwargs == {}


@pytest.fixture
async def fakes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, FakeProvider]]:
    monkeypatch.setenv("LAB_KEY", KEY)
    servers = {name: FakeProvider(name) for name in NAMES}
    await asyncio.gather(*(server.start() for server in servers.values()))
    yield servers
    await asyncio.gather(*(server.stop() for server in servers.values()))


@pytest.mark.parametrize("forth", [True, False], ids=["forth", "back"])
async def test_one_conversation_goes_round_all_providers_with_tools(
    start: Start, fakes: dict[str, FakeProvider], forth: bool
):
    changes: dict[str, Any] = {}
    for name, server in reversed(fakes.items()):  # OpenAI's last: the others unset it
        changes |= settings_of(name, server)
    service = await start(**changes)
    conversation_id, order = None, list(NAMES) if forth else list(reversed(NAMES))
    calls = (("add", '{"a": 1, "b": 2}'), ("multiply", '{"a": 3, "b": 4}'))
    async with service.socket() as socket:
        for name in [*order, order[0]]:
            fakes[name].says(Reply(("Hm. ",), thought="So.", calls=calls), Reply((f"I am {name}.",)))
            fields = {"conversation_id": conversation_id} if conversation_id else {}
            frames = await socket.ask("Who are you?", model=f"{name}@fake-model", **fields)
            conversation_id = frames[0]["conversation_id"]
            assert text_of(frames) == f"Hm. I am {name}."
    judged = {name: [faults_by_sdk(name, body) for body in server.requests] for name, server in fakes.items()}
    assert {name: found for name, found in judged.items() if any(found)} == {}
    assert {name: server.refused for name, server in fakes.items() if server.refused} == {}
