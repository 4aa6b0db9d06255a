from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.outbound.persistence.memory import MemoryStore
from app.core.domain.conversation import Conversation, Summary
from app.core.domain.message import Message, MessageRole
from app.core.services.context import BLOCK, estimate_tokens, load_context

WORDS = "word " * 16  # 20 tokens and 4 for the message


class Counting:
    """Messages in memory that count what is read of them."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.read = 0

    async def page(
        self, conversation: Conversation, *, limit: int, before: int | None = None, after: int | None = None
    ) -> list[Message]:
        found = [m for m in self.messages if before is None or (m.seq or 0) < before][-limit:]
        self.read += len(found)
        return found


def said(role: str, text: str = WORDS, **metadata: Any) -> Message:
    return Message(conversation_id="c", role=MessageRole(role), content=text, metadata=metadata)


def numbered(messages: list[Message]) -> list[Message]:
    for seq, message in enumerate(messages, 1):
        message.seq = seq
    return messages


def chatter(turns: int) -> list[Message]:
    return numbered([said(role) for _ in range(turns) for role in ("user", "assistant")])


def tool_turn() -> list[Message]:
    call = {"id": "call", "name": "add", "args": {}, "type": "tool_call"}
    return [said("user"), said("assistant", tool_calls=[call]), said("tool", tool_call_id="call"), said("assistant")]


async def load(
    messages: list[Message], *, budget: int = 10**9, prompt: str = "", summary: Summary | None = None
) -> tuple[list[Message], int]:
    source = Counting(messages)
    conversation = Conversation(id="c", user_id="u", summary=summary)
    return await load_context(source, conversation, prompt=prompt, budget=budget), source.read  # pyright: ignore


async def test_a_short_conversation_is_loaded_whole():
    messages = chatter(5)
    context, _ = await load(messages)
    assert context == messages


async def test_what_is_not_sent_is_not_read():
    messages = chatter(50_000)
    context, read = await load(messages, budget=24 * 40)
    assert len(context) == 40
    assert context[-1] is messages[-1]
    assert read <= 40 + BLOCK


async def test_the_window_begins_with_a_user_message():
    context, _ = await load(chatter(50), budget=24 * 11)
    assert context[0].role is MessageRole.USER
    assert len(context) == 10


async def test_the_newest_turn_is_whole_even_when_it_is_too_long():
    messages = numbered(tool_turn() + tool_turn())
    context, _ = await load(messages, budget=1)
    assert context == messages[4:]


async def test_the_prompt_comes_first_and_counts():
    messages = chatter(50)
    context, _ = await load(messages, budget=24 * 10 + 10, prompt="Be kind.\n\nBe brief.")
    assert context[0].role is MessageRole.SYSTEM
    assert context[0].content == "Be kind.\n\nBe brief."
    assert len(context) == 11


async def test_what_is_summarised_is_not_sent():
    messages = chatter(50)
    context, read = await load(messages, summary=Summary(text="They talked.", seq=90))
    assert [message.seq for message in context] == list(range(91, 101))
    assert read <= 2 * BLOCK


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 2_000))
async def test_a_call_is_never_split_from_its_result(shape: list[bool], budget: int):
    messages = numbered([m for with_tool in shape for m in (tool_turn() if with_tool else chatter(1))])
    context, _ = await load(messages, budget=budget)
    calls = [call["id"] for message in context for call in message.tool_calls]
    results = [message.tool_call_id for message in context if message.role is MessageRole.TOOL]
    assert calls == results
    assert context[0].role is MessageRole.USER
    assert context == messages[-len(context) :]
    turns = sum(message.role is MessageRole.USER for message in context)
    assert turns == 1 or sum(map(estimate_tokens, context)) <= budget


async def test_an_open_call_at_the_end_stays_open():
    messages = numbered(tool_turn()[:2])
    assert (await load(messages))[0] == messages


@pytest.mark.parametrize("text", ["", "x", "ascii " * 100, "ÄÖÜ" * 50, "日本語" * 50])
def test_an_estimate_is_a_quarter_of_the_bytes(text: str):
    assert estimate_tokens(said("user", text)) == 4 + -(-len(text.encode()) // 4)


def test_an_image_has_a_flat_price():
    image = {"type": "image_url", "image_url": {"url": "data:" + "x" * 1_000_000}}
    message = Message(conversation_id="c", role=MessageRole.USER, content=[image])
    assert estimate_tokens(message) == 1_004


async def test_the_memory_store_gives_the_same_window():
    store = MemoryStore()
    conversation = await store.conversations.create(Conversation(user_id="u"))
    for message in chatter(100):
        await store.messages.create(message.model_copy(update={"conversation_id": conversation.id, "seq": None}))
    context = await load_context(store.messages, conversation, prompt="", budget=24 * 20)
    assert [message.seq for message in context] == list(range(181, 201))
