"""The last node: what the turn added, and is not stored yet, is stored."""

import logging
from typing import Any

from app.core.domain.errors import describe
from app.core.ports import IConversationRepository, IMessageRepository, ITurnRecorder
from app.langgraph.messages import new_messages, to_domain
from app.langgraph.state import ConversationState

logger = logging.getLogger(__name__)


async def save_to_history(
    state: ConversationState,
    message_repository: IMessageRepository,
    conversation_repository: IConversationRepository,
) -> dict[str, Any]:
    """Write the messages that the turn added, in order, and count them. What was loaded is not written again."""
    conversation_id = state["conversation_id"]
    added = new_messages(state["messages"], conversation_id)
    try:
        for message in added:
            await message_repository.create(message)
        await conversation_repository.increment_message_count(conversation_id, len(added))
    except Exception as error:
        logger.exception("the history of conversation %s could not be saved", conversation_id)
        return {"error": f"Failed to save conversation: {describe(error).message}"}
    return {}


async def close_turn(state: ConversationState, recorder: ITurnRecorder) -> dict[str, Any]:
    """Hand the final answer to the recorder: the steps before it are stored already."""
    answer = state["messages"][-1]
    await recorder.close([to_domain(answer, state["conversation_id"])])
    return {}
