"""The bodies of the REST surface, with the examples that its page shows."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic.config import JsonDict

from app.adapters.inbound.content import (
    CallId,
    ClientId,
    ClientTools,
    Label,
    MessageContent,
    ModelName,
    Prompt,
    Reason,
    SkillSlug,
    ToolName,
    checked,
)
from app.core.domain.conversation import ModelOptions
from app.core.domain.ids import CLIENT_ID
from app.core.domain.tool import Approval
from app.core.ports import ModelInfo, ProviderInfo

_CONVERSATION: JsonDict = {
    "id": "0199f3a0-7c1e-7a3b-8a4e-2f6d1c9b7e55",
    "title": "What is 12 * 34?",
    "model": None,
    "next_model": "demo@offline",
    "system_prompt": None,
    "message_count": 4,
    "archived": False,
    "pinned": False,
    "active_run_id": None,
    "tool_approval": {},
    "model_options": {"reasoning_effort": "low"},
    "created_at": "2026-11-21T09:30:00.123456Z",
    "updated_at": "2026-11-21T09:30:01.654321Z",
}
_MESSAGE: JsonDict = {
    "id": "0199f3a0-8d2f-7c4c-9b5f-3a7e2d0c8f66",
    "conversation_id": "0199f3a0-7c1e-7a3b-8a4e-2f6d1c9b7e55",
    "seq": 2,
    "parent_id": "0199f3a0-7c20-7b5d-8e1a-5c9d4b2e6f77",
    "role": "assistant",
    "content": "",
    "metadata": {
        "tool_calls": [{"id": "call_1", "name": "multiply", "args": {"a": 12, "b": 34}, "type": "tool_call"}],
        "model": "demo@offline",
        "finish_reason": "tool_calls",
    },
    "created_at": "2026-11-21T09:30:00.234567Z",
}


class ConversationOut(BaseModel):
    """A conversation."""

    model_config = ConfigDict(json_schema_extra={"example": _CONVERSATION})

    id: str
    title: str | None
    model: str | None = Field(description="The model that a turn or a change named last; null for the default.")
    next_model: str = Field(description="The model that answers next, where the message names none.")
    system_prompt: str | None
    message_count: int
    archived: bool
    pinned: bool
    active_run_id: str | None
    tool_approval: dict[str, Approval]
    model_options: ModelOptions
    created_at: datetime
    updated_at: datetime


class MessageOut(BaseModel):
    """A message."""

    model_config = ConfigDict(json_schema_extra={"example": _MESSAGE})

    id: str
    conversation_id: str
    seq: int
    parent_id: str | None
    role: Literal["user", "assistant", "system", "tool"]
    content: str | list[dict[str, Any]]
    metadata: dict[str, Any]
    created_at: datetime


class ConversationList(BaseModel):
    """Conversations, newest activity first."""

    items: list[ConversationOut]
    next_cursor: str | None = Field(examples=[None])


class RunErrorOut(BaseModel):
    """Why a run failed."""

    code: str = Field(examples=["provider_unavailable"])
    message: str = Field(examples=["OpenAI cannot be reached. Try again in a moment."])
    retryable: bool


class RunStateOut(BaseModel):
    """The run that was to answer a user message and has not completed."""

    id: str
    status: Literal["running", "waiting", "failed", "cancelled"]
    model: str = Field(examples=["demo@offline"])
    last_message_id: str | None = Field(description="The last assistant message that it stored, if any.")
    error: RunErrorOut | None = Field(description="Why it failed; null where it did not.")
    created_at: datetime
    ended_at: datetime | None


class MessageList(BaseModel):
    """Messages of the active branch, in order; `next_cursor` is the `seq` to go on from, as text."""

    items: list[MessageOut]
    next_cursor: str | None = Field(examples=["51"])
    siblings: dict[str, int] | None = Field(
        None,
        description="For messages by id that have others in their place on other branches, how many stand there. Left out "
        "where no branch begins.",
    )
    runs: dict[str, RunStateOut] | None = Field(
        None,
        description="For user messages by id whose newest run on this branch failed, was cancelled, waits or still "
        "runs, that run. Left out where every message has its answer.",
    )


class RunOut(BaseModel):
    """A run and how it ended."""

    id: str
    conversation_id: str
    status: Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
    model: str = Field(examples=["demo@offline"])
    message_id: str
    last_message_id: str | None
    client_tools: list[str]
    approvals: dict[str, Literal["pending", "approved", "refused"]] = Field(
        description="The calls that need the user's approval, by id.", examples=[{"call_1": "pending"}]
    )
    finish_reason: str | None = Field(examples=["stop"])
    usage: dict[str, int] | None
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class TurnOut(BaseModel):
    """A whole turn: its run, and the messages it stored."""

    run_id: str
    messages: list[MessageOut]


class ModelList(BaseModel):
    """The models that can be asked, the default first, and the providers that there are."""

    items: list[ModelInfo]
    next_cursor: None = None
    providers: list[ProviderInfo]


class UsageItem(BaseModel):
    """The tokens of a day with a model; `cost` in US dollars, null where a price is not known."""

    day: str = Field(examples=["2026-11-21"])
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost: float | None


class UsageTotal(BaseModel):
    """The sums; `cost` is that of the models whose prices are known."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: float
    cost_is_complete: bool


class UsageReport(BaseModel):
    """What was spent."""

    items: list[UsageItem]
    next_cursor: None = None
    total: UsageTotal
    currency: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["urn:atelier:error:not_found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such conversation."])
    code: str = Field(examples=["not_found"])


class NewConversation(BaseModel):
    """A conversation to make."""

    title: Label | None = Field(None, examples=["Numbers"])
    model: ModelName | None = None
    system_prompt: Prompt | None = None


class ConversationChanges(NewConversation):
    """What to change of a conversation; what is left out stays."""

    archived: bool = False
    pinned: bool = False
    tool_approval: dict[ToolName | Literal["*"], Approval] = Field(
        {}, max_length=200, examples=[{"*": "ask", "add": "auto"}]
    )
    model_options: ModelOptions = ModelOptions()


class Head(BaseModel):
    """Where the active branch is to go through."""

    message_id: ClientId


class NewToolResult(BaseModel):
    """The result of a tool that the client ran."""

    tool_call_id: CallId
    result: Annotated[Any, AfterValidator(checked)]
    is_error: bool = False


class NewToolApproval(BaseModel):
    """The answer to an approval request."""

    tool_call_id: CallId
    approved: bool
    reason: Reason | None = None


class NewMessage(BaseModel):
    """A message to be answered."""

    content: MessageContent
    message_id: ClientId | None = Field(None, description="Makes it idempotent: sent twice, it runs once.")
    client_tools: ClientTools = []
    skill: SkillSlug | None = None
    model: ModelName | None = None


class ImportedMessage(BaseModel):
    """A message of an import: role and content, and whatever an export says of it."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user", "assistant", "system", "tool"]
    content: MessageContent = ""
    metadata: dict[str, Any] | None = None
    id: str | None = None
    seq: int | None = None
    parent_id: str | None = None
    created_at: datetime | None = None

    @field_validator("metadata")
    @classmethod
    def _clean(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        calls = (value or {}).get("tool_calls")
        if calls is not None and not _are_calls(calls):
            raise ValueError("tool_calls must be a list of {id, name, args}")
        return checked(value)


class ImportedSummary(BaseModel):
    """What models are told in place of the messages up to number `seq`."""

    text: Prompt
    seq: int = Field(ge=1, lt=2**31)


class ImportedConversation(BaseModel):
    """What an import keeps of a conversation."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = Field(None, pattern=f"^{CLIENT_ID.pattern}$")
    title: Label | None = None
    model: ModelName | None = None
    system_prompt: Prompt | None = None
    archived: bool = False
    pinned: bool = False
    head_message_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    summary: ImportedSummary | None = None


class Import(BaseModel):
    """An export, or a list of messages."""

    format: Literal["atelier.conversation/1"] | None = None
    conversation: ImportedConversation = Field(default_factory=lambda: ImportedConversation.model_validate({}))
    title: Label | None = None
    messages: list[ImportedMessage] = Field(
        max_length=10_000,
        examples=[
            [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! What can I do for you?"}]
        ],
    )
    workflow: Annotated[dict[str, Any], AfterValidator(checked)] | None = None


def _are_calls(calls: Any) -> bool:
    return isinstance(calls, list) and all(
        isinstance(call, dict)
        and isinstance(call.get("id"), str)  # pyright: ignore[reportUnknownMemberType]
        and isinstance(call.get("name"), str)  # pyright: ignore[reportUnknownMemberType]
        and isinstance(call.get("args"), dict)  # pyright: ignore[reportUnknownMemberType]
        for call in calls  # pyright: ignore[reportUnknownVariableType]
    )
