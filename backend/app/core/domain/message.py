"""A message of a conversation: what was said, by whom, and what belongs to it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.core.domain.ids import new_id
from app.core.domain.time import utc_now

Content = str | list[dict[str, Any]]
"""Text, or a list of parts such as `{"type": "text", "text": …}` and `{"type": "image_url", …}`."""


class MessageRole(StrEnum):
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class Message(BaseModel):
    """One message. Stored once, never changed: edits and new answers make branches.

    Attributes:
        seq: the place in the conversation, from 1; None until it is stored.
        parent_id: the message that this one answers or follows; None for the first.
        metadata: on assistant messages `tool_calls`, `model`, `usage`, `finish_reason`; on tool messages
            `tool_call_id`, `name`, `status`; `partial` where an answer was cut short.
    """

    model_config = ConfigDict(use_enum_values=False)

    conversation_id: str
    role: MessageRole
    content: Content = ""
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    id: str = Field(default_factory=new_id)
    seq: int | None = None
    parent_id: str | None = None
    created_at: datetime = Field(default_factory=utc_now)

    @field_validator("metadata", mode="before")
    @classmethod
    def _metadata_may_be_left_out(cls, value: Any) -> Any:
        return {} if value is None else value

    @property
    def text(self) -> str:
        """The text of the message, without images and other parts."""
        return text_of(self.content)

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls of an assistant message: `{id, name, args, type: "tool_call"}` each. What is no call is left out."""
        return [call for call in self._dicts("tool_calls") if isinstance(call.get("args"), dict) and _is_named(call)]

    @property
    def invalid_tool_calls(self) -> list[dict[str, Any]]:
        """The calls of an assistant message whose arguments are not a JSON object: `{id, name, args, error, type}` each."""
        return [
            call for call in self._dicts("invalid_tool_calls") if isinstance(call.get("args"), str) and _is_named(call)
        ]

    def _dicts(self, key: str) -> list[dict[str, Any]]:
        values = self.metadata.get(key)
        found = cast("list[Any]", values) if isinstance(values, list) else []
        return [value for value in found if isinstance(value, dict)]

    @property
    def tool_call_id(self) -> str | None:
        """The call that a tool message answers."""
        call_id = self.metadata.get("tool_call_id")
        return call_id if isinstance(call_id, str) else None

    def to_wire(self) -> dict[str, Any]:
        """The message as every JSON surface shows it."""
        return {
            "id": self.id,
            "conversation_id": self.conversation_id,
            "seq": self.seq,
            "parent_id": self.parent_id,
            "role": self.role.value,
            "content": self.content,
            "metadata": self.metadata,
            "created_at": self.created_at,
        }


def same_content(one: Content, other: Content) -> bool:
    """Whether two messages say the same: text and a list with that text alone are one."""
    return _plain(one) == _plain(other)


def _plain(content: Content) -> Content:
    is_text = isinstance(content, str) or all(part.keys() == {"type", "text"} for part in content)
    return text_of(content) if is_text else content


def _is_named(call: dict[str, Any]) -> bool:
    return isinstance(call.get("name"), str) and isinstance(call.get("id"), str | None)


def text_of(content: Content) -> str:
    """The text in `content`: itself, or its text parts joined by line feeds."""
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in content if part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))
