"""Tool results that are too long for the model's context: shortened where they are sent, whole where they are kept."""

from collections.abc import Sequence
from typing import Any, cast

import orjson
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from app.core.services.context import IMAGE_TOKENS, MESSAGE_TOKENS, result_allowances, shortened, text_tokens


def fit_results(messages: Sequence[BaseMessage], budget: int | None) -> list[BaseMessage]:
    """`messages` with their tool results shortened so that all of it fits `budget`, as far as that goes."""
    if budget is None or not any(isinstance(message, ToolMessage) for message in messages):
        return list(messages)
    sizes = [_tokens(message) for message in messages]
    places = [place for place, message in enumerate(messages) if isinstance(message, ToolMessage)]
    others = sum(sizes) - sum(sizes[place] for place in places)
    allowed = result_allowances([sizes[place] for place in places], others, budget)
    fitted = list(messages)
    for place, tokens in zip(places, allowed, strict=True):
        if tokens < sizes[place]:
            content = _shortened(_content(messages[place]), tokens)
            fitted[place] = messages[place].model_copy(update={"content": content})
    return fitted


def _content(message: BaseMessage) -> str | list[Any]:
    return cast("str | list[Any]", message.content)  # pyright: ignore[reportUnknownMemberType]


def _shortened(content: str | list[Any], tokens: int) -> str | list[Any]:
    if isinstance(content, str):
        return shortened(content, tokens)
    texts = [part for part in content if _text(part) is not None]
    each = tokens // max(1, len(texts))
    return [
        part if (text := _text(part)) is None else {"type": "text", "text": shortened(text, each)} for part in content
    ]


def _text(part: Any) -> str | None:
    text: Any = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else None


def _tokens(message: BaseMessage) -> int:
    content = _content(message)
    parts: list[Any] = [content] if isinstance(content, str) else content
    size = MESSAGE_TOKENS + sum(IMAGE_TOKENS if (text := _text(part)) is None else text_tokens(text) for part in parts)
    if isinstance(message, AIMessage):
        size += sum(text_tokens(orjson.dumps(call["args"]).decode()) for call in message.tool_calls)
    return size
