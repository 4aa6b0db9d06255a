"""Tool results that are larger than the context: sent shortened, stored and told whole."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from app.core.services.context import MIN_RESULT_TOKENS, result_allowances, shortened, text_tokens
from app.langgraph.fit import fit_results
from tests.client import text_of
from tests.integration.conftest import Start
from tests.upstream import Upstream

SIZE = 400_000


async def test_large_results_are_sent_shortened_and_kept_whole(start: Start, upstream: Upstream):
    service = await start(context_tokens=4_000)
    calls = [(f"call_{n}", "read", "{}") for n in range(6)]
    upstream.calls(*calls)
    upstream.says("Read.")
    upstream.says("Again.")
    async with service.socket() as socket:
        await socket.send(type="message", content="Read them", client_tools=["read"])
        for n, (call_id, _, _) in enumerate(calls):
            call = await socket.until("tool_call", where=lambda frame, wanted=call_id: frame["tool_call_id"] == wanted)
            text = f"begin {n} " + "x" * SIZE + f" end {n}"
            await socket.send(type="tool_result", run_id=call["run_id"], tool_call_id=call_id, result=text)
        ended = await socket.until("complete", "error")
        assert ended["type"] == "complete"
        told = [frame["content"] for frame in socket.frames if frame["type"] == "tool_result"]
        assert all(len(content) > SIZE for content in told)
        again = await socket.ask("Once more", conversation_id=ended["conversation_id"])
        assert text_of(again) == "Again."
    for request in upstream.requests[1:]:
        results = [message for message in request["messages"] if message["role"] == "tool"]
        assert sum(len(str(message["content"])) for message in request["messages"]) < 4 * 4_000
        assert all("are left out here" in message["content"] for message in results)
        assert len(results) in (0, 6)
    assert [m["content"][:7] for m in upstream.requests[1]["messages"] if m["role"] == "tool"] == [
        f"begin {n}" for n in range(6)
    ]
    stored = [m for m in await service.history(ended["conversation_id"]) if m["role"] == "tool"]
    assert [len(message["content"]) > SIZE for message in stored] == [True] * 6


@given(st.lists(st.integers(0, 50_000), max_size=8), st.integers(0, 20_000), st.integers(500, 50_000))
def test_results_fit_as_far_as_they_can(results: list[int], others: int, budget: int):
    allowed = result_allowances(results, others, budget)
    assert all(min(size, MIN_RESULT_TOKENS) <= given <= size for given, size in zip(allowed, results, strict=True))
    smallest = sum(min(size, MIN_RESULT_TOKENS) for size in results)
    assert others + sum(allowed) <= max(budget, others + smallest)
    if others + sum(results) <= budget and all(size <= budget // 4 for size in results):
        assert allowed == results


@given(st.text(max_size=3_000), st.integers(100, 1_000))
def test_shortened_text_is_not_longer(text: str, tokens: int):
    made = shortened(text, tokens)
    assert made == text or text_tokens(made) <= tokens + 60


def test_a_conversation_without_large_results_is_left_as_it_is():
    messages: list[Any] = [
        HumanMessage("Hi"),
        AIMessage("", tool_calls=[{"id": "1", "name": "add", "args": {}, "type": "tool_call"}]),
        ToolMessage("3", tool_call_id="1"),
    ]
    fitted = fit_results(messages, 1_000)
    assert all(new is old for new, old in zip(fitted, messages, strict=True))
    assert fit_results(messages, None) == messages


def test_parts_of_a_result_are_shortened_each():
    parts: Any = [{"type": "text", "text": "x" * 100_000}, {"type": "image_url", "image_url": {"url": "data:"}}]
    _, result = fit_results([HumanMessage("Hi"), ToolMessage(parts, tool_call_id="1")], 1_000)
    text, image = result.content
    assert isinstance(text, dict)
    assert len(text["text"]) < 2_000
    assert image == parts[1]
