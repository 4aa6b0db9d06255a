"""JSON bodies of routes, read by the one function that every wire reads JSON with."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from app.core.domain.errors import InvalidFrame
from app.core.domain.text import read_json

LARGE = 1_048_576
"""From here on a body is read beside the event loop."""


class JsonRoute(APIRoute):
    """A route that refuses a JSON body with text or nesting that no store takes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with our way to read the body."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle


class _JsonRequest(Request):
    async def json(self) -> Any:
        """The body as JSON."""
        body = await self.body()
        try:
            return (
                await asyncio.to_thread(read_json, body, "The body")
                if len(body) > LARGE
                else read_json(body, "The body")
            )
        except InvalidFrame as error:
            # FastAPI lets no other exception out of the reading of a body.
            raise HTTPException(422, error.message) from error
