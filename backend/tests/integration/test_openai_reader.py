"""The lean reader gives, message for message, what langchain-openai makes of the same stream over a real connection."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, message_chunk_to_message
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient

from app.adapters.outbound.llm_providers.endpoint import Endpoint, HttpPool, TimeLimits
from app.adapters.outbound.llm_providers.openai_provider import OpenAIChatModel, OpenAIProvider
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.adapters.outbound.llm_providers.providers import PROVIDERS
from app.core.domain.errors import AtelierError, ProviderTimeout, ProviderUnavailable
from app.core.ports import ModelFacts
from app.langgraph.tools import MATH_TOOLS
from tests.upstream import Answer, Upstream


class Sink:
    """Keeps pieces as they come."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.thought: list[str] = []

    def text(self, piece: str) -> None:
        self.said.append(piece)

    def reasoning(self, piece: str) -> None:
        self.thought.append(piece)

    def restart(self, model: str) -> None:
        self.said.clear()
        self.thought.clear()


def endpoint(url: str = "", pool: HttpPool | None = None, timeout: float = 5) -> Endpoint:
    return Endpoint(
        provider=replace(PROVIDERS["openai"], title="The provider"),
        base_url=url,
        is_own=False,
        secret="sk-test-key",
        pool=pool or HttpPool(),
        limits=TimeLimits(first=timeout, between=timeout),
    )


@asynccontextmanager
async def models(upstream: Upstream, timeout: float = 5) -> AsyncIterator[tuple[OpenAIChatModel, ChatOpenAI]]:
    pool = HttpPool()
    lean = OpenAIChatModel.connect("scripted", endpoint(upstream.url, pool, timeout), ModelFacts())
    client = DefaultAsyncHttpxClient()  # langchain-openai would share one among all models of an address
    theirs = ChatOpenAI(
        model="scripted",
        base_url=upstream.url,
        api_key="sk-test-key",  # pyright: ignore
        max_retries=0,
        stream_usage=True,
        http_async_client=client,
    )
    try:
        yield lean, theirs
    finally:
        await pool.close()
        await client.aclose()


@asynccontextmanager
async def running() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.stop()


async def both(body: bytes) -> tuple[AIMessage, AIMessage, Sink]:
    """What the two make of one stream."""

    async def write(answer: Answer) -> None:
        await answer.raw(body)

    sink = Sink()
    async with running() as upstream, models(upstream) as (lean, theirs):
        upstream.script(write, write)
        ours = await lean.read([HumanMessage("Hi")], sink)
        whole: AIMessageChunk | None = None
        async for chunk in theirs.astream([HumanMessage("Hi")]):
            assert isinstance(chunk, AIMessageChunk)
            whole = chunk if whole is None else whole + chunk  # pyright: ignore
        assert whole is not None
        message = message_chunk_to_message(whole)
        assert isinstance(message, AIMessage)
        first, second = upstream.requests
        assert first == second
        return ours, message, sink


def same(ours: AIMessage, theirs: AIMessage) -> None:
    assert ours.content == theirs.content
    assert ours.tool_calls == theirs.tool_calls
    assert ours.invalid_tool_calls == theirs.invalid_tool_calls
    assert ours.usage_metadata == theirs.usage_metadata
    assert ours.response_metadata == theirs.response_metadata
    kept = {key: value for key, value in theirs.additional_kwargs.items() if key != "tool_calls"}
    assert {k: v for k, v in ours.additional_kwargs.items() if k != "reasoning_content"} == kept


def body_of(chunks: list[dict[str, Any]], *, done: bool = True, newline: str = "\n") -> bytes:
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}{newline}{newline}" for chunk in chunks]
    return "".join([*lines, f"data: [DONE]{newline}{newline}" if done else ""]).encode()


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted-0613", **more}
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
    return {**base, "choices": choices}


def fragment(index: int, arguments: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments} | ({"name": name} if name else {})
    head = {"id": call_id, "type": "function"} if call_id else {}
    return chunk({"tool_calls": [{"index": index, **head, "function": function}]})


USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
RECORDED = {
    "openai text": [
        chunk({"role": "assistant", "content": "", "refusal": None}, system_fingerprint="fp_1", service_tier="default"),
        *[
            chunk({"content": piece}, system_fingerprint="fp_1", service_tier="default")
            for piece in ("Hel", "lo", " 👋🏽", "\n")
        ],
        chunk({}, "stop", system_fingerprint="fp_1", service_tier="default"),
        chunk(None, usage=USAGE, service_tier="default"),
    ],
    "openai parallel calls": [
        chunk({"role": "assistant", "content": None}),
        fragment(0, "", "call_a", "multiply"),
        *[fragment(0, piece) for piece in ('{"a"', ": 12, ", '"b": 34}')],
        fragment(1, "", "call_b", "add"),
        *[fragment(1, piece) for piece in ('{"a": 1', ', "b": 2}')],
        chunk({}, "tool_calls"),
        chunk(None, usage=USAGE),
    ],
    "usage in the last delta": [chunk({"content": "Hi"}), chunk({"content": ""}, "stop", usage=USAGE)],
    "cut by length": [chunk({"content": "Once upon"}), chunk({}, "length")],
    "calls without arguments": [fragment(0, "{}", "call_a", "now"), chunk({}, "tool_calls")],
    "text before calls": [
        chunk({"content": "Let me see."}),
        fragment(0, '{"a": 1, "b": 2}', "c", "add"),
        chunk({}, "tool_calls"),
    ],
    "nothing at all": [chunk({"role": "assistant", "content": ""}), chunk({}, "stop")],
}


@pytest.mark.parametrize("name", RECORDED)
async def test_recorded_streams_are_read_alike(name: str):
    ours, theirs, sink = await both(body_of(RECORDED[name]))
    same(ours, theirs)
    assert "".join(sink.said) == ours.content


pieces = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
arguments = st.dictionaries(
    st.text("ab", min_size=1, max_size=2),
    st.integers().filter(lambda n: abs(n) < 2**53) | pieces | st.booleans() | st.none(),
    max_size=3,
)


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    chunks = [chunk({"role": "assistant", "content": draw(st.sampled_from(["", None]))})]
    chunks += [chunk({"content": piece}) for piece in draw(st.lists(pieces, max_size=6))]
    wanted = draw(st.lists(st.tuples(st.sampled_from(["add", "multiply"]), arguments), max_size=3))
    for index, (name, args) in enumerate(wanted):
        text = json.dumps(args)
        cut = draw(st.integers(0, len(text)))
        chunks += [fragment(index, "", f"call_{index}", name), fragment(index, text[:cut]), fragment(index, text[cut:])]
    chunks.append(chunk({}, draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))))
    if draw(st.booleans()):
        chunks.append(chunk(None, usage=USAGE))
    return chunks


@given(streams())
@settings(max_examples=40)
async def test_generated_streams_are_read_alike(chunks: list[dict[str, Any]]):
    ours, theirs, sink = await both(body_of(chunks))
    same(ours, theirs)
    assert "".join(sink.said) == ours.content


@given(streams(), st.lists(st.integers(0, 5_000), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_where_a_read_ends_changes_nothing(chunks: list[dict[str, Any]], cuts: list[int], newline: str):
    body = b": a comment\n\nevent: x\nid: 1\n" + body_of(chunks, newline=newline)
    whole, parts = Sink(), Sink()
    expected, found = StreamReader(whole, endpoint(), "scripted"), StreamReader(parts, endpoint(), "scripted")
    expected.feed(body)
    edges = sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    for start, end in pairwise(edges):
        found.feed(body[start:end])
    expected.close()
    found.close()
    ours, theirs = found.message(), expected.message()
    assert ours == theirs
    assert "".join(parts.said) == "".join(whole.said) == ours.content


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_goes_its_own_way(field: str):
    sink = Sink()
    reader = StreamReader(sink, endpoint(), "scripted")
    reader.feed(body_of([chunk({field: "Hm, "}), chunk({field: "12"}), chunk({"content": "12"}), chunk({}, "stop")]))
    message = reader.message()
    assert ("".join(sink.thought), "".join(sink.said)) == ("Hm, 12", "12")
    assert message.additional_kwargs["reasoning_content"] == "Hm, 12"
    assert message.content == "12"


def test_a_refusal_is_what_the_model_says():
    sink = Sink()
    reader = StreamReader(sink, endpoint(), "scripted")
    reader.feed(body_of([chunk({"refusal": "I can't"}), chunk({"refusal": " do that."}), chunk({}, "stop")]))
    assert reader.message().content == "".join(sink.said) == "I can't do that."


@pytest.mark.parametrize(
    ("fragments", "calls", "invalid"),
    [
        # Some servers leave the index away, others the id; some send a call in one piece, or the name twice.
        (
            [
                {"id": "a", "function": {"name": "add", "arguments": '{"a": 1}'}},
                {"id": "b", "function": {"name": "add", "arguments": "{}"}},
            ],
            [("add", {"a": 1}), ("add", {})],
            0,
        ),
        (
            [
                {"index": 0, "function": {"name": "add", "arguments": '{"a"'}},
                {"index": 0, "function": {"arguments": ": 1}"}},
            ],
            [("add", {"a": 1})],
            0,
        ),
        (
            [
                {"index": 0, "id": "a", "function": {"name": "add", "arguments": "{"}},
                {"index": 0, "id": "b", "function": {"name": "add", "arguments": "{}"}},
            ],
            [("add", {})],
            1,
        ),
        ([{"index": 0, "id": "a", "function": {"name": "add", "arguments": "[1]"}}], [], 1),
        ([{"index": 0, "id": "a", "function": {"name": "add"}}], [("add", {})], 0),
    ],
)
async def test_the_calls_of_other_servers_are_understood(
    fragments: list[dict[str, Any]], calls: list[Any], invalid: int
):
    reader = StreamReader(Sink(), endpoint(), "scripted")
    for part in fragments:
        reader.feed(body_of([chunk({"tool_calls": [part]})], done=False))
    reader.feed(body_of([chunk({}, "tool_calls")]))
    message = reader.message()
    assert [(call["name"], call["args"]) for call in message.tool_calls] == calls
    assert len(message.invalid_tool_calls) == invalid
    ids = [call["id"] for call in [*message.tool_calls, *message.invalid_tool_calls]]
    assert all(ids)
    assert len(set(ids)) == len(ids)


async def asking(upstream: Upstream, timeout: float = 5) -> AIMessage:
    async with models(upstream, timeout) as (lean, _):
        return await OpenAIProvider(lean, MATH_TOOLS).stream([HumanMessage("Hi")], Sink())


async def test_tools_and_key_are_sent(upstream: Upstream):
    await asking(upstream)
    [request], [headers] = upstream.requests, upstream.headers
    assert [tool["function"]["name"] for tool in request["tools"]] == ["multiply", "add", "subtract", "divide"]
    assert (request["model"], request["stream"], request["stream_options"]) == (
        "scripted",
        True,
        {"include_usage": True},
    )
    assert headers["Authorization"] == "Bearer sk-test-key"


async def test_a_connection_is_used_again(upstream: Upstream):
    async with models(upstream) as (lean, _):
        for _ in range(3):
            await lean.read([HumanMessage("Hi")], Sink())
        connector = lean._endpoint.pool.session().connector
        assert connector is not None
        assert len(connector._conns) == 1  # pyright: ignore


@pytest.mark.parametrize(
    ("status", "error", "code", "said"),
    [
        (401, {"message": "Incorrect API key provided: sk-test-key"}, "provider_not_configured", "OPENAI_API_KEY"),
        (403, {"message": "no"}, "provider_rejected", "It said: no"),
        (404, {"message": "The model does not exist", "code": "model_not_found"}, "unknown_model", "'scripted'"),
        (400, {"message": "too long", "code": "context_length_exceeded"}, "context_too_long", "CONTEXT_TOKENS"),
        (413, {"message": "too large"}, "context_too_long", "CONTEXT_TOKENS"),
        (429, {"message": "slow down"}, "provider_rate_limited", "in 7 seconds"),
        (400, {"message": "bad sk-test-key"}, "provider_rejected", "bad …"),
        (422, {"message": "bad"}, "provider_rejected", "It said: bad"),
        (500, {"message": "oops"}, "provider_unavailable", "HTTP 500"),
        (503, None, "provider_unavailable", "HTTP 503"),
    ],
)
async def test_a_refusal_is_told_in_words(
    upstream: Upstream, status: int, error: dict[str, Any] | None, code: str, said: str
):
    upstream.refuses(status, error, **{"Retry-After": "7"})
    with pytest.raises(AtelierError) as failure:
        await asking(upstream)
    assert failure.value.code == code
    assert said in failure.value.message
    assert "sk-test-key" not in failure.value.message
    assert failure.value.retry_after == (7 if status == 429 or status >= 500 else None)


async def test_an_answer_that_is_cut_short_is_no_answer(upstream: Upstream):
    async def cut(answer: Answer) -> None:
        await answer.delta(content="Hel")
        answer.cut()

    async def stop(answer: Answer) -> None:
        await answer.delta(content="Hel")

    for script in (cut, stop):
        upstream.script(script)
        with pytest.raises(ProviderUnavailable, match="cut its answer short"):
            await asking(upstream)


async def test_an_error_in_the_stream_is_told(upstream: Upstream):
    async def fail(answer: Answer) -> None:
        await answer.delta(content="Hel")
        await answer.event(error={"message": "overloaded, key sk-test-key"})

    upstream.script(fail)
    with pytest.raises(ProviderUnavailable, match="overloaded, key …"):
        await asking(upstream)


async def test_what_is_no_json_is_told(upstream: Upstream):
    upstream.script(lambda answer: answer.raw(b"data: <html>\n\n"))
    with pytest.raises(ProviderUnavailable, match="not JSON"):
        await asking(upstream)


async def test_silence_has_an_end(upstream: Upstream):
    import asyncio

    async def silence(answer: Answer) -> None:
        await answer.delta(content="Hel")
        await asyncio.Event().wait()

    upstream.script(silence)
    with pytest.raises(ProviderTimeout):
        await asking(upstream, timeout=0.2)


async def test_a_server_that_is_not_there_is_told(upstream: Upstream):
    await upstream.stop()
    with pytest.raises(ProviderUnavailable, match="cannot be reached"):
        await asking(upstream)


async def test_ainvoke_reads_the_same(upstream: Upstream):
    upstream.calls(("call_1", "multiply", '{"a": 12, "b": 34}'))
    async with models(upstream) as (lean, _):
        message = await OpenAIProvider(lean, MATH_TOOLS).model.ainvoke([HumanMessage("Hi")])
    assert message.tool_calls == [{"id": "call_1", "name": "multiply", "args": {"a": 12, "b": 34}, "type": "tool_call"}]
