"""A model server for tests: speaks OpenAI's wire on a real port, says what a test tells it to, and remembers what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

Script = Callable[["Answer"], Awaitable[None]]


class Answer:
    """One answer, while a script writes it."""

    def __init__(self, request: web.Request, body: dict[str, Any]) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self.body = body

    @property
    def last(self) -> dict[str, Any]:
        """The last message of the request."""
        return self.body["messages"][-1]

    async def raw(self, data: bytes) -> None:
        """Bytes, as they are."""
        if self._response is None:
            self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await self._response.prepare(self._request)
        await self._response.write(data)

    async def event(self, **chunk: Any) -> None:
        """One event."""
        await self.raw(b"data: " + orjson.dumps({"id": "chatcmpl-1", "model": "scripted", **chunk}) + b"\n\n")

    async def delta(self, *, finish_reason: str | None = None, **delta: Any) -> None:
        """One event with a delta."""
        await self.event(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    async def done(self, finish_reason: str = "stop", *, usage: tuple[int, int] | None = (10, 5)) -> None:
        """The end, as OpenAI writes it."""
        await self.delta(finish_reason=finish_reason)
        if usage:
            numbers = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
            await self.event(choices=[], usage=numbers)
        await self.raw(b"data: [DONE]\n\n")

    async def say(self, *pieces: str) -> None:
        """A whole answer of text."""
        for piece in pieces:
            await self.delta(content=piece)
        await self.done()

    async def call(self, *calls: tuple[str, str, str]) -> None:
        """A whole answer of tool calls: id, name, arguments as JSON text."""
        for index, (call_id, name, arguments) in enumerate(calls):
            await self.delta(
                tool_calls=[
                    {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
                ]
            )
            for start in range(0, len(arguments), 7):
                fragment = arguments[start : start + 7]
                await self.delta(tool_calls=[{"index": index, "function": {"arguments": fragment}}])
        await self.done("tool_calls")

    async def refuse(self, status: int, error: dict[str, Any] | None = None, **headers: str) -> None:
        """An HTTP error."""
        self._response = web.json_response({"error": error or {"message": "no"}}, status=status, headers=headers)

    def cut(self) -> None:
        """Break the connection."""
        assert self._request.transport is not None
        self._request.transport.abort()


def paused(gate: asyncio.Event, first: str = "One ", last: str = "two.") -> Script:
    """An answer whose second half waits for `gate`."""

    async def script(answer: Answer) -> None:
        await answer.delta(content=first)
        await gate.wait()
        await answer.delta(content=last)
        await answer.done()

    return script


async def endless(answer: Answer) -> None:
    """An answer that begins and never ends."""
    await answer.delta(content="One ")
    await asyncio.Event().wait()


async def echo(answer: Answer) -> None:
    """What is said where a test has nothing else to say."""
    await answer.say("You said: ", str(answer.last["content"]))


class Upstream:
    """The server. Answers take one script after the other; without any they take the default."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.default: Script = echo
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closed_early = asyncio.Event()
        self.url = ""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        self._models: dict[str, list[str]] | None = None
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list)
        app.router.add_get("/v1/key", self._refuse_key)
        self._server = TestServer(app, host="127.0.0.1")

    async def start(self) -> None:
        await self._server.start_server()
        self.url = f"http://127.0.0.1:{self._server.port}/v1"

    async def stop(self) -> None:
        await self._server.close()

    def script(self, *scripts: Script) -> None:
        """What to say next, in order."""
        self.scripts.extend(scripts)

    def says(self, *pieces: str) -> None:
        self.script(lambda answer: answer.say(*pieces))

    def calls(self, *calls: tuple[str, str, str]) -> None:
        self.script(lambda answer: answer.call(*calls))

    def refuses(self, status: int, error: dict[str, Any] | None = None, **headers: str) -> None:
        self.script(lambda answer: answer.refuse(status, error, **headers))

    def lists(self, models: dict[str, list[str]]) -> None:
        """Have a list of models, for those who show one of these keys; without this there is no list."""
        self._models = models

    async def _list(self, request: web.Request) -> web.Response:
        if self._models is None:
            raise web.HTTPNotFound
        names = self._models.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if names is None:
            return web.json_response({"error": {"message": "Incorrect API key provided."}}, status=401)
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    async def _refuse_key(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "No auth credentials found"}}, status=401)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        answer = Answer(request, body)
        try:
            script = self.scripts.pop(0) if self.scripts else self.default
            await script(answer)
        except asyncio.CancelledError:
            self.closed_early.set()
            raise
        except ConnectionError:
            self.closed_early.set()
        assert answer._response is not None
        return answer._response
