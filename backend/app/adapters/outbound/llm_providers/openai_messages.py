"""Messages as OpenAI's requests have them, as LangChain's."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from app.core.domain.errors import InvalidFrame
from app.core.domain.text import load_json


def from_openai(messages: Sequence[Mapping[str, Any]]) -> list[BaseMessage]:
    """`messages` of a request, in their order.

    Raises:
        InvalidFrame: one of them has no role that is known.
    """
    return [_message(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _message(message: Mapping[str, Any], where: str) -> BaseMessage:
    content = cast("str | list[Any]", message.get("content") or "")
    match message.get("role"):
        case "user":
            return HumanMessage(content)
        case "system" | "developer":
            return SystemMessage(content)
        case "tool" | "function":
            return ToolMessage(content, tool_call_id=str(message.get("tool_call_id") or message.get("name") or ""))
        case "assistant":
            return _assistant(message, content)
        case role:
            raise InvalidFrame(f"{where}.role is {role!r}. It must be system, developer, user, assistant or tool.")


def _assistant(message: Mapping[str, Any], content: Any) -> AIMessage:
    valid: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in message.get("tool_calls") or ():
        function: dict[str, Any] = call.get("function") or {}
        call_id, name, text = call.get("id"), str(function.get("name") or ""), function.get("arguments") or "{}"
        try:
            args: Any = load_json(text)
        except ValueError:
            args = None
        if isinstance(args, dict):
            valid.append(ToolCall(id=call_id, name=name, args=cast("dict[str, Any]", args), type="tool_call"))
        else:
            invalid.append(InvalidToolCall(id=call_id, name=name, args=text, error=None, type="invalid_tool_call"))
    return AIMessage(content or message.get("refusal") or "", tool_calls=valid, invalid_tool_calls=invalid)
