"""What every store does with searches."""

import pytest

from app.core.domain.conversation import Conversation
from app.core.domain.errors import InvalidFrame
from app.core.domain.message import Message, MessageRole
from app.core.ports import Store


async def titles(store: Store, q: str, **options: object) -> list[str | None]:
    page = await store.conversations.list("ann", limit=9, q=q, **options)  # pyright: ignore[reportArgumentType]
    return [conversation.title for conversation in page.items]


async def made(store: Store, title: str, *texts: str, user: str = "ann") -> Conversation:
    kept = await store.conversations.create(Conversation(user_id=user, title=title))
    for text in texts:
        await store.messages.create(Message(conversation_id=kept.id, role=MessageRole.USER, content=text))
    return kept


@pytest.mark.parametrize("q", ["w", "W", " w ", "a b c", "(7)", "é"])
async def test_one_letter_is_refused(store: Store, q: str) -> None:
    with pytest.raises(InvalidFrame, match="at least 2 letters"):
        await store.conversations.list("ann", limit=9, q=q)


async def test_one_ideograph_is_a_word(store: Store) -> None:
    await made(store, "猫")
    assert await titles(store, "猫") == ["猫"]


async def test_too_many_words_are_refused(store: Store) -> None:
    with pytest.raises(InvalidFrame, match="at most 8 words"):
        await store.conversations.list("ann", limit=9, q=" ".join(f"word{n}x" for n in range(9)))


async def test_a_letter_beside_words_is_passed_over(store: Store) -> None:
    await made(store, "Plans", "We keep the zebra")
    assert await titles(store, "a zebra") == ["Plans"]


async def test_words_have_to_meet_in_one_text(store: Store) -> None:
    await made(store, "Garden", "We plant roses", "They water tulips")
    assert await titles(store, "plant ros") == ["Garden"]
    assert await titles(store, "plant tulips") == []
    assert await titles(store, "garden roses") == []


async def test_a_changed_title_is_found_as_it_is_now(store: Store) -> None:
    kept = await made(store, "Monday")
    await store.conversations.update(kept.id, "ann", {"title": "Tuesday"})
    assert await titles(store, "monday") == []
    assert await titles(store, "tuesday") == ["Tuesday"]
    await store.conversations.update(kept.id, "ann", {"title": None})
    assert await titles(store, "tuesday") == []
    await store.conversations.update(kept.id, "ann", {"title": "Friday"})
    await store.conversations.delete(kept.id, "ann")
    await made(store, "Sunday")
    assert await titles(store, "friday") == []
    assert await titles(store, "sun") == ["Sunday"]


async def test_found_ones_are_paged_newest_first_and_by_archive(store: Store) -> None:
    kept = [await made(store, f"Report {number}", "quarterly figures") for number in range(5)]
    await made(store, "Report of Bob", "quarterly figures", user="bob")
    first = await store.conversations.list("ann", limit=3, q="quarterly")
    rest = await store.conversations.list("ann", limit=3, q="quarterly", cursor=first.next_cursor)
    assert [c.id for c in first.items + rest.items] == [c.id for c in reversed(kept)]
    await store.conversations.update(kept[0].id, "ann", {"archived": True})
    assert await titles(store, "report", archived=True) == ["Report 0"]
    assert "Report 0" not in await titles(store, "report", archived=False)


async def test_restored_messages_are_found(store: Store) -> None:
    conversation = Conversation(user_id="ann", title="Imported", message_count=1)
    message = Message(conversation_id=conversation.id, seq=1, role=MessageRole.USER, content="xylophone")
    conversation.head_message_id = message.id
    await store.conversations.restore(conversation, [message])
    assert await titles(store, "xylo") == ["Imported"]
