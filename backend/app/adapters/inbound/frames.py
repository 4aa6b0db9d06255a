"""The frames that clients send over the WebSocket, checked from bytes to types in one pass."""

from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from app.adapters.inbound.content import (
    CallId,
    ClientId,
    ClientTools,
    MessageContent,
    ModelName,
    Reason,
    Seq,
    SkillSlug,
    checked,
    message_of,
)
from app.core.domain.errors import AtelierError, InvalidFrame, UnknownType
from app.core.domain.run import OnBusy
from app.core.domain.text import clean_text, read_json, sentence


class MessageFrame(BaseModel):
    """Start a run."""

    type: Literal["message"]
    content: MessageContent
    conversation_id: ClientId | None = None
    message_id: ClientId | None = None
    model: ModelName | None = None
    client_tools: ClientTools = Field(default_factory=list[str])
    on_busy: OnBusy = OnBusy.QUEUE
    skill: SkillSlug | None = None


class ToolResultFrame(BaseModel):
    """The result of a tool that the client ran."""

    type: Literal["tool_result"]
    run_id: ClientId
    tool_call_id: CallId
    result: Annotated[Any, AfterValidator(checked)]
    is_error: bool = False


class ToolApprovalFrame(BaseModel):
    """The answer to an approval request."""

    type: Literal["tool_approval"]
    run_id: ClientId
    tool_call_id: CallId
    approved: bool
    reason: Reason | None = None


class RegenerateFrame(BaseModel):
    """Run the turn of an assistant message again as a new branch."""

    type: Literal["regenerate"]
    conversation_id: ClientId
    message_id: ClientId
    model: ModelName | None = None


class RetryFrame(BaseModel):
    """Run the turn of a user message again, for example after it failed."""

    type: Literal["retry"]
    conversation_id: ClientId
    message_id: ClientId
    model: ModelName | None = None


class EditFrame(BaseModel):
    """Replace a user message by a new branch and run."""

    type: Literal["edit"]
    conversation_id: ClientId
    message_id: ClientId
    content: MessageContent
    model: ModelName | None = None


class AttachFrame(BaseModel):
    """Receive a run's events from a number on."""

    type: Literal["attach"]
    run_id: ClientId
    after: Seq = 0


class CancelFrame(BaseModel):
    """Stop a run."""

    type: Literal["cancel"]
    run_id: ClientId


class PingFrame(BaseModel):
    """Ask whether the service is there."""

    type: Literal["ping"]
    id: Any = None


ClientFrame = (
    MessageFrame
    | ToolResultFrame
    | ToolApprovalFrame
    | RegenerateFrame
    | RetryFrame
    | EditFrame
    | AttachFrame
    | CancelFrame
    | PingFrame
)

_ADAPTER: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])


class BadFrame(Exception):
    """A frame that is answered with an error.

    Attributes:
        error: what to say.
        in_reply_to: the frame's type, where it has one.
    """

    def __init__(self, error: AtelierError, in_reply_to: str | None) -> None:
        super().__init__(error.message)
        self.error = error
        self.in_reply_to = in_reply_to


def parse_frame(text: str | bytes) -> ClientFrame:
    """The frame in `text`.

    Raises:
        BadFrame: it is not one, and the error says why.
    """
    try:
        return _ADAPTER.validate_python(read_json(text, "The frame"))
    except AtelierError as error:
        raise BadFrame(error, _type_of(text)) from error
    except ValidationError as failure:
        raise _explain(text, failure) from failure


def _explain(text: str | bytes, failure: ValidationError) -> BadFrame:
    detail = failure.errors(include_url=False)[0]
    kind = _type_of(text)
    match detail["type"]:
        case "union_tag_invalid":
            return BadFrame(UnknownType(f"There is no frame of type {str(kind)[:50]!r}."), kind)
        case "union_tag_not_found":
            return BadFrame(InvalidFrame("The frame has no type."), kind)
        case _:
            place = ".".join(str(part) for part in detail["loc"][1:]) or "The frame"
            return BadFrame(InvalidFrame(sentence(f"{place}: {message_of(detail)}")), kind)


def _type_of(text: str | bytes) -> str | None:
    try:
        frame = from_json(text)
    except ValueError:
        return None
    kind = cast("dict[str, Any]", frame).get("type") if isinstance(frame, dict) else None
    return clean_text(kind[:50]) if isinstance(kind, str) else None
