"""What all stores share: how the parts of a domain object are written as text, and how a list goes on."""

import base64
import binascii
from datetime import datetime
from typing import Any

import orjson

from app.core.domain.conversation import Conversation
from app.core.domain.errors import InvalidFrame
from app.core.domain.message import Content, text_of
from app.core.domain.run import Run
from app.core.domain.time import from_micros, to_micros


def dump(value: Any) -> str:
    """`value` as JSON text; how tool arguments, results and metadata are kept, whatever their keys are."""
    return orjson.dumps(value).decode()


def load(text: str | None) -> Any:
    """What `dump` wrote."""
    return None if text is None else orjson.loads(text)


def split_content(content: Content) -> tuple[str, str | None]:
    """The text of a message, which search reads, and its parts as JSON where it is more than text."""
    return (content, None) if isinstance(content, str) else (text_of(content), dump(content))


def join_content(text: str, parts: str | None) -> Content:
    """What `split_content` took apart."""
    return text if parts is None else orjson.loads(parts)


def encode_cursor(conversation: Conversation) -> str:
    """Where a list of conversations goes on after `conversation`."""
    raw = orjson.dumps([to_micros(conversation.updated_at), conversation.id])
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """The activity time and id that `encode_cursor` wrote.

    Raises:
        InvalidFrame: `cursor` is not one of ours.
    """
    try:
        moment, conversation_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(moment, int) or not 0 <= moment < 2**53 or not isinstance(conversation_id, str):
            raise ValueError(cursor)
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidFrame("The cursor is not one that this service gave out. Start again without it.") from error
    return from_micros(moment), conversation_id


def dump_options(run: Run) -> str | None:
    """What a run was begun with and was answered since, as JSON; None where that is nothing."""
    options = {"input_id": run.input_id, "client_tools": run.client_tools, "approvals": run.approvals}
    kept = {key: value for key, value in options.items() if value}
    return dump(kept) if kept else None


def load_options(text: str | None) -> dict[str, Any]:
    """The fields of a run that `dump_options` wrote."""
    return load(text) or {}
