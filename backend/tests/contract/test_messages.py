"""What every message repository does."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.domain.conversation import Conversation
from app.core.domain.errors import NotFound
from app.core.domain.message import Message, MessageRole
from app.core.ports import Store

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=60)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["$where", "a.b", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


async def conversation(store: Store, count: int = 0) -> Conversation:
    made = await store.conversations.create(Conversation(user_id="ann"))
    for number in range(count):
        await store.messages.create(
            Message(conversation_id=made.id, id=f"m{number + 1}", role=MessageRole.USER, content=f"{number + 1}")
        )
    return await store.conversations.get(made.id, "ann") or made


async def test_messages_are_numbered_and_linked_in_order(store: Store) -> None:
    made = await conversation(store, 3)
    kept = await store.messages.get_by_conversation_id(made.id)
    assert [(m.seq, m.id, m.parent_id) for m in kept] == [(1, "m1", None), (2, "m2", "m1"), (3, "m3", "m2")]


async def test_a_message_stored_twice_is_stored_once(store: Store) -> None:
    made = await conversation(store, 2)
    again = await store.messages.create(
        Message(conversation_id=made.id, id="m1", role=MessageRole.USER, content="other")
    )
    assert again.seq == 1
    kept = await store.messages.get_by_conversation_id(made.id)
    assert [message.content for message in kept] == ["1", "2"]


async def test_the_same_message_id_may_stand_in_two_conversations(store: Store) -> None:
    one, two = await conversation(store, 1), await conversation(store, 1)
    assert len(await store.messages.get_by_conversation_id(one.id)) == 1
    assert len(await store.messages.get_by_conversation_id(two.id)) == 1


async def test_a_message_needs_its_conversation(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.messages.create(Message(conversation_id="nowhere", role=MessageRole.USER, content="x"))


async def test_pages_go_back_from_the_end_and_on_from_a_place(store: Store) -> None:
    made = await conversation(store, 7)

    async def page(**where: Any) -> list[int | None]:
        return [message.seq for message in await store.messages.page(made, **where)]

    assert await page(limit=3) == [5, 6, 7]
    assert await page(limit=3, before=5) == [2, 3, 4]
    assert await page(limit=3, before=2) == [1]
    assert await page(limit=3, before=1) == []
    assert await page(limit=3, after=0) == [1, 2, 3]
    assert await page(limit=3, after=6) == [7]
    assert await page(limit=3, after=7) == []
    assert await page(limit=3, after=2**53) == []
    assert await page(limit=200, before=2**53) == [1, 2, 3, 4, 5, 6, 7]


async def test_pages_follow_the_active_branch_over_its_forks(store: Store) -> None:
    made = await conversation(store, 9)
    forked = made.model_copy(update={"spans": [(1, 2), (5, 6), (9, None)]})

    async def page(**where: Any) -> list[int | None]:
        return [message.seq for message in await store.messages.page(forked, **where)]

    assert await page(limit=10) == [1, 2, 5, 6, 9]
    assert await page(limit=2) == [6, 9]
    assert await page(limit=2, before=6) == [2, 5]
    assert await page(limit=2, after=2) == [5, 6]
    assert await page(limit=9, after=6) == [9]


async def test_all_branches_can_be_read_in_blocks(store: Store) -> None:
    made = await conversation(store, 5)
    first = await store.messages.all(made.id, limit=3)
    rest = await store.messages.all(made.id, limit=3, after=3)
    assert [message.seq for message in first + rest] == [1, 2, 3, 4, 5]


async def test_messages_are_found_by_their_ids(store: Store) -> None:
    made = await conversation(store, 3)
    found = await store.messages.get_many(made.id, ["m3", "nothing", "m1"])
    assert [message.id for message in found] == ["m1", "m3"]
    assert await store.messages.get_many("nowhere", ["m1"]) == []
    assert await store.messages.get_many(made.id, []) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)
@given(
    role=st.sampled_from(MessageRole),
    content=TEXT | st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3),
    metadata=st.dictionaries(TEXT, JSON, max_size=4),
)
async def test_any_content_and_metadata_come_back_as_they_were(
    store: Store, role: MessageRole, content: Any, metadata: dict[str, Any]
) -> None:
    made = await conversation(store)
    kept = await store.messages.create(Message(conversation_id=made.id, role=role, content=content, metadata=metadata))
    assert await store.messages.get_by_conversation_id(made.id) == [kept]
