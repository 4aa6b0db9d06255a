"""A conversation: a tree of messages with one active branch, owned by one user."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.domain.errors import NotFound
from app.core.domain.ids import new_id
from app.core.domain.time import utc_now
from app.core.domain.tool import Approval

TITLE_LENGTH = 80

Fork = tuple[int, int]
"""The first `seq` of a stretch of messages, and the `seq` of the message that it goes on from, 0 for none."""

_ATTACHMENT_MARK = "<attachment name="
_ATTACHMENT = re.compile(r'<attachment name="?([^\n>]*?)"?>\n.*?</attachment>', re.DOTALL)
"""A text file in a message."""

Span = tuple[int, int | None]
"""A stretch of `seq` from the first to the last, both included; None is open to the future."""

WHOLE: list[Span] = [(1, None)]


class Summary(BaseModel):
    """What models are told in place of the older messages of a branch.

    Attributes:
        seq: the last message that it stands for; it counts on branches that go through that message.
    """

    text: str
    seq: int


class ModelOptions(BaseModel):
    """How a model is to answer; None where it is left to the model or its provider.

    Each provider is asked in its own words, and a hint that it does not know is left out.

    Attributes:
        reasoning_effort: how long it thinks; the nearest effort that the model has.
        max_output_tokens: how long an answer may be, thinking included.
    """

    model_config = ConfigDict(extra="forbid")

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_output_tokens: int | None = Field(default=None, ge=1, le=1_000_000)

    def in_chat_words(self) -> dict[str, Any]:
        """What is set, in the words of OpenAI's chat completions."""
        names = {"max_output_tokens": "max_completion_tokens"}
        return {names.get(name, name): value for name, value in self.model_dump(exclude_none=True).items()}


class Conversation(BaseModel):
    """A conversation and what the list of conversations shows of it.

    Attributes:
        head_message_id: the last message of the active branch.
        spans: the active branch as stretches of `seq`, oldest first. Messages are numbered as they are
            stored, so a branch that nobody left is one open stretch, and each fork adds one: any part of
            the branch can be read by range, without walking from message to message.
        forks: where the tree branches: each stretch of messages that does not go on from the one before it, in
            order. Every branch can be told from them, without reading a message.
        tool_approval: for tools by name, or `*` for all, `auto`, `ask` or `deny`, before what the settings say.
        model_options: how its model is to answer.
        summary: what models are told in place of the older messages; those stay in the history.
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
    forks: list[Fork] = Field(default_factory=list[Fork])
    tool_approval: dict[str, Approval] = Field(default_factory=dict[str, Approval])
    model_options: ModelOptions = ModelOptions()
    summary: Summary | None = None
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
            "tool_approval": self.tool_approval,
            "model_options": self.model_options.model_dump(exclude_none=True),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def branch_to(forks: list[Fork], seq: int) -> list[tuple[int, int]]:
    """The branch that ends in message `seq`, as stretches from the first message on."""
    spans: list[tuple[int, int]] = []
    while seq > 0:
        start, parent = _stretch_of(forks, seq)
        spans.append((start, seq))
        seq = parent
    return spans[::-1]


def _stretch_of(forks: Sequence[Fork], seq: int) -> Fork:
    """The stretch that message `seq` is in: where it begins, and the message that it goes on from. `forks` are in order."""
    place = bisect_right(forks, seq, key=lambda fork: fork[0])
    return (forks[place - 1][0], forks[place - 1][1]) if place else (1, 0)


def go_on_from(conversation: Conversation, seq: int) -> tuple[list[Fork], list[Span]]:
    """`forks` and `spans` of the conversation when what is stored next goes on from message `seq` (0: from none)."""
    start = conversation.last_seq + 1
    forks = [fork for fork in conversation.forks if fork[0] != start]
    if seq == conversation.last_seq:
        spans: list[Span] = [*branch_to(forks, seq)]
        first = spans.pop()[0] if spans else 1
        return forks, [*spans, (first, None)]
    forks.append((start, seq))
    return forks, [*branch_to(forks, seq), (start, None)]


def newest_stretch_behind(conversation: Conversation, seq: int) -> tuple[int, int]:
    """The last stretch of the newest branch that goes through message `seq`: its first and last `seq`."""
    parents = {1: 0} | dict(conversation.forks)
    starts = sorted(parents)
    passes: dict[int, bool] = {}  # whether the branch up to the beginning of a stretch goes through the message
    for start in starts:
        parent = parents[start]
        before = _stretch_of(conversation.forks, parent)[0] if parent > 0 else 0
        passes[start] = 0 < before <= seq <= parent or (seq < before and passes[before])
    ends = [start - 1 for start in starts[1:]] + [conversation.last_seq]
    for start, end in zip(reversed(starts), reversed(ends), strict=True):
        if start <= seq <= end or (seq < start <= end and passes[start]):
            return start, end
    return seq, seq


def title_from(text: str) -> str | None:
    """A title made of the first words of `text`, at most `TITLE_LENGTH` characters; None where it has none."""
    if _ATTACHMENT_MARK in text:
        said = _ATTACHMENT.sub(" ", text)
        text = said if said.strip() else ", ".join(_ATTACHMENT.findall(text))
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


def existing(conversation: Conversation | None) -> Conversation:
    """A conversation that was looked for.

    Raises:
        NotFound: it was not found.
    """
    if conversation is None:
        raise NotFound("There is no such conversation.")
    return conversation
