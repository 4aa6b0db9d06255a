"""What every run repository does: idempotent acceptance, steps, queues and leases."""

import asyncio
from datetime import timedelta

import pytest

from app.adapters.outbound.persistence.memory import MemoryStore
from app.adapters.outbound.persistence.mongo import MongoStore
from app.adapters.outbound.persistence.skipped import SKIPPED
from app.adapters.outbound.persistence.sqlite.store import SqliteStore
from app.core.domain.conversation import Conversation
from app.core.domain.errors import ConversationBusy, LeaseLost, MessageConflict, NotFound
from app.core.domain.ids import new_id
from app.core.domain.message import Content, Message, MessageRole
from app.core.domain.run import OnBusy, Run, RunStatus
from app.core.domain.time import utc_now
from app.core.ports import Acceptance, Accepted, Lease, Place, Step, Store


def lease(owner: str = "one", seconds: int = 30) -> Lease:
    return Lease(owner, utc_now() + timedelta(seconds=seconds))


async def accept(
    store: Store,
    conversation: Conversation | str,
    *,
    message_id: str | None = None,
    on_busy: OnBusy = OnBusy.QUEUE,
    user: str = "ann",
    held: Lease | None = None,
    go_on_from: Place | None = None,
    content: Content = "hi",
    anywhere: bool | None = None,
    keep_model: bool = False,
    skill: str | None = None,
) -> Accepted:
    create = conversation if isinstance(conversation, Conversation) else None
    conversation_id = create.id if create else str(conversation)
    message_id = message_id or new_id()
    run = Run(
        conversation_id=conversation_id,
        user_id=user,
        model="demo@offline",
        message_id=message_id,
        request={"content": content, **({"skill": skill} if skill else {})},
    )
    message = Message(id=message_id, conversation_id=conversation_id, role=MessageRole.USER, content=content)
    return await store.runs.accept(
        Acceptance(
            run=run,
            message=message,
            on_busy=on_busy,
            lease=held or lease(),
            create=create,
            anywhere=create is not None if anywhere is None else anywhere,
            keep_model=keep_model,
            go_on_from=go_on_from,
        )
    )


def answer(run: Run, text: str = "yes") -> Message:
    return Message(id=run.answer_id, conversation_id=run.conversation_id, role=MessageRole.ASSISTANT, content=text)


async def finish(store: Store, run: Run, *messages: Message, owner: str = "one") -> bool:
    run.status, run.ended_at = RunStatus.COMPLETED, utc_now()
    return await store.runs.commit(Step(run=run, owner=owner, messages=messages))


async def contents(store: Store, conversation_id: str) -> list[tuple[int | None, str, str]]:
    messages = await store.messages.get_by_conversation_id(conversation_id)
    return [(message.seq, message.role.value, message.text) for message in messages]


async def test_a_turn_stores_its_messages_and_frees_the_conversation(store: Store) -> None:
    accepted = await accept(store, Conversation(user_id="ann", title="t"))
    run = accepted.run
    assert accepted.is_new
    assert accepted.message is not None
    assert (accepted.message.seq, accepted.message.parent_id) == (1, None)
    assert accepted.conversation.message_count == 1
    busy = await store.conversations.get(run.conversation_id, "ann")
    assert busy is not None
    assert busy.active_run_id == run.id
    [active] = await store.runs.of_conversation(run.conversation_id)
    assert active is not None
    assert active.id == run.id

    reply = answer(run)
    assert await finish(store, run, reply) is False
    assert (reply.seq, reply.parent_id) == (2, accepted.message.id)
    kept = await store.conversations.get(run.conversation_id, "ann")
    assert kept is not None
    assert (kept.active_run_id, kept.message_count, kept.head_message_id) == (None, 2, reply.id)
    assert await contents(store, run.conversation_id) == [(1, "user", "hi"), (2, "assistant", "yes")]
    idle = await store.conversations.get(run.conversation_id, "ann")
    assert idle is not None
    assert idle.active_run_id is None


async def test_a_run_comes_back_as_it_was_stored(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    run.usage, run.finish_reason, run.last_message_id = {"total_tokens": 3}, "stop", "m"
    run.error, run.last_seq, run.outline = {"code": "internal", "message": "✗"}, 9, [[1, "token", "m", [3, 4]]]
    await finish(store, run)
    run.request = {}
    kept = await store.runs.get(run.id, "ann")
    assert kept is not None
    kept.request = {}
    assert kept == run
    assert await store.runs.get(run.id, "bob") is None
    assert await store.runs.get("nothing", "ann") is None


async def test_a_message_sent_twice_runs_once(store: Store) -> None:
    first = await accept(store, Conversation(user_id="ann"), message_id="m1")
    again = await accept(store, Conversation(user_id="ann"), message_id="m1")
    assert not again.is_new
    assert again.run.id == first.run.id
    assert again.run.conversation_id == first.run.conversation_id
    await finish(store, first.run, answer(first.run))
    later = await accept(store, first.run.conversation_id, message_id="m1")
    assert (later.is_new, later.run.id, later.run.status) == (False, first.run.id, RunStatus.COMPLETED)
    assert len(await contents(store, first.run.conversation_id)) == 2
    assert len((await store.conversations.list("ann", limit=9)).items) == 1


async def test_the_same_message_sent_at_the_same_moment_runs_once(store: Store) -> None:
    made = await store.conversations.create(Conversation(user_id="ann"))
    outcomes = await asyncio.gather(*(accept(store, made.id, message_id="m1") for _ in range(8)))
    assert len({outcome.run.id for outcome in outcomes}) == 1
    assert sum(outcome.is_new for outcome in outcomes) == 1
    assert await contents(store, made.id) == [(1, "user", "hi")]


async def test_two_users_may_use_the_same_message_id(store: Store) -> None:
    mine = await accept(store, Conversation(user_id="ann"), message_id="m1")
    theirs = await accept(store, Conversation(user_id="bob"), message_id="m1", user="bob")
    assert theirs.is_new
    assert theirs.run.id != mine.run.id


async def test_a_message_id_of_the_conversation_is_not_taken_again(store: Store) -> None:
    made = await store.conversations.create(Conversation(user_id="ann"))
    await store.messages.create(Message(conversation_id=made.id, id="old", role=MessageRole.ASSISTANT, content="x"))
    with pytest.raises(MessageConflict):
        await accept(store, made.id, message_id="old")
    assert await contents(store, made.id) == [(1, "assistant", "x")]
    assert (await accept(store, made.id)).message is not None


async def test_nobody_speaks_in_a_conversation_of_another(store: Store) -> None:
    made = await store.conversations.create(Conversation(user_id="ann"))
    for conversation_id in (made.id, "nowhere"):
        with pytest.raises(NotFound):
            await accept(store, conversation_id, user="bob")
    assert await contents(store, made.id) == []


async def test_a_busy_conversation_refuses_when_asked_to(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    with pytest.raises(ConversationBusy):
        await accept(store, run.conversation_id, on_busy=OnBusy.REJECT)
    assert len(await contents(store, run.conversation_id)) == 1


async def test_queued_runs_take_their_turns_in_order(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    conversation_id = run.conversation_id
    waiting = [await accept(store, conversation_id, message_id=f"w{n}") for n in range(3)]
    assert [outcome.run.status for outcome in waiting] == [RunStatus.QUEUED] * 3
    assert all(outcome.message is None for outcome in waiting)
    assert await store.runs.promote(conversation_id, lease()) is None
    assert await finish(store, run, answer(run)) is True
    for number in range(3):
        promoted = await store.runs.promote(conversation_id, lease())
        assert promoted is not None
        assert promoted.message is not None
        assert (promoted.run.id, promoted.run.status) == (waiting[number].run.id, RunStatus.RUNNING)
        assert promoted.message.id == f"w{number}"
        assert await finish(store, promoted.run, answer(promoted.run)) is (number < 2)
    assert await store.runs.promote(conversation_id, lease()) is None
    assert [role for _, role, _ in await contents(store, conversation_id)] == ["user", "assistant"] * 4
    kept = await store.conversations.get(conversation_id, "ann")
    assert kept is not None
    assert kept.message_count == 8


async def test_an_interrupting_run_goes_before_those_that_wait(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    await accept(store, run.conversation_id, message_id="waits")
    await accept(store, run.conversation_id, message_id="urgent", on_busy=OnBusy.INTERRUPT)
    await finish(store, run, answer(run))
    promoted = await store.runs.promote(run.conversation_id, lease())
    assert promoted is not None
    assert promoted.run.message_id == "urgent"


async def test_the_message_of_a_cancelled_queued_run_is_kept(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    waiting = await accept(store, run.conversation_id, message_id="never mind")
    assert await store.runs.cancel_queued(waiting.run.id, "bob") is None
    cancelled = await store.runs.cancel_queued(waiting.run.id, "ann")
    assert cancelled is not None
    assert cancelled.status is RunStatus.CANCELLED
    assert await store.runs.cancel_queued(run.id, "ann") is None
    assert await finish(store, run, answer(run)) is True
    assert await store.runs.promote(run.conversation_id, lease()) is None
    assert [role for _, role, _ in await contents(store, run.conversation_id)] == ["user", "assistant", "user"]
    kept = await store.conversations.get(run.conversation_id, "ann")
    assert kept is not None
    assert (kept.message_count, kept.active_run_id) == (3, None)
    assert (await accept(store, run.conversation_id)).message is not None


async def test_a_step_stored_twice_is_stored_once(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    reply = answer(run)
    for _ in range(2):
        await store.runs.commit(Step(run=run, owner="one", messages=[reply.model_copy()]))
    kept = await store.conversations.get(run.conversation_id, "ann")
    assert kept is not None
    assert (len(await contents(store, run.conversation_id)), kept.message_count) == (2, 2)
    later = Message(conversation_id=run.conversation_id, role=MessageRole.TOOL, content="4")
    await finish(store, run, later)
    assert later.parent_id == reply.id


async def test_who_lost_the_lease_writes_nothing(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"), held=lease("dead", -1))).run
    claimed = await store.runs.claim(lease("new"), now=utc_now())
    assert [outcome.run.id for outcome in claimed] == [run.id]
    assert claimed[0].message is None
    with pytest.raises(LeaseLost):
        await finish(store, run.model_copy(), answer(run), owner="dead")
    assert await contents(store, run.conversation_id) == [(1, "user", "hi")]
    await finish(store, claimed[0].run, answer(run, "from the new owner"), owner="new")
    assert (await contents(store, run.conversation_id))[1:] == [(2, "assistant", "from the new owner")]


async def test_an_ended_run_cannot_be_written_again(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    await finish(store, run, answer(run))
    with pytest.raises(LeaseLost):
        await finish(store, run, Message(conversation_id=run.conversation_id, role=MessageRole.USER, content="late"))


async def test_a_lease_that_is_renewed_is_not_claimed(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"), held=lease("one", 1))).run
    await store.runs.renew(lease("one", 60), [run.conversation_id, "nowhere"])
    assert await store.runs.claim(lease("one"), now=utc_now() + timedelta(seconds=30)) == []


async def test_a_queue_without_a_run_before_it_is_claimed(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    waiting = await accept(store, run.conversation_id)
    await finish(store, run, answer(run))
    claimed = await store.runs.claim(lease("one"), now=utc_now())
    assert [(outcome.run.id, outcome.message is not None) for outcome in claimed] == [(waiting.run.id, True)]


async def test_deleting_a_conversation_takes_its_runs_along(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    await store.conversations.delete(run.conversation_id, "ann")
    assert await store.runs.get(run.id, "ann") is None
    with pytest.raises(LeaseLost):
        await finish(store, run, answer(run))


async def test_an_edit_begins_a_branch_and_nothing_is_overwritten(store: Store) -> None:
    first = (await accept(store, Conversation(user_id="ann"), message_id="q1")).run
    await finish(store, first, answer(first))
    second = (await accept(store, first.conversation_id, message_id="q2")).run
    await finish(store, second, answer(second, "two"))
    edited = await accept(
        store, first.conversation_id, message_id="q2b", on_busy=OnBusy.REJECT, go_on_from=Place(2, first.answer_id)
    )
    assert edited.message is not None
    assert (edited.message.seq, edited.message.parent_id) == (5, first.answer_id)
    await finish(store, edited.run, answer(edited.run, "three"))
    assert [seq for seq, _, _ in await contents(store, first.conversation_id)] == [1, 2, 5, 6]
    assert len(await store.messages.all(first.conversation_id, limit=10)) == 6

    stored = await store.messages.get_many(first.conversation_id, ["q2"])
    back = await store.conversations.move(first.conversation_id, "ann", Place(4, second.last_message_id or "x"))
    assert back is not None
    assert [seq for seq, _, _ in await contents(store, first.conversation_id)] == [1, 2, 3, 4]
    assert stored[0].seq == 3
    third = await accept(store, first.conversation_id, message_id="q3")
    assert third.message is not None
    assert third.message.seq == 7
    assert [seq for seq, _, _ in await contents(store, first.conversation_id)] == [1, 2, 3, 4, 7]
    page = await store.messages.page(third.conversation, limit=2, before=7)
    assert [message.seq for message in page] == [3, 4]


async def test_a_message_can_be_answered_again_without_a_new_one(store: Store) -> None:
    first = (await accept(store, Conversation(user_id="ann"), message_id="q1")).run
    old = first.answer_id
    await finish(store, first, answer(first))
    again = Run(conversation_id=first.conversation_id, user_id="ann", model="m@m", message_id="again", input_id="q1")
    accepted = await store.runs.accept(
        Acceptance(run=again, message=None, on_busy=OnBusy.REJECT, lease=lease(), go_on_from=Place(1, "q1"))
    )
    assert (accepted.message, accepted.run.status, accepted.run.input_id) == (None, RunStatus.RUNNING, "q1")
    await finish(store, accepted.run, answer(accepted.run, "no"))
    assert await contents(store, first.conversation_id) == [(1, "user", "hi"), (3, "assistant", "no")]
    siblings = await store.messages.get_many(first.conversation_id, [old, accepted.run.answer_id])
    assert {message.parent_id for message in siblings} == {"q1"}
    kept = await store.runs.get(accepted.run.id, "ann")
    assert kept is not None
    assert kept.user_message_id == "q1"


async def test_a_busy_conversation_takes_no_branch(store: Store) -> None:
    first = (await accept(store, Conversation(user_id="ann"), message_id="q1")).run
    with pytest.raises(ConversationBusy):
        await accept(store, first.conversation_id, on_busy=OnBusy.REJECT, go_on_from=Place(0, None))
    with pytest.raises(ConversationBusy):
        await store.conversations.move(first.conversation_id, "ann", Place(0, None))
    assert await store.conversations.move(first.conversation_id, "eve", Place(0, None)) is None
    assert [seq for seq, _, _ in await contents(store, first.conversation_id)] == [1]


async def test_a_run_that_waits_belongs_to_nobody_until_it_is_taken(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    run.status, run.client_tools = RunStatus.WAITING, ["draw"]
    run.approvals = {"c": {"approved": False, "reason": "no"}}
    await store.runs.commit(Step(run=run, owner="one", messages=[answer(run)]))
    assert await store.runs.claim(lease("two"), now=utc_now() + timedelta(days=30)) == []
    with pytest.raises(LeaseLost):
        await store.runs.commit(Step(run=run, owner="one"))
    with pytest.raises(ConversationBusy):
        await accept(store, run.conversation_id, on_busy=OnBusy.REJECT)
    assert await store.runs.take(run.id, "eve", lease("two")) is None
    taken = await store.runs.take(run.id, "ann", lease("two"))
    assert taken is not None
    assert (taken.run.status, taken.run.client_tools) == (RunStatus.RUNNING, ["draw"])
    assert taken.run.approvals == {"c": {"approved": False, "reason": "no"}}
    assert taken.conversation.active_run_id == run.id
    assert await store.runs.take(run.id, "ann", lease("three")) is None
    await finish(store, taken.run, owner="two")


async def test_all_conversations_are_listed_in_order_of_their_ids(store: Store) -> None:
    made = [await store.conversations.create(Conversation(user_id=user)) for user in ("ann", "eve", "ann")]
    expected = sorted((conversation.id, conversation.user_id) for conversation in made)
    first = await store.conversations.ids(limit=2)
    assert [*first, *await store.conversations.ids(limit=2, after=first[-1][0])] == expected


async def test_a_message_that_comes_between_two_turns_waits_and_begins_nobody_elses_run(store: Store) -> None:
    first = (await accept(store, Conversation(user_id="ann"))).run
    second = (await accept(store, first.conversation_id, message_id="second")).run
    assert await finish(store, first)
    third = await accept(store, first.conversation_id, message_id="third")
    assert (third.run.message_id, third.run.status) == ("third", RunStatus.QUEUED)
    promoted = await store.runs.promote(first.conversation_id, lease())
    assert promoted is not None
    assert promoted.run.id == second.id


async def test_what_this_process_drives_is_not_claimed_by_itself(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"))).run
    later = utc_now() + timedelta(hours=1)
    assert await store.runs.claim(lease(), now=later, driven=[run.conversation_id]) == []
    await finish(store, run, answer(run))
    assert await contents(store, run.conversation_id) == [(1, "user", "hi"), (2, "assistant", "yes")]


async def test_the_runs_that_answer_messages_are_found_by_them(store: Store) -> None:
    first = (await accept(store, Conversation(user_id="ann"), message_id="q1")).run
    await finish(store, first, answer(first))
    first.error = None
    second = (await accept(store, first.conversation_id, message_id="q2")).run
    second.status, second.ended_at = RunStatus.FAILED, utc_now()
    second.error = {"code": "internal", "message": "✗", "retryable": True}
    await store.runs.commit(Step(run=second, owner="one"))
    again = Run(
        conversation_id=first.conversation_id,
        user_id="ann",
        model="m@m",
        message_id="again",
        input_id="q1",
        created_at=first.created_at + timedelta(seconds=1),
    )
    await store.runs.accept(
        Acceptance(run=again, message=None, on_busy=OnBusy.REJECT, lease=lease(), go_on_from=Place(1, "q1"))
    )
    other = (await accept(store, Conversation(user_id="ann"), message_id="q3")).run

    found = await store.runs.answering(first.conversation_id, ["q1", "q2", "q3", "again", "nothing"])
    assert {state.id for state in found} == {first.id, second.id, again.id}
    assert [state.id for state in found if state.message_id == "q1"] == [first.id, again.id]
    by_id = {state.id: state for state in found}
    assert by_id[second.id] == second.state
    assert by_id[first.id].last_message_id == first.last_message_id
    assert by_id[again.id].status is RunStatus.RUNNING
    assert await store.runs.answering(other.conversation_id, ["q1"]) == []
    assert await store.runs.answering(other.conversation_id, []) == []


async def break_run(store: Store, run_id: str) -> None:
    """Make what is stored of a run unreadable."""
    if isinstance(store, MemoryStore):
        del store.all_runs[run_id]
    elif isinstance(store, MongoStore):
        await store.collections.runs.update_one({"_id": run_id}, {"$set": {"outline": "{"}})
    else:
        assert isinstance(store, SqliteStore)
        query = "UPDATE runs SET outline = '{' WHERE id = ?"
        await store._database.write(lambda connection: connection.execute(query, (run_id,)))


@pytest.mark.parametrize("broken_in_queue", [False, True])
async def test_a_broken_conversation_is_skipped_and_counted(store: Store, broken_in_queue: bool) -> None:
    async def one_more() -> Run:
        run = (await accept(store, Conversation(user_id="ann"), held=lease("dead", -1))).run
        if not broken_in_queue:
            return run
        queued = (await accept(store, run.conversation_id)).run
        await finish(store, run, owner="dead")
        return queued

    before, broken, after = await one_more(), await one_more(), await one_more()
    await break_run(store, broken.id)
    counted = SKIPPED._value.get()
    claimed = await store.runs.claim(lease("new"), now=utc_now())
    assert {accepted.run.id for accepted in claimed} == {before.id, after.id}
    assert SKIPPED._value.get() == counted + 1
    for accepted in claimed:
        await finish(store, accepted.run, answer(accepted.run), owner="new")


async def test_a_run_that_its_own_process_gave_up_is_claimed_when_its_lease_has_expired(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"), held=lease("one", 30))).run
    assert await store.runs.claim(lease("one"), now=utc_now()) == []
    later = utc_now() + timedelta(minutes=1)
    assert await store.runs.claim(lease("one"), now=later, driven=[run.conversation_id]) == []
    (claimed,) = await store.runs.claim(lease("one"), now=later)
    assert (claimed.run.id, claimed.resumes) == (run.id, True)


async def test_message_ids_count_in_their_conversation(store: Store) -> None:
    first = (await accept(store, Conversation(user_id="ann"), message_id="m1")).run
    other = await store.conversations.create(Conversation(user_id="ann"))
    second = await accept(store, other.id, message_id="m1", content="something else")
    assert (second.is_new, second.run.conversation_id) == (True, other.id)
    assert second.run.id != first.id
    assert await contents(store, other.id) == [(1, "user", "something else")]
    assert await contents(store, first.conversation_id) == [(1, "user", "hi")]
    assert (await accept(store, other.id, message_id="m1", content="something else")).run.id == second.run.id


@pytest.mark.parametrize("state", ["running", "ended", "queued"])
async def test_other_content_under_a_known_id_is_a_conflict(store: Store, state: str) -> None:
    first = (await accept(store, Conversation(user_id="ann"), message_id="m1")).run
    known = first
    if state == "queued":
        known = (await accept(store, first.conversation_id, message_id="m2")).run
    if state == "ended":
        await finish(store, first, answer(first))
    before = await contents(store, first.conversation_id)
    with pytest.raises(MessageConflict):
        await accept(store, first.conversation_id, message_id=known.message_id, content="ho")
    again = await accept(
        store, first.conversation_id, message_id=known.message_id, content=[{"type": "text", "text": "hi"}]
    )
    assert (again.is_new, again.run.id) == (False, known.id)
    assert await contents(store, first.conversation_id) == before


async def test_without_a_conversation_an_id_means_the_one_that_has_it(store: Store) -> None:
    made = await store.conversations.create(Conversation(user_id="ann"))
    first = (await accept(store, made.id, message_id="m1")).run
    again = await accept(store, Conversation(user_id="ann"), message_id="m1")
    assert (again.is_new, again.run.id) == (False, first.id)
    with pytest.raises(MessageConflict):
        await accept(store, Conversation(user_id="ann"), message_id="m1", content="ho")
    other = await store.conversations.create(Conversation(user_id="ann"))
    await accept(store, other.id, message_id="m1")
    with pytest.raises(MessageConflict):
        await accept(store, Conversation(user_id="ann"), message_id="m1")
    assert len((await store.conversations.list("ann", limit=9)).items) == 2


async def test_a_conversation_that_exists_is_not_made_again(store: Store) -> None:
    first = (await accept(store, Conversation(id="c", user_id="ann"), anywhere=False)).run
    second = await accept(store, Conversation(id="c", user_id="ann"), anywhere=False)
    assert (second.run.conversation_id, second.run.status) == ("c", RunStatus.QUEUED)
    await finish(store, first, answer(first))
    with pytest.raises(NotFound):
        await accept(store, Conversation(id="c", user_id="bob"), user="bob", anywhere=False)


@pytest.mark.parametrize("is_named", [True, False])
async def test_one_of_many_messages_at_once_is_accepted(store: Store, is_named: bool) -> None:
    made = Conversation(user_id="ann")
    if is_named:
        await store.conversations.create(made)

    async def send(content: str) -> Accepted | MessageConflict:
        try:
            return await accept(
                store,
                made.id if is_named else made.model_copy(),
                message_id="m1",
                content=content,
                anywhere=not is_named,
            )
        except MessageConflict as conflict:
            return conflict

    outcomes = await asyncio.gather(*(send(content) for content in ("a", "b") * 4))
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(accepted) == 4
    assert len({outcome.run.id for outcome in accepted}) == 1
    assert sum(outcome.is_new for outcome in accepted) == 1
    await store.runs.promote(made.id, lease())
    [stored] = await store.messages.get_by_conversation_id(made.id)
    assert stored.text == "ab"[outcomes.index(accepted[0]) % 2]
    assert len((await store.conversations.list("ann", limit=9)).items) == 1


async def test_a_conversation_keeps_the_model_that_is_named(store: Store) -> None:
    first = await accept(store, Conversation(user_id="ann", model="a@b"))
    assert first.conversation.model == "a@b"
    queued = await accept(store, first.run.conversation_id, keep_model=True)
    assert queued.run.status is RunStatus.QUEUED
    kept = await store.conversations.get(first.run.conversation_id, "ann")
    assert kept is not None
    assert kept.model == "demo@offline"
    await store.conversations.update(kept.id, "ann", {"model": None})
    await finish(store, first.run, answer(first.run))
    promoted = await store.runs.promote(kept.id, lease())
    assert promoted is not None
    await finish(store, promoted.run, answer(promoted.run))
    third = await accept(store, kept.id, keep_model=True, on_busy=OnBusy.REJECT, go_on_from=Place(0, None))
    assert third.conversation.model == "demo@offline"
    kept = await store.conversations.get(kept.id, "ann")
    assert kept is not None
    assert kept.model == "demo@offline"


async def test_takeovers_are_counted_until_a_step_is_stored(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"), held=lease("p0", -1))).run
    for number in range(1, 4):
        [claimed] = await store.runs.claim(lease(f"p{number}", -1), now=utc_now())
        assert (claimed.run.id, claimed.run.takeovers) == (run.id, number)
        await store.runs.commit(Step(run=claimed.run, owner=f"p{number}"))
    [claimed] = await store.runs.claim(lease("p4", -1), now=utc_now())
    assert claimed.run.takeovers == 4
    claimed.run.takeovers = 0
    await store.runs.commit(Step(run=claimed.run, owner="p4", messages=[answer(claimed.run)]))
    [claimed] = await store.runs.claim(lease("p5"), now=utc_now())
    assert claimed.run.takeovers == 1
    await finish(store, claimed.run, owner="p5")


async def test_a_turn_keeps_its_skill_to_its_end(store: Store) -> None:
    run = (await accept(store, Conversation(user_id="ann"), skill="painting")).run
    queued = (await accept(store, run.conversation_id, skill="drawing")).run
    run.status = RunStatus.WAITING
    await store.runs.commit(Step(run=run, owner="one", messages=[answer(run)]))
    taken = await store.runs.take(run.id, "ann", lease("two", -1))
    assert taken is not None
    assert taken.run.request["skill"] == "painting"
    [claimed] = await store.runs.claim(lease("three"), now=utc_now())
    assert claimed.run.request["skill"] == "painting"
    await finish(store, claimed.run, owner="three")
    promoted = await store.runs.promote(run.conversation_id, lease("one", -1))
    assert promoted is not None
    assert promoted.message is not None
    assert promoted.message.metadata == {"skill": "drawing"}
    assert (promoted.run.id, promoted.run.request["skill"]) == (queued.id, "drawing")
    [again] = await store.runs.claim(lease("four"), now=utc_now())
    assert again.run.request["skill"] == "drawing"
    await finish(store, again.run, owner="four")
    kept = await store.runs.get(queued.id, "ann")
    assert kept is not None
    assert kept.request.get("skill") == "drawing"
    assert "content" not in kept.request
