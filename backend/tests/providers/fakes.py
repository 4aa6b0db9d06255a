"""Model servers that speak as the providers do, on a real port: they say what a test tells them, and refuse what theirs refuse."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.providers.rules import faults

KEY = "sk-fake-key-0123456789"


@dataclass
class Reply:
    """What a model answers, whatever its wire.

    Attributes:
        calls: name and arguments as JSON text of each tool call.
        cut: break the connection before the end.
        status: refuse with this instead.
        gate: wait for it after the first piece.
        in_stream: an error in the middle of the stream.
    """

    pieces: tuple[str, ...] = ()
    thought: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    in_stream: str = ""
    usage: tuple[int, int] = (11, 7)


class FakeProvider:
    """One provider's server. `replies` are said one after the other; what was asked is in `requests`."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.replies: list[Reply] = []
        self.requests: list[dict[str, Any]] = []
        self.refused: list[list[str]] = []
        self.issued: set[str] = set()
        self.models: Any = {"data": [{"id": "fake-model"}]}
        self.pages: dict[str, Any] = {}
        self.url = ""
        self.left = asyncio.Event()
        self.message = "the test says so"
        self._count = 0
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/messages", self._guarded(self._anthropic))
        app.router.add_post("/v1beta/models/{call}", self._guarded(self._gemini))
        app.router.add_post("/v1/responses", self._guarded(self._responses))
        app.router.add_post("/v1/chat/completions", self._guarded(self._openai))
        app.router.add_post("/api/paas/v4/chat/completions", self._guarded(self._openai))
        for path in ("/v1/models", "/v1beta/models", "/api/paas/v4/models", "/api/tags"):
            app.router.add_get(path, self._list)
        self._server = TestServer(app, host="127.0.0.1")

    async def start(self) -> None:
        await self._server.start_server()
        prefix = {"anthropic": "", "ollama": "", "gemini": "/v1beta", "bigmodel": "/api/paas/v4"}.get(
            self.provider, "/v1"
        )
        self.url = f"http://127.0.0.1:{self._server.port}{prefix}"

    async def stop(self) -> None:
        await self._server.close()

    def says(self, *replies: Reply) -> None:
        """What to say next, in order."""
        self.replies.extend(replies)

    async def _list(self, request: web.Request) -> web.Response:
        place = request.query.get("after_id") or request.query.get("pageToken") or ""
        return web.json_response(self.pages.get(place, self.models))

    def _guarded(self, answer: Callable[..., Awaitable[Any]]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            key = request.headers.get("x-api-key") or request.headers.get("x-goog-api-key")
            key = key or request.headers.get("Authorization", "").removeprefix("Bearer ")
            if key != KEY and self.provider != "ollama":
                return self._error(401, f"Incorrect API key provided: {key[:8]}…{key[-4:]}.")
            body = await request.json()
            self.requests.append(body)
            if found := faults(self.provider, body, frozenset(self.issued)):
                self.refused.append(found)
                return self._error(400, found[0])
            reply = self.replies.pop(0) if self.replies else Reply(("Hello from ", self.provider, "."))
            if reply.status != 200:
                return self._error(reply.status, self.message, reply.headers)
            if not (body.get("stream") or self.provider in ("anthropic", "gemini")):
                return web.json_response(self._whole(reply, body))
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            try:
                await answer(reply, response, body)
                if reply.cut:
                    assert request.transport is not None
                    request.transport.abort()
            except (ConnectionError, asyncio.CancelledError):
                self.left.set()
                raise
            return response

        return handle

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
        body: Any
        match self.provider:
            case "anthropic":
                kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
                body = {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}
            case "gemini":
                words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED"}
                body = {"error": {"code": status, "message": message, "status": words.get(status, "INTERNAL")}}
            case "mistral" if status == 400:
                body = {"object": "error", "message": message, "type": "invalid_request_error", "code": "3230"}
            case "bigmodel":
                body = {"error": {"code": "1210", "message": message}}
            case "openrouter":
                body = {"error": {"code": status, "message": message, "metadata": {"provider_name": "x"}}}
            case _:
                body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
        return web.json_response(body, status=status, headers=headers)

    def _issue(self, prefix: str) -> str:
        self._count += 1
        signature = base64.b64encode(f"{prefix}-{self._count}".encode()).decode()
        self.issued.add(signature)
        return signature

    def _call_id(self) -> str:
        self._count += 1
        match self.provider:
            case "mistral":
                return f"{self._count:09d}"
            case "moonshot":
                return f"functions.tool:{self._count}"
            case "anthropic":
                return f"toolu_{self._count:04d}"
            case _:
                return f"call_{self.provider}_{self._count}"

    # --- OpenAI's wire

    def _whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        calls = [
            {"id": self._call_id(), "type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in reply.calls
        ]
        message = {"role": "assistant", "content": "".join(reply.pieces) or None, "tool_calls": calls or None}
        reason = "tool_calls" if calls else "stop"
        usage = dict(zip(("prompt_tokens", "completion_tokens"), reply.usage, strict=True))
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {**usage, "total_tokens": sum(reply.usage)},
        }

    async def _openai(self, reply: Reply, response: web.StreamResponse, body: dict[str, Any]) -> None:
        usage = dict(zip(("prompt_tokens", "completion_tokens"), reply.usage, strict=True))
        usage["total_tokens"] = sum(reply.usage)
        asked = (body.get("stream_options") or {}).get("include_usage") or self.provider in ("mistral", "bigmodel")

        async def event(**chunk: Any) -> None:
            head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
            await response.write(b"data: " + orjson.dumps({**head, **chunk}) + b"\n\n")

        async def delta(finish_reason: str | None = None, **fields: Any) -> None:
            await event(choices=[{"index": 0, "delta": fields, "finish_reason": finish_reason}])

        if self.provider == "openrouter":
            await response.write(b": OPENROUTER PROCESSING\n\n")
        await delta(role="assistant", content="")
        if reply.thought:
            name = "reasoning" if self.provider == "openrouter" else "reasoning_content"
            await delta(**{name: reply.thought})
            if self.provider == "openrouter":
                detail = {"type": "reasoning.encrypted", "index": 0, "data": self._issue("r")}
                await delta(reasoning_details=[detail])
        for number, piece in enumerate(reply.pieces):
            await delta(content=piece)
            if number == 0 and reply.gate is not None:
                await reply.gate.wait()
        if reply.in_stream:
            await event(error={"code": 502, "message": reply.in_stream}, choices=[])
            return
        if reply.cut:
            return
        for index, (name, arguments) in enumerate(reply.calls):
            head = {"index": index, "id": self._call_id(), "type": "function"}
            whole = self.provider in ("mistral", "ollama", "bigmodel")
            first = arguments if whole else ""
            await delta(tool_calls=[{**head, "function": {"name": name, "arguments": first}}])
            step = max(7, len(arguments) // 500)
            for start in range(0, 0 if whole else len(arguments), step):
                fragment = {"index": index, "function": {"arguments": arguments[start : start + step]}}
                await delta(tool_calls=[fragment])
        reason = "tool_calls" if reply.calls else "stop"
        if asked and self.provider in ("mistral", "bigmodel"):
            await event(choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": reason}], usage=usage)
        else:
            await delta(finish_reason=reason)
            if asked:
                await event(choices=[], usage=usage)
        await response.write(b"data: [DONE]\n\n")

    # --- OpenAI's Responses API

    async def _responses(self, reply: Reply, response: web.StreamResponse, body: dict[str, Any]) -> None:
        number = 0
        output: list[dict[str, Any]] = []
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": body["model"], "output": []}

        async def event(kind: str, **fields: Any) -> None:
            nonlocal number
            data = orjson.dumps({"type": kind, "sequence_number": number, **fields}).decode()
            number += 1
            await response.write(f"event: {kind}\ndata: {data}\n\n".encode())

        async def item(begun: dict[str, Any], whole: dict[str, Any], *deltas: tuple[str, dict[str, Any]]) -> None:
            place = {"output_index": len(output)}
            await event("response.output_item.added", item=begun, **place)
            for count, (kind, fields) in enumerate(deltas):
                await event(kind, item_id=begun["id"], **place, **fields)
                if count == 0 and reply.gate is not None and begun["type"] == "message":
                    await reply.gate.wait()
            if not (begun["type"] == "message" and (reply.cut or reply.in_stream)):
                await event("response.output_item.done", item=whole, **place)
                output.append(whole)

        await event("response.created", response={**head, "status": "in_progress"})
        await event("response.in_progress", response={**head, "status": "in_progress"})
        if reply.thought:
            begun = {"id": "rs_1", "type": "reasoning", "summary": []}
            summary = [{"type": "summary_text", "text": reply.thought}]
            delta = {"summary_index": 0, "delta": reply.thought}
            whole = {**begun, "summary": summary, "encrypted_content": self._issue("e")}
            await item(begun, whole, ("response.reasoning_summary_text.delta", delta))
        if reply.pieces:
            begun = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
            text = {"type": "output_text", "text": "".join(reply.pieces), "annotations": []}
            whole = {**begun, "status": "completed", "content": [text]}
            deltas = [{"content_index": 0, "delta": piece, "logprobs": []} for piece in reply.pieces]
            await item(begun, whole, *(("response.output_text.delta", delta) for delta in deltas))
        if reply.in_stream:
            await event("error", code="server_error", message=reply.in_stream, param=None)
            return
        if reply.cut:
            return
        for name, arguments in reply.calls:
            call_id = self._call_id()
            begun = {"id": f"fc_{call_id}", "type": "function_call", "call_id": call_id, "name": name, "arguments": ""}
            step = max(7, len(arguments) // 500)
            fragments = [arguments[start : start + step] for start in range(0, len(arguments), step)]
            deltas = (("response.function_call_arguments.delta", {"delta": fragment}) for fragment in fragments)
            await item(begun, {**begun, "arguments": arguments, "status": "completed"}, *deltas)
        usage = {
            "input_tokens": reply.usage[0],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": reply.usage[1],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sum(reply.usage),
        }
        await event("response.completed", response={**head, "status": "completed", "output": output, "usage": usage})

    # --- Anthropic's wire

    async def _anthropic(self, reply: Reply, response: web.StreamResponse, body: dict[str, Any]) -> None:
        async def event(kind: str, **fields: Any) -> None:
            data = orjson.dumps({"type": kind, **fields}).decode()
            await response.write(f"event: {kind}\ndata: {data}\n\n".encode())

        index = 0

        async def block(content: dict[str, Any], *deltas: dict[str, Any]) -> None:
            nonlocal index
            await event("content_block_start", index=index, content_block=content)
            for number, delta in enumerate(deltas):
                await event("content_block_delta", index=index, delta=delta)
                if number == 0 and reply.gate is not None and content["type"] == "text":
                    await reply.gate.wait()
            await event("content_block_stop", index=index)
            index += 1

        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": reply.usage[0], "output_tokens": 1},
        }
        await event("message_start", message=message)
        await event("ping")
        if reply.thought:
            await block(
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": reply.thought},
                {"type": "signature_delta", "signature": self._issue("a")},
            )
        if reply.pieces:
            await block({"type": "text", "text": ""}, *({"type": "text_delta", "text": p} for p in reply.pieces))
        if reply.in_stream:
            await event("error", error={"type": "overloaded_error", "message": reply.in_stream})
            return
        if reply.cut:
            return
        for name, arguments in reply.calls:
            step = max(7, len(arguments) // 500)
            fragments = [arguments[start : start + step] for start in range(0, len(arguments), step)]
            await block(
                {"type": "tool_use", "id": self._call_id(), "name": name, "input": {}},
                *({"type": "input_json_delta", "partial_json": fragment} for fragment in fragments),
            )
        reason = "tool_use" if reply.calls else "end_turn"
        usage = {"input_tokens": reply.usage[0], "output_tokens": reply.usage[1]}
        await event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
        await event("message_stop")

    # --- Gemini's wire

    async def _gemini(self, reply: Reply, response: web.StreamResponse, body: dict[str, Any]) -> None:
        usage = dict(zip(("promptTokenCount", "candidatesTokenCount"), reply.usage, strict=True))
        usage["totalTokenCount"] = sum(reply.usage)

        async def event(parts: list[dict[str, Any]], **more: Any) -> None:
            candidate = {"content": {"parts": parts, "role": "model"}, "index": 0, **more}
            data = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake-model"}
            await response.write(b"data: " + orjson.dumps(data) + b"\r\n\r\n")

        if reply.thought:
            await event([{"text": reply.thought, "thought": True}])
        for number, piece in enumerate(reply.pieces):
            await event([{"text": piece}])
            if number == 0 and reply.gate is not None:
                await reply.gate.wait()
        if reply.in_stream:
            error = {"code": 503, "message": reply.in_stream, "status": "UNAVAILABLE"}
            await response.write(b"data: " + orjson.dumps({"error": error}) + b"\r\n\r\n")
            return
        if reply.cut:
            return
        parts: list[dict[str, Any]] = [
            {"functionCall": {"id": self._call_id(), "name": name, "args": orjson.loads(arguments)}}
            for name, arguments in reply.calls
        ]
        if parts:
            parts[0]["thoughtSignature"] = self._issue("g")
        await event(parts or [{"text": ""}], finishReason="STOP")
