"""The context window: the newest part of a conversation that a model is sent, read from its end."""

from collections.abc import Sequence

import orjson

from app.core.domain.conversation import Conversation
from app.core.domain.message import Message, MessageRole
from app.core.ports import IMessageRepository, ModelFacts
from app.core.services.repair import repair

BLOCK = 64
"""Messages that are read at once; what does not fit the budget is not read at all, but for the rest of its block."""

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 4
IMAGE_TOKENS = 1_000


ANSWER_TOKENS = 8_192
"""Room that is left for an answer."""

RESULT_SHARE = 4
"""A model is sent at most this part of its budget of one tool result: a quarter."""

MIN_RESULT_TOKENS = 200
"""What is left of a tool result where many of them are too much together."""


def context_budget(limit: int, facts: ModelFacts) -> int:
    """How many tokens of a conversation a model is sent: `limit`, or what the model takes less its answer."""
    if facts.context_tokens is None:
        return limit
    answer = min(facts.output_tokens or ANSWER_TOKENS, ANSWER_TOKENS, facts.context_tokens // 2)
    return min(limit, facts.context_tokens - answer)


def estimate_tokens(message: Message) -> int:
    """About how many tokens a model counts for `message`: a quarter of its bytes, and a flat price for other parts.

    An estimate that needs no tokenizer: it is near the truth for European languages and errs to the large side
    for others, since their characters take more bytes.
    """
    size = MESSAGE_TOKENS
    if isinstance(message.content, str):
        size += text_tokens(message.content)
    else:
        for part in message.content:
            text = part.get("text")
            size += text_tokens(text) if isinstance(text, str) else IMAGE_TOKENS
    for call in message.tool_calls:
        size += len(orjson.dumps(call)) // BYTES_PER_TOKEN
    return size


def text_tokens(text: str) -> int:
    """About how many tokens `text` has."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-size // BYTES_PER_TOKEN)


def result_limit(budget: int) -> int:
    """How many tokens of one tool result a model is sent."""
    return max(budget // RESULT_SHARE, MIN_RESULT_TOKENS)


def result_allowances(results: Sequence[int], others: int, budget: int) -> list[int]:
    """How many tokens of each tool result fit beside `others`: where they do not, the oldest give way first."""
    limit = result_limit(budget)
    allowed = [min(size, limit) for size in results]
    excess = others + sum(allowed) - budget
    for index, size in enumerate(allowed):
        if excess <= 0:
            break
        cut = max(0, min(excess, size - MIN_RESULT_TOKENS))
        allowed[index] -= cut
        excess -= cut
    return allowed


def shortened(text: str, tokens: int) -> str:
    """The beginning and the end of a text that has more than `tokens`, with a note between them."""
    if text_tokens(text) <= tokens:
        return text
    share = tokens / text_tokens(text)
    kept = max(0, int(len(text) * share) - _NOTE_LENGTH)
    head, tail = kept - kept // 4, kept // 4
    left_out = len(text) - head - tail
    note = f"[… {left_out:,} characters of this result are left out here, because it is too long for the context …]"
    return f"{text[:head]}\n{note}\n{text[len(text) - tail :]}"


_NOTE_LENGTH = 120


async def load_context(
    messages: IMessageRepository,
    conversation: Conversation,
    *,
    prompt: str,
    budget: int,
    newest: Message | None = None,
) -> list[Message]:
    """What the model is sent for the next step of a conversation: the system prompt and the newest messages.

    The history is repaired, the calls of its last assistant message may be open, and its window begins with a
    user message where it holds one, never with a result whose call was cut off. The newest turn is always
    whole, even where it alone is larger than the budget.

    Args:
        messages: where the history is read from.
        conversation: whose active branch it is.
        prompt: the system prompt, whole.
        budget: tokens for all of it, as `estimate_tokens` counts. A tool result counts as at most `result_limit`: it
            is here whole, and shortened where it is sent.
        newest: the last message of the branch, where the caller has it at hand.
    """
    head = [Message(conversation_id=conversation.id, role=MessageRole.SYSTEM, content=prompt)] if prompt else []
    room = budget - sum(estimate_tokens(message) for message in head)

    limit = result_limit(budget)
    window = [newest] if newest is not None else []  # newest first
    room -= sum(_sent_tokens(message, limit) for message in window)
    before = newest.seq if newest is not None else None
    told = summarised(conversation)
    while before != 1:
        block = await messages.page(conversation, limit=BLOCK, before=before)
        for message in reversed(block):
            if (message.seq or 0) <= told:
                return head + repair(reversed(window), keep_open=True)
            room -= _sent_tokens(message, limit)
            if room < 0 and _has_user(window):
                return head + _cut(window)
            window.append(message)
        if len(block) < BLOCK:
            break
        before = block[0].seq
    return head + repair(reversed(window), keep_open=True)


def _sent_tokens(message: Message, limit: int) -> int:
    tokens = estimate_tokens(message)
    return min(tokens, limit) if message.role is MessageRole.TOOL else tokens


def summarised(conversation: Conversation) -> int:
    """The last message of the active branch that the summary stands for; 0 where it counts on another branch."""
    seq = conversation.summary.seq if conversation.summary is not None else 0
    on_branch = any(low <= seq and (high is None or seq <= high) for low, high in conversation.spans)
    return seq if on_branch else 0


def _has_user(window: Sequence[Message]) -> bool:
    return any(message.role is MessageRole.USER for message in window)


def _cut(newest_first: list[Message]) -> list[Message]:
    """The window in order, from its first user message on, repaired."""
    window = newest_first[::-1]
    start = next(index for index, message in enumerate(window) if message.role is MessageRole.USER)
    return repair(window[start:], keep_open=True)
