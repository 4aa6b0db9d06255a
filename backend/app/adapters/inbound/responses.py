"""Answers as JSON, written by orjson, with times as the wire has them."""

from typing import Any

from starlette.responses import Response

from app.core.domain.event import to_json


class Json(Response):
    """A JSON document."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """`content` as bytes."""
        return to_json(content).encode()


def page(items: list[Any], next_cursor: str | None) -> Json:
    """A list as every list is answered."""
    return Json({"items": items, "next_cursor": next_cursor})
