"""What every conversation repository does."""

from datetime import timedelta

import pytest

from app.core.domain.conversation import Conversation, ModelOptions, Summary
from app.core.domain.errors import InvalidFrame, NotFound
from app.core.domain.message import Message, MessageRole
from app.core.domain.time import utc_now
from app.core.ports import Store


async def made(store: Store, title: str | None = None, user: str = "ann", age: int = 0) -> Conversation:
    moment = utc_now() - timedelta(minutes=age)
    return await store.conversations.create(
        Conversation(user_id=user, title=title, created_at=moment, updated_at=moment)
    )


async def test_what_was_stored_comes_back_whole(store: Store) -> None:
    kept = await store.conversations.create(
        Conversation(user_id="ann", title="Zahlen: ½ €", model="demo@offline", system_prompt="Be brief.\n", pinned=True)
    )
    assert await store.conversations.get(kept.id, "ann") == kept


async def test_nobody_else_finds_changes_or_deletes_it(store: Store) -> None:
    mine = await made(store, "secret plans")
    assert await store.conversations.get(mine.id, "bob") is None
    assert await store.conversations.update(mine.id, "bob", {"title": "x"}) is None
    assert await store.conversations.delete(mine.id, "bob") is False
    assert (await store.conversations.list("bob", limit=10)).items == []
    assert (await store.conversations.list("bob", limit=10, q="secret")).items == []
    kept = await store.conversations.get(mine.id, "ann")
    assert kept is not None
    assert kept.title == "secret plans"


async def test_an_id_that_is_taken_is_refused_without_saying_by_whom(store: Store) -> None:
    mine = await made(store)
    with pytest.raises(NotFound):
        await store.conversations.create(Conversation(id=mine.id, user_id="bob"))


async def test_the_list_goes_on_after_its_cursor_without_gap_or_double(store: Store) -> None:
    stored = [await made(store, f"number {n}", age=n) for n in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.conversations.list("ann", limit=3, cursor=cursor)
        seen += [conversation.id for conversation in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == [conversation.id for conversation in stored]


async def test_conversations_of_the_same_moment_are_listed_once_each(store: Store) -> None:
    moment = utc_now()
    ids = set()
    for _ in range(5):
        kept = await store.conversations.create(Conversation(user_id="ann", created_at=moment, updated_at=moment))
        ids.add(kept.id)
    first = await store.conversations.list("ann", limit=3)
    rest = await store.conversations.list("ann", limit=3, cursor=first.next_cursor)
    assert [len(first.items), len(rest.items)] == [3, 2]
    assert {conversation.id for conversation in first.items + rest.items} == ids


@pytest.mark.parametrize("cursor", ["", "!!", "bm8", "W10", "WzEsMl0", "WyJhIiwiYiJd", "é"])
async def test_a_cursor_that_is_not_ours_is_refused(store: Store, cursor: str) -> None:
    await made(store)
    with pytest.raises(InvalidFrame):
        await store.conversations.list("ann", limit=3, cursor=cursor)


async def test_changing_one_thing_leaves_the_others(store: Store) -> None:
    kept = await made(store, "before", age=5)
    changed = await store.conversations.update(kept.id, "ann", {"title": "after", "pinned": True})
    assert changed is not None
    assert (changed.title, changed.pinned, changed.archived, changed.model) == ("after", True, False, None)
    assert changed.updated_at > kept.updated_at
    assert await store.conversations.get(kept.id, "ann") == changed


async def test_archived_ones_are_listed_when_asked_for(store: Store) -> None:
    old, new = await made(store, age=1), await made(store)
    await store.conversations.update(old.id, "ann", {"archived": True})
    assert {c.id for c in (await store.conversations.list("ann", limit=9)).items} == {old.id, new.id}
    assert [c.id for c in (await store.conversations.list("ann", limit=9, archived=True)).items] == [old.id]
    assert [c.id for c in (await store.conversations.list("ann", limit=9, archived=False)).items] == [new.id]


async def test_search_finds_words_of_titles_and_of_messages_by_their_beginning(store: Store) -> None:
    titled, said, other = await made(store, "Grüne Äpfel"), await made(store, "x"), await made(store, "y")
    await store.messages.create(
        Message(conversation_id=said.id, role=MessageRole.USER, content="The quick (brown) fox; Привет мир!")
    )
    await store.messages.create(
        Message(conversation_id=other.id, role=MessageRole.USER, content=[{"type": "text", "text": "quicksand"}])
    )

    async def found(q: str) -> set[str]:
        return {conversation.id for conversation in (await store.conversations.list("ann", limit=9, q=q)).items}

    assert await found("äpf") == {titled.id}
    assert await found("QUICK") == {said.id, other.id}
    assert await found("quick fox") == {said.id}
    assert await found("привет") == {said.id}
    assert await found("rown") == set()
    assert await found('" OR *') == set()
    assert await found("$where .* [") == set()
    assert await found("(brown") == {said.id}
    assert len(await found("  ")) == 3


async def test_what_is_deleted_is_gone_with_its_messages(store: Store) -> None:
    kept = await made(store)
    await store.messages.create(Message(conversation_id=kept.id, role=MessageRole.USER, content="remember"))
    assert await store.conversations.delete(kept.id, "ann") is True
    assert await store.conversations.get(kept.id, "ann") is None
    assert await store.messages.get_by_conversation_id(kept.id) == []
    assert (await store.conversations.list("ann", limit=9, q="remember")).items == []
    assert await store.conversations.delete(kept.id, "ann") is False


async def test_a_restored_conversation_keeps_ids_places_and_branches(store: Store) -> None:
    conversation = Conversation(user_id="ann", title="old", message_count=3, spans=[(1, 1), (3, None)])
    messages = [
        Message(conversation_id=conversation.id, id="q", seq=1, role=MessageRole.USER, content="?"),
        Message(conversation_id=conversation.id, id="a", seq=2, parent_id="q", role=MessageRole.ASSISTANT, content="1"),
        Message(conversation_id=conversation.id, id="b", seq=3, parent_id="q", role=MessageRole.ASSISTANT, content="2"),
    ]
    conversation.head_message_id = "b"
    conversation.summary = Summary(text="A question", seq=1)
    conversation.model_options = ModelOptions(reasoning_effort="high", temperature=0.5)
    kept = await store.conversations.restore(conversation, messages)
    assert kept.id == conversation.id
    assert await store.conversations.get(kept.id, "ann") == kept
    assert kept.model_options == conversation.model_options
    assert kept.summary == conversation.summary
    assert await store.messages.all(kept.id, limit=10) == messages
    assert [message.id for message in await store.messages.get_by_conversation_id(kept.id)] == ["q", "b"]
    again = await store.conversations.restore(conversation, messages)
    assert again.id != kept.id
    assert [message.id for message in await store.messages.all(again.id, limit=10)] == ["q", "a", "b"]
    appended = await store.messages.create(Message(conversation_id=kept.id, role=MessageRole.USER, content="more"))
    assert (appended.seq, appended.parent_id) == (4, "b")


async def test_counting_adds_up(store: Store) -> None:
    kept = await made(store)
    await store.conversations.increment_message_count(kept.id, 2)
    await store.conversations.increment_message_count(kept.id, 3)
    counted = await store.conversations.get(kept.id, "ann")
    assert counted is not None
    assert counted.message_count == 5


async def test_the_store_answers(store: Store) -> None:
    await store.ping()
