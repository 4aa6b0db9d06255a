"""Repairs of stored conversations, over every store: each kind of damage is undone, and the second repair changes nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from app.adapters.outbound.persistence.memory import MemoryStore
from app.adapters.outbound.persistence.mongo import MongoStore
from app.adapters.outbound.persistence.sqlite.store import SqliteStore
from app.core.domain.conversation import Conversation
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import Run, RunStatus
from app.core.domain.time import utc_now
from app.core.ports import Amendment, Place, Step, Store
from app.core.services.checker import check
from app.core.services.store_repair import Repaired, repair_all
from tests.contract.test_runs import accept, answer, lease

Damage = Callable[[Store, Conversation, list[Run]], Awaitable[None]]


def note(run: Run, kind: str, what: Any) -> None:
    run.last_seq += 1
    run.outline.append([run.last_seq, kind, what])


async def end(store: Store, run: Run, *messages: Message) -> None:
    for message in messages:
        note(run, "message", message.id)
    note(run, "complete", {})
    run.status, run.ended_at = RunStatus.COMPLETED, utc_now()
    await store.runs.commit(Step(run=run, owner="one", messages=messages))


async def a_conversation(store: Store) -> tuple[Conversation, list[Run]]:
    """Two turns, and a second branch behind the first one."""
    first = (await accept(store, Conversation(user_id="ann"), message_id="q1")).run
    await end(store, first, answer(first, "one"))
    second = (await accept(store, first.conversation_id, message_id="q2")).run
    await end(store, second, answer(second, "two"))
    conversation = await store.conversations.get(first.conversation_id, "ann")
    assert conversation is not None
    assert await check(store, conversation.id, "ann") == []
    return conversation, [first, second]


async def amend(store: Store, conversation: Conversation, **changes: Any) -> None:
    """Damage a conversation: what mends it can also break it."""
    same = Amendment(
        read=conversation,
        head_message_id=conversation.head_message_id,
        message_count=conversation.message_count,
        last_seq=conversation.last_seq,
        active_run_id=conversation.active_run_id,
    )
    assert await store.conversations.amend(replace(same, **changes))


async def wrong_count(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await amend(store, conversation, message_count=7)


async def wrong_head(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await amend(store, conversation, head_message_id="q1")


async def wrong_last_seq(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await amend(store, conversation, last_seq=3)


async def wrong_parent(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await amend(store, conversation, parents={runs[1].last_message_id or runs[1].outline[-2][2]: "q1"})


async def parent_that_is_gone(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await amend(store, conversation, parents={"q2": "nobody"})


async def ended_run_in_the_queue(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await amend(store, conversation, places={runs[1].id: 1})


async def run_that_nobody_drives(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    lost = runs[1].model_copy(deep=True)
    lost.status, lost.ended_at = RunStatus.RUNNING, None
    lost.outline.pop()
    lost.last_seq -= 1
    await amend(store, conversation, runs=[lost])


async def run_that_told_its_end_and_goes_on(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    lost = runs[1].model_copy(deep=True)
    lost.status, lost.ended_at = RunStatus.RUNNING, None
    await amend(store, conversation, runs=[lost])


async def run_that_ended_without_a_word(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    silent = runs[1].model_copy(deep=True)
    silent.outline.pop()
    silent.last_seq -= 1
    await amend(store, conversation, runs=[silent])


def call(name: str) -> dict[str, Any]:
    return {"tool_calls": [{"id": name, "name": "add", "args": {}, "type": "tool_call"}]}


async def open_call_at_the_end(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    asks = Message(conversation_id=conversation.id, role=MessageRole.ASSISTANT, content="", metadata=call("c1"))
    await store.messages.create(asks)
    await store.conversations.increment_message_count(conversation.id, 1)


async def open_calls_on_two_branches(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await open_call_at_the_end(store, conversation, runs)
    await store.conversations.move(conversation.id, "ann", Place(2, runs[0].outline[-2][2]))
    asks = Message(conversation_id=conversation.id, role=MessageRole.ASSISTANT, content="", metadata=call("c2"))
    await store.messages.create(asks)
    await store.conversations.increment_message_count(conversation.id, 1)


async def a_result_that_is_gone(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    run = (await accept(store, conversation.id, message_id="q3")).run
    asks = answer(run, "")
    asks.metadata = call("c1")
    await store.runs.commit(Step(run=run, owner="one", messages=[asks]))
    result = Message(
        conversation_id=conversation.id,
        role=MessageRole.TOOL,
        content="3",
        metadata={"tool_call_id": "c1", "name": "add", "status": "success"},
    )
    run.answer_id = "done"
    await end(store, run, result, answer(run, "three"))
    await remove_message(store, conversation.id, result)


async def remove_message(store: Store, conversation_id: str, message: Message) -> None:
    """Lose a message, as no part of the service does."""
    if isinstance(store, MemoryStore):
        record = store.records[conversation_id]
        del record.messages[record.seqs.pop(message.id)]
    elif isinstance(store, MongoStore):
        await store.collections.messages.delete_one({"conversation_id": conversation_id, "id": message.id})
    else:
        assert isinstance(store, SqliteStore)
        query = "DELETE FROM messages WHERE id = ?"
        await store._database.write(lambda connection: connection.execute(query, (message.id,)))


async def all_at_once(store: Store, conversation: Conversation, runs: list[Run]) -> None:
    await open_calls_on_two_branches(store, conversation, runs)
    now = await store.conversations.get(conversation.id, "ann")
    assert now is not None
    await amend(store, now, message_count=0, last_seq=1, head_message_id=None, parents={"q2": None})


DAMAGES: list[Damage] = [
    wrong_count,
    wrong_head,
    wrong_last_seq,
    wrong_parent,
    parent_that_is_gone,
    ended_run_in_the_queue,
    run_that_nobody_drives,
    run_that_told_its_end_and_goes_on,
    run_that_ended_without_a_word,
    open_call_at_the_end,
    a_result_that_is_gone,
    open_calls_on_two_branches,
    all_at_once,
]


async def repaired(store: Store) -> list[Repaired]:
    return [one async for one in repair_all(store)]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_damage_is_found_and_repaired_once(store: Store, damage: Damage) -> None:
    conversation, runs = await a_conversation(store)
    text = [message.text for message in await store.messages.get_by_conversation_id(conversation.id)]
    await damage(store, conversation, runs)
    assert await check(store, conversation.id, "ann") != []
    [done] = await repaired(store)
    assert (done.left, done.was_busy) == ([], False)
    assert done.changes
    assert await repaired(store) == []
    stored = {message.text for message in await store.messages.all(conversation.id, limit=99)}
    assert set(text) <= stored


async def test_a_repaired_conversation_goes_on(store: Store) -> None:
    conversation, runs = await a_conversation(store)
    await all_at_once(store, conversation, runs)
    await repaired(store)
    third = (await accept(store, conversation.id, message_id="q3")).run
    assert third.status is RunStatus.RUNNING
    await end(store, third, answer(third, "three"))
    assert await check(store, conversation.id, "ann") == []


async def test_a_queued_run_without_a_place_gets_one(store: Store) -> None:
    first = (await accept(store, Conversation(user_id="ann"), message_id="q1")).run
    queued = (await accept(store, first.conversation_id, message_id="q2")).run
    await end(store, first, answer(first, "one"))
    conversation = await store.conversations.get(first.conversation_id, "ann")
    assert conversation is not None
    await amend(store, conversation, places={queued.id: None})
    [done] = await repaired(store)
    assert done.left == []
    promoted = await store.runs.promote(first.conversation_id, lease())
    assert promoted is not None
    assert promoted.run.id == queued.id


async def test_what_was_told_and_never_stored_is_named_and_left(store: Store) -> None:
    conversation, runs = await a_conversation(store)
    more = runs[1].model_copy(deep=True)
    more.outline.insert(-2, [more.outline[-2][0], "token", more.outline[-2][2], [99]])
    for entry in more.outline[-2:]:
        entry[0] += 1
    more.last_seq += 1
    await amend(store, conversation, runs=[more])
    [done] = await repaired(store)
    assert done.changes == []
    assert [violation.promise for violation in done.left] == [4]


async def test_a_conversation_that_changed_meanwhile_is_left_alone(store: Store) -> None:
    conversation, _ = await a_conversation(store)
    await store.conversations.update(conversation.id, "ann", {"title": "Another"})
    stale = Amendment(read=conversation, head_message_id=None, message_count=0, last_seq=0, active_run_id=None)
    assert await store.conversations.amend(stale) is False
    assert await check(store, conversation.id, "ann") == []
