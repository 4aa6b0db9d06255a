"""What a turn of the chat graph works with; it comes by runtime context, so that one compiled graph serves all."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.tools import BaseTool

from app.core.domain.tool import ApprovalPolicy, CallTraits
from app.core.ports import IConversationRepository, ILLMProvider, IMessageRepository, ITurnRecorder

MAX_TOOL_ROUNDS = 25


@dataclass(frozen=True, slots=True)
class TurnContext:
    """The surroundings of one turn.

    Attributes:
        llm_provider: who answers, with the tools bound.
        tools: the tools that may run, by name.
        recorder: takes every step as it is finished; None where the graph is used without the service, and
            `save_history` writes the new messages through the two repositories.
        client_tools: the names of those tools that the user's client runs.
        approvals: what the user said to calls, by their ids.
        policy: which tools need approval.
        max_tool_rounds: how often the model may ask for tools before the turn is ended.
        budget: tokens that the model may be sent; None where nothing is shortened.
    """

    llm_provider: ILLMProvider
    tools: Mapping[str, BaseTool] = field(default_factory=dict[str, BaseTool])
    recorder: ITurnRecorder | None = None
    message_repository: IMessageRepository | None = None
    conversation_repository: IConversationRepository | None = None
    client_tools: frozenset[str] = frozenset()
    approvals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    policy: ApprovalPolicy = field(default_factory=lambda: ApprovalPolicy({}, {}))
    max_tool_rounds: int = MAX_TOOL_ROUNDS
    budget: int | None = None

    def traits(self, name: str) -> CallTraits:
        """Where a call of the tool `name` runs, and whether it needs approval."""
        return self.policy.traits(name, self.client_tools)


@dataclass(frozen=True, slots=True)
class CallInProgress:
    """The call that a tool is being run for.

    Attributes:
        message_id: the assistant message that calls.
        messages: the conversation so far, as LangChain messages.
        recorder: takes how far the tool is; None where the graph is used without the service.
    """

    id: str
    conversation_id: str
    user_id: str
    messages: Sequence[AnyMessage]
    recorder: ITurnRecorder | None
    message_id: str | None = None

    @property
    def key(self) -> str:
        """Names the call in its conversation. The provider's id alone does not: some number the calls of each answer."""
        return f"{self.message_id}/{self.id}"


current_call: ContextVar[CallInProgress | None] = ContextVar("current_call", default=None)
"""Set while a tool runs: tools whose call matters (progress, attachments, whose files) read it."""
