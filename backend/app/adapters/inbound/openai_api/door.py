"""`/v1` as an ASGI application of its own: a relayed answer passes through as few hands as can be."""

import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.adapters.inbound.content import check_media_type
from app.adapters.inbound.leaving import ClientGone, unless_gone
from app.adapters.inbound.openai_api import agent
from app.adapters.inbound.openai_api.errors import PREFIX, body_of, headers_of, status_of
from app.adapters.inbound.openai_api.request import AGENT, Request, is_agent, parse
from app.adapters.inbound.rest.services import Services
from app.core.domain.errors import AtelierError, NotFound, TooLarge, UnknownModel, describe
from app.core.domain.event import to_json
from app.core.domain.user import User
from app.core.services.rate_limits import Limited

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024 * 1024
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class OpenAIDoor:
    """Answers `POST /v1/chat/completions`, `GET /v1/models` and `GET /v1/models/{id}`."""

    def __init__(self, atelier: Services) -> None:
        self._atelier = atelier

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, which the guard has let through."""
        user: User = scope["state"]["user"]
        answer = _Answer(send)
        try:
            await self._route(scope, receive, answer, user)
        except ClientGone:
            return
        except AtelierError as error:
            await answer.fail(error)
        except Exception as error:
            logger.exception("a request to %s failed", scope["path"])
            await answer.fail(describe(error))

    async def _route(self, scope: Scope, receive: Receive, answer: "_Answer", user: User) -> None:
        method, path = scope["method"], scope["path"].removeprefix(PREFIX).rstrip("/")
        match method, path.partition("/")[0]:
            case "POST", "chat" if path == "chat/completions":
                check_media_type(Headers(scope=scope).get("content-type"), "application/json")
                self._atelier.rates.count(Limited.MESSAGES, scope["state"]["visitor"])
                body = await _body(scope, receive)
                await unless_gone(receive, self._complete(parse(body), user, answer))
            case "GET", "models" if path == "models":
                await answer.document(to_json({"object": "list", "data": await self._models()}).encode())
            case "GET", "models":
                wanted = unquote(path.removeprefix("models/"))
                found = next((model for model in await self._models() if model["id"] == wanted), None)
                if found is None:
                    raise UnknownModel(f"There is no model named {wanted[:100]!r} here. GET /v1/models lists them.")
                await answer.document(to_json(found).encode())
            case _:
                raise NotFound("There is nothing here. /v1 has chat/completions and models.")

    async def _complete(self, request: Request, user: User, answer: "_Answer") -> None:
        model: str = request["model"]
        atelier = self._atelier
        if is_agent(model):
            if request.get("stream"):
                await answer.stream(agent.stream(request, user, atelier))
            else:
                await answer.document(await agent.complete(request, user, atelier))
            return

        def count(usage: Any) -> None:
            atelier.usage.count(user.id, model, usage)

        if request.get("stream"):
            await answer.stream(atelier.gateway.stream(model, request, count))
        else:
            await answer.document(await atelier.gateway.complete(model, request, count))

    async def _models(self) -> list[dict[str, Any]]:
        listed = await self._atelier.catalog.models()
        agent_itself = {"id": AGENT, "object": "model", "created": 0, "owned_by": AGENT}
        models = ({"id": m.id, "object": "model", "created": 0, "owned_by": m.provider} for m in listed.models)
        return [agent_itself, *models]


class _Answer:
    """The answer to one request; what goes wrong after its beginning is told in its middle."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_begun = False

    async def document(self, body: bytes) -> None:
        """A JSON document."""
        await self._begin(200, [(b"content-type", b"application/json")], len(body))
        await self._send({"type": "http.response.body", "body": body})

    async def stream(self, chunks: AsyncIterator[bytes]) -> None:
        """Events, each as soon as it is there. The answer begins with the first of them: until then it can still be refused."""
        async for chunk in chunks:
            if not self._has_begun:
                await self._begin(200, STREAM_HEADERS)
            if chunk:
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, error: AtelierError) -> None:
        """An error: with its status, or, where the answer has begun, as an event at its end."""
        if not self._has_begun:
            body = body_of(error)
            await self._begin(status_of(error), headers_of(error), len(body))
            await self._send({"type": "http.response.body", "body": body})
            return
        event = b"data: " + body_of(error) + b"\n\n"
        await self._send({"type": "http.response.body", "body": event})

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]], length: int | None = None) -> None:
        self._has_begun = True
        if length is not None:
            headers = [*headers, (b"content-length", str(length).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        TooLarge: it is larger than the service takes.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"The request is larger than {MAX_BODY_BYTES:,} bytes.")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
