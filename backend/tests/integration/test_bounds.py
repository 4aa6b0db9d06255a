"""A provider's answer is bounded in every direction, and a small fault in it does not fail it."""

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.adapters.outbound.llm_providers import bounds
from app.adapters.outbound.llm_providers.bounds import EVENTS, LINES, EventBuffer
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.adapters.outbound.llm_providers.think_tags import ThinkTags
from app.core.domain.errors import ProviderUnavailable
from app.core.domain.text import is_deeper_than, load_json, mend_json
from tests.client import Service, text_of
from tests.integration.conftest import Start
from tests.integration.test_openai_reader import Sink, endpoint

MIB = 1024 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A server that answers every request with `handler`, and counts them."""

    def __init__(self) -> None:
        self.handler: Handler = self._nothing
        self.asked = 0
        app = web.Application(client_max_size=64 * MIB)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._server = TestServer(app, host="127.0.0.1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def says(self, body: bytes, media_type: str = "text/event-stream", **headers: str) -> None:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(body=body, content_type=media_type, headers=headers)

        self.handler = handler

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            self.asked += 1
        return await self.handler(request)

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made._server.start_server()
    yield made
    await made._server.close()


def openai(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def anthropic(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


SETTINGS: dict[str, dict[str, Any]] = {
    "openai": {"default_model": "openai@scripted", "openai_api_key": "sk-test", "path": "/v1"},
    "anthropic": {"default_model": "anthropic@scripted", "anthropic_api_key": "sk-test", "path": ""},
    "gemini": {"default_model": "gemini@scripted", "gemini_api_key": "sk-test", "path": "/v1beta"},
}
PROVIDERS = list(SETTINGS)


async def started(start: Start, server: Server, provider: str = "openai", **changes: Any) -> Service:
    given = dict(SETTINGS[provider])
    return await start(**{f"{provider}_base_url": server.url + given.pop("path"), **given, **changes})


async def ask(service: Service, content: str = "Hi", **fields: Any) -> list[dict[str, Any]]:
    async with service.socket() as socket:
        return await socket.ask(content, **fields)


def endless(piece: bytes, first: bytes = b"") -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(first)
        while True:
            await response.write(piece)

    return handler


TEXT = "x" * 100_000
PIECES = {
    "openai": openai(delta(content=TEXT)),
    "anthropic": anthropic({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}),
    "gemini": openai({"candidates": [{"content": {"role": "model", "parts": [{"text": TEXT}]}}]}),
}
BEGINNINGS = {
    "openai": b"",
    "gemini": b"",
    "anthropic": anthropic(
        {
            "type": "message_start",
            "message": {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "scripted",
                "content": [],
                "usage": {"input_tokens": 1, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ),
}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_endless_answer_is_stopped_and_kept_as_partial(
    start: Start, server: Server, provider: str, monkeypatch: pytest.MonkeyPatch
):
    limits = replace(bounds.LIMITS, text=MIB)
    monkeypatch.setattr(bounds.AnswerMeter.__init__, "__defaults__", (limits,))
    server.handler = endless(PIECES[provider], BEGINNINGS[provider])
    service = await started(start, server, provider)
    frames = await ask(service)
    assert (frames[-1]["code"], frames[-1]["retryable"]) == ("provider_unavailable", False)
    assert "more than 1 MiB of text" in frames[-1]["message"]
    stored = (await service.history(frames[0]["conversation_id"]))[-1]
    assert stored["content"] == text_of(frames) == TEXT * 10
    assert stored["metadata"]["partial"]
    assert server.asked == 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("compressed", [False, True])
async def test_an_endless_line_is_stopped(start: Start, server: Server, provider: str, compressed: bool):
    body = b"data: {" + b" " * (64 * MIB)
    if compressed:
        server.says(gzip.compress(body), **{"Content-Encoding": "gzip"})
    else:
        server.says(body)
    service = await started(start, server, provider)
    frames = await ask(service)
    assert "more than 1 MiB" in frames[-1]["message"]
    assert server.asked == 1


async def test_too_many_calls_are_not_run(start: Start, server: Server):
    calls = [
        {"index": n, "id": f"c{n}", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
        for n in range(10_000)
    ]
    server.says(openai(*[delta(tool_calls=[call]) for call in calls], delta("tool_calls")))
    frames = await ask(await started(start, server))
    assert "more than 128 tool calls" in frames[-1]["message"]
    assert not [frame for frame in frames if frame["type"] == "tool_call"]


async def test_long_arguments_are_stopped(start: Start, server: Server):
    def fragment(text: str) -> dict[str, Any]:
        return {"index": 0, "id": "c", "type": "function", "function": {"name": "add", "arguments": text}}

    server.says(openai(*[delta(tool_calls=[fragment("9" * 500_000)]) for _ in range(9)], delta("tool_calls")))
    frames = await ask(await started(start, server))
    assert "more than 4 MiB of tool arguments" in frames[-1]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_the_relay_holds_no_endless_event(start: Start, server: Server, stream: bool):
    server.handler = endless(b"x" * 65_536, b"data: {" if stream else b"{")
    service = await started(start, server)
    body = {"model": "openai@scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    async with service.http() as http:
        answer = await http.post("/v1/chat/completions", json=body)
    assert "MiB, so the answer was stopped" in answer.text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_web_page_names_the_setting_to_check(start: Start, server: Server, provider: str):
    server.says(b"<!doctype html><title>Sign in</title>", "text/html")
    service = await started(start, server, provider, provider_retries=2)
    frames = await ask(service)
    assert "answered with text/html" in frames[-1]["message"]
    assert f"check {provider.upper()}_BASE_URL" in frames[-1]["message"]
    assert frames[-1]["retryable"] is False
    assert server.asked == 1
    (listed,) = [p for p in (await service.get("/api/models"))["providers"] if p["id"] == provider]
    assert f"check {provider.upper()}_BASE_URL" in listed["error"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_web_page_names_the_setting_to_programs(start: Start, server: Server, stream: bool):
    server.says(b"<!doctype html><title>Sign in</title>", "text/html")
    service = await started(start, server)
    body = {"model": "openai@scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    async with service.http() as http:
        answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 502
    assert "check OPENAI_BASE_URL" in answer.text


async def test_a_custom_provider_is_told_by_its_own_setting(start: Start, server: Server):
    server.says(b"<html></html>", "text/html")
    custom = [{"name": "lab", "base_url": f"{server.url}/v1"}]
    service = await start(default_model="lab@x", custom_providers=custom)
    assert "check the base_url of lab in CUSTOM_PROVIDERS" in (await ask(service))[-1]["message"]


def whole(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "x", "object": "chat.completion", "model": "scripted", "choices": [choice], "usage": usage}


async def test_an_answer_that_is_not_streamed_is_taken(start: Start, server: Server):
    server.says(json.dumps(whole(content="Good day.")).encode(), "application/json")
    service = await started(start, server)
    frames = await ask(service)
    assert text_of(frames) == "Good day."
    assert frames[-1]["usage"]["total_tokens"] == 5


async def test_calls_that_are_not_streamed_are_taken(start: Start, server: Server):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    answers = [whole(content=None, tool_calls=[call]), whole(content="3.")]

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answers.pop(0))

    server.handler = handler
    frames = await ask(await started(start, server))
    assert next(frame for frame in frames if frame["type"] == "tool_result")["content"] == "3"
    assert text_of(frames) == "3."


async def test_programs_get_a_stream_of_an_answer_that_is_none(start: Start, server: Server):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    server.says(json.dumps(whole(content="Hm.", tool_calls=[call])).encode(), "application/json")
    service = await started(start, server)
    body = {"model": "openai@scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with service.http() as http:
        lines = (await http.post("/v1/chat/completions", json=body)).text.split("\n\n")
    chunk = json.loads(lines[0].removeprefix("data: "))
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": "Hm.", "tool_calls": [{"index": 0, **call}]}
    assert "data: [DONE]" in lines


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("sent", "read"), [(rb"a\ud83db", "a\ufffdb"), (b"a\xffb", "a\ufffdb"), (rb"\ud83c\udfa8", "🎨")]
)
async def test_a_bad_character_does_not_fail_an_answer(
    start: Start, server: Server, provider: str, sent: bytes, read: str
):
    ends = {
        "openai": openai(delta("stop")),
        "anthropic": anthropic(
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ),
        "gemini": openai({"candidates": [{"content": {"role": "model", "parts": []}, "finishReason": "STOP"}]}),
    }
    piece = PIECES[provider].replace(TEXT.encode(), sent)
    server.says(BEGINNINGS[provider] + piece + ends[provider])
    service = await started(start, server, provider)
    frames = await ask(service)
    assert frames[-1]["type"] == "complete", frames[-1]
    assert text_of(frames) == read
    assert (await service.history(frames[0]["conversation_id"]))[-1]["content"] == read


async def test_a_bad_character_in_arguments_does_not_fail_the_call(start: Start, server: Server):
    def call(arguments: bytes) -> bytes:
        text = openai(
            delta(
                tool_calls=[
                    {"index": 0, "id": "c1", "type": "function", "function": {"name": "say", "arguments": "ARGUMENTS"}}
                ]
            )
        )
        return text.replace(b"ARGUMENTS", arguments) + openai(delta("tool_calls"))

    server.says(call(rb"{\"t\": \"a\\ud83db" + b"\xff" + rb"\"}"))
    service = await started(start, server)
    async with service.socket() as socket:
        await socket.send(type="message", content="Hi", client_tools=["say"])
        frame = await socket.until("tool_call", "error")
        assert frame["arguments"] == {"t": "a\ufffdb\ufffd"}
        await socket.send(type="cancel", run_id=frame["run_id"])
        await socket.until("cancelled")


@pytest.mark.parametrize("stream", [True, False])
async def test_programs_are_sent_readable_text(start: Start, server: Server, stream: bool):
    if stream:
        server.says(openai(delta(content="TEXT"), delta("stop")).replace(b"TEXT", b"a\xff\\ud83db"))
    else:
        server.says(json.dumps(whole(content="TEXT")).encode().replace(b"TEXT", b"a\xff\\ud83db"), "application/json")
    service = await started(start, server)
    body = {"model": "openai@scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    async with service.http() as http:
        answer = await http.post("/v1/chat/completions", json=body)
    answer.content.decode()
    assert rb"\ud83d" not in answer.content
    assert answer.status_code == 200


async def test_deep_arguments_are_an_error_for_the_model(start: Start, server: Server):
    deep = '{"a": ' * 3_000 + "1" + "}" * 3_000
    bodies = [
        openai(
            delta(
                tool_calls=[
                    {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": arguments}}
                    for arguments in [deep]
                ]
            ),
            delta("tool_calls"),
        ),
        openai(delta(content="Sorry."), delta("stop")),
    ]

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=bodies.pop(0), content_type="text/event-stream")

    server.handler = handler
    frames = await ask(await started(start, server))
    assert frames[-1]["type"] == "complete", frames[-1]
    (result,) = [frame for frame in frames if frame["type"] == "tool_result"]
    assert result["is_error"]
    assert "nested" in result["content"]
    assert text_of(frames) == "Sorry."


async def test_the_list_of_models_is_bounded(start: Start, server: Server):
    server.handler = endless(b" " * 65_536, b"{")
    service = await started(start, server)
    (listed,) = [p for p in (await service.get("/api/models"))["providers"] if p["id"] == "openai"]
    assert "MiB" in listed["error"]


@pytest.mark.parametrize("body", [b"[]", b'{"data": {}}', b'{"data": [1, {"id": 5, "pricing": [], "thinking": {}}]}'])
async def test_a_list_of_another_shape_does_no_harm(start: Start, server: Server, body: bytes):
    server.says(body, "application/json")
    service = await started(start, server)
    assert (await service.get("/api/models"))["items"]


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": 5},
        {"choices": [[]]},
        {"choices": [{"delta": [1]}]},
        {"choices": [{"delta": {"content": {"a": 1}}}]},
        {"choices": [{"delta": {"content": [7]}}]},
        {"choices": [{"delta": {"tool_calls": [3]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": [1]}}]}}]},
        {"choices": [{"delta": {"reasoning": 4}}]},
    ],
)
async def test_a_chunk_of_another_shape_is_a_provider_error(start: Start, server: Server, chunk: dict[str, Any]):
    server.says(openai(chunk, delta("stop")))
    frames = await ask(await started(start, server))
    assert (frames[-1]["type"], frames[-1]["code"]) == ("error", "provider_unavailable")


def test_an_unfinished_line_is_read_in_linear_time():
    """Quadratic reading of this line takes minutes."""
    reader = StreamReader(Sink(), endpoint(), "scripted")
    line = openai(delta(content="x" * 900_000))
    for start in range(len(line)):
        reader.feed(line[start : start + 1])
    assert reader.events == 1


@pytest.mark.parametrize("ends", [LINES, EVENTS])
def test_events_are_cut_at_any_place(ends: tuple[bytes, ...]):
    stream = b"data: a\n\ndata: b\r\n\r\ndata: c\n\nrest"
    for step in range(1, len(stream)):
        buffer = EventBuffer("It", ends=ends)
        taken = [buffer.feed(stream[at : at + step]) for at in range(0, len(stream), step)]
        assert b"".join(taken) == stream.removesuffix(b"rest")
        assert all(piece.endswith(ends) for piece in taken if piece)
        assert buffer.rest() == b"rest"


def test_an_event_buffer_is_bounded():
    buffer = EventBuffer("It", ends=EVENTS, limit=10)
    buffer.feed(b"x" * 10)
    with pytest.raises(ProviderUnavailable):
        buffer.feed(b"x")


@pytest.mark.parametrize(
    ("sent", "mended"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\udfa8\ud83d"', rb'"\ufffd\ufffd"'),
        (rb'"\ud83c\udfa8"', rb'"\ud83c\udfa8"'),
        (rb'"\ud83d\ud83c\udfa8"', rb'"\ufffd\ud83c\udfa8"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (b'"\xf0\x9f"', '"\ufffd"'.encode()),
    ],
)
def test_json_is_mended(sent: bytes, mended: bytes):
    assert mend_json(sent) == mended
    assert load_json(sent) == json.loads(mended)


def test_depth_is_measured_without_recursion():
    deep: list[Any] = []
    for _ in range(64):
        deep = [deep]
    assert not is_deeper_than(deep, 65)
    assert is_deeper_than(deep, 63)
    assert is_deeper_than({"a": [{"b": []}]}, 2)
    assert not is_deeper_than({"a": 1}, 1)


async def test_a_stopped_answer_leaves_the_conversation_usable(start: Start, server: Server):
    server.handler = endless(b"x" * 65_536, b"data: ")
    service = await started(start, server)
    frames = await ask(service)
    server.says(openai(delta(content="Fine."), delta("stop")))
    again = await ask(service, "Again", conversation_id=frames[0]["conversation_id"])
    assert text_of(again) == "Fine."


def test_blank_text_is_not_held_back_for_ever():
    tags = ThinkTags()
    pieces = [text for _ in range(2_000) for _, text in tags.split(" ")]
    assert "".join([*pieces, *(text for _, text in tags.rest())]) == " " * 2_000
    tags = ThinkTags()
    list(tags.split("<think>a</think>"))
    for _ in range(100):
        assert list(tags.split("\n")) == []
    assert tags._held == ""  # pyright: ignore[reportPrivateUsage]
    assert list(tags.split("b")) == [(False, "b")]
