"""What a turn of the chat graph works with; it comes by runtime context, so that one compiled graph serves all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_core.tools import BaseTool

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
        max_tool_rounds: how often the model may ask for tools before the turn is ended.
    """

    llm_provider: ILLMProvider
    tools: Mapping[str, BaseTool] = field(default_factory=dict[str, BaseTool])
    recorder: ITurnRecorder | None = None
    message_repository: IMessageRepository | None = None
    conversation_repository: IConversationRepository | None = None
    max_tool_rounds: int = MAX_TOOL_ROUNDS
