"""What an AI SDK client sends: of all the messages in it only what is new is taken; the stored history is the truth."""

import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.adapters.inbound.content import MAX_REASON, ClientId, ClientTools, Label, ModelName, SkillSlug
from app.adapters.inbound.text_files import as_text, is_text
from app.core.domain.errors import InvalidFrame
from app.core.domain.ids import is_client_id
from app.core.domain.message import Content
from app.core.domain.text import check_json, check_label
from app.core.services.answers import Answer, ToolApproval, ToolResult

MAX_MESSAGES = 10_000
_FOREIGN_IDS = uuid.UUID("0c9e4b8a-51c7-5f0e-8d51-7b7f2a6f8a43")

ForeignId = Label
"""The id of a message as the client made it, in whatever alphabet."""


class UIMessage(BaseModel):
    """A message of the AI SDK: its parts are read by need."""

    model_config = ConfigDict(extra="ignore")

    id: ForeignId = ""
    role: Literal["system", "user", "assistant"]
    parts: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]], max_length=10_000)


class ChatRequest(BaseModel):
    """The body of `POST /api/chat`.

    Attributes:
        id: the conversation, made by the client and created here on first use.
        trigger: whether something new is sent, or an answer is to be given again.
        messageId: the message that is replaced or answered again.
    """

    model_config = ConfigDict(extra="ignore")

    id: ClientId
    messages: Annotated[list[UIMessage], Field(max_length=MAX_MESSAGES)] = Field(default_factory=list[UIMessage])
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: ForeignId | None = None  # noqa: N815 - the wire's own word
    model: ModelName | None = None
    skill: SkillSlug | None = None
    clientTools: ClientTools = Field(default_factory=list[str])  # noqa: N815

    @property
    def last(self) -> UIMessage:
        """The message that is new, or that has something new in it.

        Raises:
            InvalidFrame: there is none.
        """
        if not self.messages:
            raise InvalidFrame("The request has no messages.")
        return self.messages[-1]


def stored_id(message_id: str | None) -> str | None:
    """The id that a client's message is stored under: its own where that can be one, else always the same made from it."""
    if not message_id or is_client_id(message_id):
        return message_id or None
    return str(uuid.uuid5(_FOREIGN_IDS, message_id))


def content_of(message: UIMessage) -> Content:
    """What a user message says: its text, or a list of parts where there are files that are not text.

    Raises:
        InvalidFrame: a part has not the shape that it should have.
    """
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case {"type": "text", "text": str(text)}:
                parts.append({"type": "text", "text": text})
            case {"type": "file", "url": str(url), "mediaType": str(media_type)}:
                parts.append(_file(url, media_type, part.get("filename")))
            case {"type": "text" | "file"}:
                raise InvalidFrame(f"A part of type {part['type']} is not as it should be.")
            case _:
                continue  # what a client keeps for itself
    check_json(parts, "messages")
    parts = [*_with_attachments(parts)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _with_attachments(parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`parts` with text files behind the text, a blank line between them."""
    files = [part["text"] for part in parts if part["type"] == "attachment"]
    said = [part for part in parts if part["type"] != "attachment"]
    if not files:
        yield from said
        return
    text = "\n".join(part["text"] for part in said if part["type"] == "text")
    yield {"type": "text", "text": "\n\n".join([*([text] if text else []), *files])}
    yield from (part for part in said if part["type"] != "text")


def _file(url: str, media_type: str, name: Any) -> dict[str, Any]:
    if is_text(media_type):
        return {"type": "attachment", "text": as_text(url, name if isinstance(name, str) else "file")}
    if media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url, "filename": name if isinstance(name, str) else "file"}}


def answers_in(message: UIMessage) -> Iterator[Answer]:
    """The tool results and approvals in an assistant message; which of them are new is known elsewhere."""
    for part in message.parts:
        match part:
            case {"toolCallId": str(call_id), "state": "output-available"} if not part.get("preliminary"):
                yield ToolResult(call_id, check_json(part.get("output"), "output"))
            case {"toolCallId": str(call_id), "state": "output-error"}:
                yield ToolResult(
                    call_id, check_json(part.get("errorText"), "errorText") or "The tool failed.", is_error=True
                )
            case {
                "toolCallId": str(call_id),
                "state": "approval-responded",
                "approval": {"approved": bool(approved), **rest},
            }:
                reason = rest.get("reason")
                yield ToolApproval(call_id, approved, _reason(reason) if isinstance(reason, str) else None)
            case _:
                continue


def _reason(text: str) -> str:
    return check_label(text[:MAX_REASON], "reason")
