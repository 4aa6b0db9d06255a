"""Domain messages as LangChain messages and back, without loss.

What LangChain has no field for (place in the conversation, time, our own metadata) travels in
`response_metadata["atelier"]`, which no provider is sent; what the domain has no field for (a provider's extras)
stays in `metadata["provider"]`, where the same provider finds it again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import ValidationError

from app.core.domain.ids import new_id
from app.core.domain.message import Message, MessageRole
from app.core.domain.text import clean_json, clean_text

CARRIER = "atelier"


@dataclass(frozen=True, slots=True)
class ShownFiles:
    """What a tool made for the user to see, as the artifact of its message: `{url, media_type, name}` each."""

    files: list[dict[str, Any]]


_ROLES: dict[str, MessageRole] = {
    "human": MessageRole.USER,
    "ai": MessageRole.ASSISTANT,
    "system": MessageRole.SYSTEM,
    "tool": MessageRole.TOOL,
}
_CLASSES: dict[MessageRole, type[BaseMessage]] = {
    MessageRole.USER: HumanMessage,
    MessageRole.ASSISTANT: AIMessage,
    MessageRole.SYSTEM: SystemMessage,
    MessageRole.TOOL: ToolMessage,
}


def to_langchain(message: Message) -> BaseMessage:
    """`message` as the LangChain message of its role. Metadata of any shape will do: it may have been imported."""
    try:
        return _to_langchain(message)
    except (ValidationError, TypeError, ValueError, AttributeError):
        return _to_plain_langchain(message)


def _to_langchain(message: Message) -> BaseMessage:
    metadata = dict(message.metadata)
    extras = _take_dict(metadata, "provider")
    additional: dict[str, Any] = dict(extras.get("additional_kwargs") or {})
    fields: dict[str, Any] = {"content": message.content, "id": message.id}
    if (name := metadata.pop("name", None)) is not None:
        fields["name"] = name
    if message.role is MessageRole.ASSISTANT:
        fields["tool_calls"] = [_call(call) for call in _all_of(message.tool_calls, metadata.pop("tool_calls", None))]
        malformed = _all_of(message.invalid_tool_calls, metadata.pop("invalid_tool_calls", None))
        fields["invalid_tool_calls"] = malformed
        fields["usage_metadata"] = metadata.pop("usage", None)
        if (reasoning := metadata.pop("reasoning", None)) is not None:
            additional["reasoning_content"] = reasoning
    elif message.role is MessageRole.TOOL:
        fields["tool_call_id"] = metadata.pop("tool_call_id", "")
        fields["status"] = metadata.pop("status", "success")
        fields["artifact"] = metadata.pop("artifact", None)
    fields["additional_kwargs"] = additional
    fields["response_metadata"] = {**(extras.get("response_metadata") or {}), CARRIER: _carried(message, metadata)}
    return _CLASSES[message.role](**fields)


def _to_plain_langchain(message: Message) -> BaseMessage:
    """`message` with what a model must see of it; all of its metadata is carried beside that."""
    fields: dict[str, Any] = {"content": message.content, "id": message.id}
    if message.role is MessageRole.ASSISTANT:
        fields["tool_calls"] = [_call(call) for call in message.tool_calls]
        fields["invalid_tool_calls"] = [{**call, "error": None} for call in message.invalid_tool_calls]
    elif message.role is MessageRole.TOOL:
        fields["tool_call_id"] = message.tool_call_id or ""
    fields["response_metadata"] = {CARRIER: {**_carried(message, message.metadata), "whole": True}}
    return _CLASSES[message.role](**fields)


def _carried(message: Message, metadata: dict[str, Any]) -> dict[str, Any]:
    """What LangChain has no field for."""
    carried: dict[str, Any] = {
        "conversation_id": message.conversation_id,
        "seq": message.seq,
        "parent_id": message.parent_id,
        "created_at": message.created_at,
    }
    if metadata:
        carried["metadata"] = metadata
    return carried


def to_domain(message: BaseMessage, conversation_id: str) -> Message:
    """`message` as a domain Message; what a model or a tool put into it is cleaned on the way.

    Raises:
        ValueError: LangChain messages of that type have no place in a conversation.
    """
    role = _ROLES.get(message.type)
    if role is None:
        raise ValueError(f"A message of type {message.type!r} cannot be stored in a conversation.")
    response = dict(message.response_metadata)
    carried: dict[str, Any] = response.pop(CARRIER, None) or {}
    additional = dict(message.additional_kwargs)
    metadata: dict[str, Any] = {}
    if message.name is not None:
        metadata["name"] = message.name
    if carried.get("whole"):
        pass
    elif isinstance(message, AIMessage):
        if message.tool_calls:
            metadata["tool_calls"] = [dict(call) for call in message.tool_calls]
        if message.invalid_tool_calls:
            metadata["invalid_tool_calls"] = [dict(call) for call in message.invalid_tool_calls]
        if message.usage_metadata:
            metadata["usage"] = dict(message.usage_metadata)
        if isinstance(additional.get("reasoning_content"), str):
            metadata["reasoning"] = additional.pop("reasoning_content")
        if not carried and (reason := response.get("finish_reason")):
            metadata["finish_reason"] = reason
    elif isinstance(message, ToolMessage):
        metadata["tool_call_id"] = message.tool_call_id
        metadata["status"] = message.status
        if isinstance(message.artifact, ShownFiles):
            metadata["artifacts"] = message.artifact.files
        elif message.artifact is not None:
            metadata["artifact"] = message.artifact
    extras = {"additional_kwargs": additional, "response_metadata": response}
    if provider := {key: value for key, value in extras.items() if value}:
        metadata["provider"] = provider
    metadata |= carried.get("metadata") or {}
    content = cast("str | list[Any]", message.content)  # pyright: ignore[reportUnknownMemberType]
    fields: dict[str, Any] = {
        "id": message.id or new_id(),
        "conversation_id": carried.get("conversation_id", conversation_id),
        "role": role,
        "content": clean_text(content) if isinstance(content, str) else [_part(part) for part in content],
        "metadata": clean_json(metadata),
        "seq": carried.get("seq"),
        "parent_id": carried.get("parent_id"),
    }
    if isinstance(created_at := carried.get("created_at"), datetime):
        fields["created_at"] = created_at
    return Message(**fields)


def is_stored(message: BaseMessage) -> bool:
    """Whether `message` came out of a store, or has been put into one, and must not be written again."""
    return (message.response_metadata.get(CARRIER) or {}).get("seq") is not None


def new_messages(messages: Iterable[BaseMessage], conversation_id: str) -> list[Message]:
    """Those of `messages` that no store has, as domain Messages."""
    return [to_domain(message, conversation_id) for message in messages if not is_stored(message)]


def _part(part: Any) -> dict[str, Any]:
    """A part of list content; bare text becomes a text part."""
    return {"type": "text", "text": clean_text(part)} if isinstance(part, str) else clean_json(part)


def _all_of(calls: list[dict[str, Any]], stored: Any) -> list[dict[str, Any]]:
    """`calls`, if that is all there is.

    Raises:
        ValueError: among what is stored is something that is no call.
    """
    if stored and len(stored) != len(calls):
        raise ValueError("something that is no call stands among the calls")
    return calls


def _call(call: dict[str, Any]) -> dict[str, Any]:
    return {"id": call.get("id"), "name": call["name"], "args": call["args"], "type": "tool_call"}


def _take_dict(metadata: dict[str, Any], key: str) -> dict[str, Any]:
    value = metadata.get(key)
    if not isinstance(value, dict):
        return {}
    del metadata[key]
    return cast("dict[str, Any]", value)
