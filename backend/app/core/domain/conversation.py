"""A conversation: a tree of messages with one active branch, owned by one user."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.core.domain.ids import new_id
from app.core.domain.time import utc_now

TITLE_LENGTH = 80

Span = tuple[int, int | None]
"""A stretch of `seq` from the first to the last, both included; None is open to the future."""

WHOLE: list[Span] = [(1, None)]


class Conversation(BaseModel):
    """A conversation and what the list of conversations shows of it.

    Attributes:
        head_message_id: the last message of the active branch.
        spans: the active branch as stretches of `seq`, oldest first. Messages are numbered as they are
            stored, so a branch that nobody left is one open stretch, and each fork adds one: any part of
            the branch can be read by range, without walking from message to message.
        last_seq: the number of the message that was stored last, on whatever branch.
        active_run_id: the run that has not ended, if there is one.
    """

    id: str = Field(default_factory=new_id)
    user_id: str
    title: str | None = None
    model: str | None = None
    system_prompt: str | None = None
    message_count: int = 0
    archived: bool = False
    pinned: bool = False
    active_run_id: str | None = None
    head_message_id: str | None = None
    last_seq: int = 0
    spans: list[Span] = Field(default_factory=lambda: list(WHOLE))
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)

    def to_wire(self) -> dict[str, Any]:
        """The conversation as every JSON surface shows it."""
        return {
            "id": self.id,
            "title": self.title,
            "model": self.model,
            "system_prompt": self.system_prompt,
            "message_count": self.message_count,
            "archived": self.archived,
            "pinned": self.pinned,
            "active_run_id": self.active_run_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def title_from(text: str) -> str | None:
    """A title made of the first words of `text`, at most `TITLE_LENGTH` characters; None where it has none."""
    words = " ".join(text.split())
    if len(words) <= TITLE_LENGTH:
        return words or None
    cut = words[: TITLE_LENGTH - 1]
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) > TITLE_LENGTH // 2 else cut) + "…"


def clip_spans(spans: list[Span], *, before: int | None = None, after: int | None = None) -> list[tuple[int, int]]:
    """The stretches of `seq` in `spans` that lie after `after` and before `before`, oldest first."""
    low = 1 if after is None else after + 1
    high = 2**62 if before is None else before - 1
    clipped = ((max(first, low), high if last is None else min(last, high)) for first, last in spans)
    return [(first, last) for first, last in clipped if first <= last]
