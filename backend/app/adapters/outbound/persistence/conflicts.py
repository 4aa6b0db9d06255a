"""Which message ids may be used again: the rule that every store applies."""

from app.core.domain.errors import MessageConflict
from app.core.domain.message import Content, same_content
from app.core.ports import Acceptance


def check_same(acceptance: Acceptance, content: Content | None) -> None:
    """Make sure that an earlier message with the id of a new one says the same.

    Args:
        acceptance: the new message and its run.
        content: what the earlier message says; None where that is not known.

    Raises:
        MessageConflict: it says something else.
    """
    message = acceptance.message
    if message is not None and content is not None and same_content(message.content, content):
        return
    if acceptance.anywhere:
        raise MessageConflict(
            "Another message with this message_id is in one of your conversations. Name the conversation with "
            "conversation_id, or send the message under a new message_id."
        )
    raise MessageConflict(
        "Another message with this message_id is in the conversation already. Send this one under a new message_id."
    )


def in_several_conversations() -> MessageConflict:
    """The error for an id that several conversations of the user have, where none was named."""
    return MessageConflict(
        "Several of your conversations have a message with this message_id. Name the conversation with conversation_id, "
        "or send the message under a new message_id."
    )


def without_a_run() -> MessageConflict:
    """The error for an id of a message that no run began with, such as an imported one or an answer."""
    return MessageConflict(
        "A message with this message_id is in the conversation already, and it was not sent here: it was imported, or "
        "it is an answer. Send this one under a new message_id."
    )
