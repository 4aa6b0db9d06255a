"""The state of a turn, as it travels through the chat graph."""

from typing import Annotated, NotRequired, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages


class ConversationState(TypedDict):
    """A conversation in the middle of a turn.

    Attributes:
        messages: the history that was loaded and what the turn has added, as LangChain messages.
        current_input: what the user says now; None where the last message of `messages` is to be gone on from.
        error: why the turn cannot go on, in words for the user.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    conversation_id: str
    user_id: str
    current_input: NotRequired[str | None]
    error: NotRequired[str | None]
